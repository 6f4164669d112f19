"""Memory-mapped arrays that are larger than memory should become.

The system keeps every part of a mapped file that was read, and up to a megabyte around it, in the memory of
the process: some thousand places here and there, and it is the whole file.
"""

import mmap
from collections.abc import Iterator

import numpy as np

SMALL = 128 << 20  # bytes; smaller arrays stay in memory, which is faster
ROWS_AT_ONCE = 256


def let_go(*arrays: np.ndarray) -> None:
    """Take large memory-mapped arrays out of this process's memory; what is used again is read again.

    Arrays that are small, or no files, stay as they are.
    """
    for array in arrays:
        if array.nbytes < SMALL:
            continue
        owner: object = array
        while isinstance(owner, np.ndarray):
            owner = owner.base
        if isinstance(owner, mmap.mmap):
            owner.madvise(mmap.MADV_DONTNEED)


def slices(array: np.ndarray, number: int) -> Iterator[slice]:
    """`number` random places of an array, some at a time if it is large; what was read of it is let go."""
    size = number if array.nbytes < SMALL or number <= ROWS_AT_ONCE else ROWS_AT_ONCE
    for start in range(0, number, max(size, 1)):
        yield slice(start, start + size)
        if size < number:
            let_go(array)


def taken(array: np.ndarray, at: np.ndarray) -> np.ndarray:
    """`array[at]`, `slices` of `at` at a time."""
    values = np.empty(at.shape, array.dtype)
    for rows in slices(array, len(at)):
        values[rows] = array[at[rows]]
    return values

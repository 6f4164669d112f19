"""Memory-mapped arrays that are larger than memory should become.

The system keeps every part of a mapped file that was read, and up to a megabyte around it, in the memory of
the process: some thousand places here and there, and it is the whole file.
"""

import mmap

import numpy as np

SMALL = 64 << 20  # bytes; what is smaller may stay
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


def taken(array: np.ndarray, at: np.ndarray) -> np.ndarray:
    """`array[at]`; of a large memory-mapped array a few rows of `at` at a time, letting go in between."""
    if array.nbytes < SMALL or len(at) <= ROWS_AT_ONCE:
        return array[at]
    values = np.empty(at.shape, array.dtype)
    for start in range(0, len(at), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        values[rows] = array[at[rows]]
        let_go(array)
    return values

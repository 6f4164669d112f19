"""Bounds the memory used by large memory-mapped arrays.

The system keeps every part of a mapped file that was read, and up to a megabyte around it, in the process's
memory: after a few thousand random reads, the whole file is resident.
"""

import mmap
from collections.abc import Iterator

import numpy as np

SMALL = 128 << 20  # bytes; smaller arrays stay in memory, which is faster
ROWS_AT_ONCE = 256


def let_go(*arrays: np.ndarray) -> None:
    """Drop large memory-mapped arrays from this process's memory; they are read again when needed.

    Small arrays, and arrays that are not files, are not affected.
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
    """Slices of `number` random accesses to an array; if it is large, a few at a time, dropped after each."""
    size = number if array.nbytes < SMALL or number <= ROWS_AT_ONCE else ROWS_AT_ONCE
    for start in range(0, number, max(size, 1)):
        yield slice(start, start + size)
        if size < number:
            let_go(array)


def taken(array: np.ndarray, at: np.ndarray) -> np.ndarray:
    """`array[at]`, read by `slices`."""
    values = np.empty(at.shape, array.dtype)
    for rows in slices(array, len(at)):
        values[rows] = array[at[rows]]
    return values

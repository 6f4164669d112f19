"""Memory-mapped arrays larger than memory should become."""

import mmap

import numpy as np

SMALL = 64 << 20  # bytes; what is smaller may stay


def let_go(*arrays: np.ndarray) -> None:
    """Take large memory-mapped arrays out of this process's memory; what is used again is read again.

    The system keeps what was read once, and around it, in the memory of the process, in the end the whole
    file. Arrays that are small, or no files, stay as they are.
    """
    for array in arrays:
        if array.nbytes < SMALL:
            continue
        owner: object = array
        while isinstance(owner, np.ndarray):
            owner = owner.base
        if isinstance(owner, mmap.mmap):
            owner.madvise(mmap.MADV_DONTNEED)

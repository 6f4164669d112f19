"""Child processes that end with their parent."""

import ctypes
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

_PR_SET_PDEATHSIG = 1
_bound: set[int] = set()  # pids of processes whose children die with them


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends for any reason. Linux only."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@contextmanager
def bound_children() -> Iterator[None]:
    """Processes forked inside the block die with this process."""
    _bound.add(os.getpid())
    try:
        yield
    finally:
        _bound.discard(os.getpid())


def _after_fork() -> None:
    if os.getppid() in _bound:
        die_with_parent()


os.register_at_fork(after_in_child=_after_fork)

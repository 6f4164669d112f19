"""Runs a nemo-bert command line, and strikes when it touches a checkpoint on the disk.

    python strike.py FAULT FIRST LAST COUNT_FILE words...

FAULT is `kill` (SIGKILL), or the name of an error of the system, such as ENOSPC or EIO, that the touches
from number FIRST to LAST meet. A touch is a file that is opened, renamed or removed, or a folder that is
made, below `checkpoints/`, as Python's audit events tell, or a flush to the disk. COUNT_FILE gets their
number at the end.
"""

import errno
import os
import signal
import sys
from typing import Any

_TOUCHES = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir"}

fault, first, last, count_file = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
num_touches = 0
is_armed = False  # not before the program is there, and no more when it is at its end


def strike(event: str, arguments: tuple[Any, ...]) -> None:
    if not (is_armed and event in _TOUCHES and isinstance(arguments[0], str | os.PathLike)):
        return
    path = os.fspath(arguments[0])
    reads = event == "open" and arguments[1] in ("r", "rb")
    if reads or "checkpoints/" not in path:
        return
    touch(path)


def touch(path: str) -> None:
    global num_touches
    num_touches += 1
    if not first <= num_touches <= last:
        return
    if fault == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    number = getattr(errno, fault)
    raise OSError(number, os.strerror(number), path)


def fsync(descriptor: int) -> None:
    """As the system's, which no audit event tells of."""
    path = os.readlink(f"/proc/self/fd/{descriptor}")
    if is_armed and "checkpoints" in path:
        touch(path)
    flush(descriptor)


sys.addaudithook(strike)
flush, os.fsync = os.fsync, fsync

from nemo.cli.main import main  # noqa: E402

is_armed = True
exit_code = main(sys.argv[5:])
is_armed = False
with open(count_file, "w") as file:
    file.write(str(num_touches))
sys.exit(exit_code)

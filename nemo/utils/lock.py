"""One run at a time in a folder."""

import fcntl
import json
import os
import socket
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType

from nemo.utils.errors import BusyError
from nemo.utils.files import gone_if_empty, make_folder, storage_errors

_held: set[int] = set()  # file descriptors of the locks that this process holds


def _let_go_in_child() -> None:
    """Close the files in a child, which may outlive this process: an open file keeps its lock."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_let_go_in_child)


class WorkFolderLock:
    """`with WorkFolderLock(folder):` locks the folder against all other runs.

    The kernel releases the lock when the process ends for any reason, so there are no stale locks. Forked
    children do not hold it. `<folder>/.lock` names the holder, for the error message only. On exit the file
    is removed, and the folder too if it was created here and is empty.

    Raises:
        BusyError: another process holds the lock.
        StorageError: the folder cannot be created or written to.
    """

    def __init__(self, folder: str | os.PathLike[str]):
        self.path = Path(folder) / ".lock"

    def __enter__(self) -> "WorkFolderLock":
        with storage_errors(self.path), ExitStack() as stack:
            stack.enter_context(gone_if_empty(self.path.parent))
            while not self._take():
                pass
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, _introduction(), 0)
            self._folder = stack.pop_all()
        _held.add(self._descriptor)
        return self

    def _take(self) -> bool:
        """Lock the file; False if its previous holder removed it meanwhile."""
        make_folder(self.path.parent)
        try:
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise self._busy() from None
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(self._descriptor), os.lstat(self.path)):
                return True
        os.close(self._descriptor)
        return False

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _held.discard(self._descriptor)
        with suppress(OSError):
            self.path.unlink()  # before the lock is released, so that another run's file is never deleted
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        os.close(self._descriptor)
        self._folder.close()

    def _busy(self) -> BusyError:
        """The error that names the holder of the lock; closes the file."""
        holder = os.pread(self._descriptor, 1000, 0).decode(errors="replace")
        os.close(self._descriptor)
        return BusyError(
            "another run is using this folder",
            where=self.path.parent,
            found=_describe(holder),
            fix="wait for it, stop it, or use another folder",
        )


def _introduction() -> bytes:
    started = time.strftime("%Y-%m-%d %H:%M:%S")
    who = {"pid": os.getpid(), "host": socket.gethostname(), "started": started}
    return json.dumps(who).encode()


def _describe(holder: str) -> str:
    try:
        who = json.loads(holder)
        return f"process {who['pid']} on {who['host']} since {who['started']}"
    except (ValueError, KeyError, TypeError):
        return "a process that has not identified itself yet"

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
from nemo.utils.files import gone_if_empty, storage_errors

_held: set[int] = set()  # descriptors of this process


def _let_go_in_child() -> None:
    """A lock is held as long as any process has the file open, and a child may outlive this one."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_let_go_in_child)


class WorkFolderLock:
    """`with WorkFolderLock(folder):` - excludes all other runs meanwhile.

    The kernel holds the lock and lets go when the process ends, however it ends; so there are no stale
    locks; a child that is forked meanwhile does not hold it. Who holds it stands in `<folder>/.lock`, only to
    be told to others. On leaving the file goes, and the folder if it was made here and is empty.

    Raises:
        BusyError: another process is in, on entering.
        StorageError: the folder cannot be made or written to.
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
        """Lock the file; False if it was gone by then, removed by who had it before."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            if self.path.parent.exists() and not self.path.parent.is_dir():
                raise
            return False  # the run before removed the empty folder while this one looked at it
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
            self.path.unlink()  # while it is held, so that another run's file is never deleted
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        os.close(self._descriptor)
        self._folder.close()

    def _busy(self) -> BusyError:
        """The holder; closes the file."""
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

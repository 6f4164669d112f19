"""Cleaning up after a run that fails at the start: its folder is left as it was."""

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from nemo.utils.errors import Preempted


class RestoreOnFailure:
    """Undoes a block's changes to a folder if the block fails.

    Use `with RestoreOnFailure(folder, made=["checkpoints"]) as before:`. After `before.begins()`, everything
    stays. A request to stop is not a failure. Only files with the given names are touched, as others may use
    the folder too.

    Args:
        folder: folder whose lock is held; it may be absent.
        made: glob patterns of files and folders that the block may create.
        appended: glob patterns of files that the block may append to.

    Attributes:
        has_begun: whether `begins` was called.
    """

    has_begun = False

    def __init__(self, folder: str | os.PathLike[str], made: Iterable[str], appended: Iterable[str] = ()):
        self.folder = Path(folder)
        self._names, self._appended = tuple(made), tuple(appended)

    def begins(self) -> None:
        """Keep all changes from now on."""
        self.has_begun = True

    def __enter__(self) -> "RestoreOnFailure":
        self._there = set(self._find(self._names))
        self._sizes = {path: path.lstat().st_size for path in self._find(self._appended)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.has_begun or not isinstance(error, Exception) or isinstance(error, Preempted):
            return
        for path in set(self._find(self._names)) - self._there:
            with suppress(OSError):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        for path in self._find(self._appended):
            with suppress(OSError):
                os.truncate(path, self._sizes[path]) if path in self._sizes else path.unlink()

    def _find(self, names: Iterable[str]) -> Iterator[Path]:
        return (path for name in names for path in self.folder.glob(name))

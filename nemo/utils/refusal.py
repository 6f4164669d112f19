"""A run that is refused at the start leaves its folder as it was."""

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from nemo.utils.errors import Preempted


class AsItWas:
    """`with AsItWas(folder, made=["checkpoints"]) as before:` - an error takes back what was made inside.

    Until `before.begins()`: from then on everything stays. A request to stop is no refusal. Nothing but what
    has these names is touched, as others may work in the folder, too.

    Args:
        folder: whose lock is held; it may be absent.
        made: names, as `Path.glob` takes them, of files and folders that may be made.
        appended: of files that may get more lines.

    Attributes:
        has_begun: was `begins` called?
    """

    has_begun = False

    def __init__(self, folder: str | os.PathLike[str], made: Iterable[str], appended: Iterable[str] = ()):
        self.folder = Path(folder)
        self._names, self._appended = tuple(made), tuple(appended)

    def begins(self) -> None:
        """What was made is worth keeping."""
        self.has_begun = True

    def __enter__(self) -> "AsItWas":
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

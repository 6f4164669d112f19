"""File names, and files that are complete or absent, even after a crash or a power cut."""

import errno
import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from nemo.utils.errors import DataError, StorageError


def common_folder(files: Sequence[str | os.PathLike[str]]) -> Path:
    """The innermost common folder."""
    return Path(os.path.commonpath([os.path.dirname(os.path.abspath(file)) for file in files]))


def names_of(files: Sequence[str | os.PathLike[str]]) -> list[str]:
    """Paths within the common folder, the same wherever that is mounted."""
    root = common_folder(files)
    return [Path(os.path.abspath(file)).relative_to(root).as_posix() for file in files]


@contextmanager
def gone_if_empty(folder: Path) -> Iterator[None]:
    """Make a folder, and those it lies in; a new one that is empty in the end goes again."""
    new = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        with suppress(OSError):  # the first that is not empty, or that another process removed
            for place in new:
                place.rmdir()


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says of a disk, a quota or a limit for files that is used up."""


def disk_full(where: Any, needed: int | None = None) -> StorageError:
    """The error of a file or folder for which there is no room.

    Args:
        needed: bytes.
    """
    folder = next(path for path in (Path(where), *Path(os.path.abspath(where)).parents) if path.is_dir())
    return StorageError(
        "disk full",
        where=where,
        found=f"{shutil.disk_usage(folder).free:,} bytes free (a quota or limit may allow less)",
        expected=None if needed is None else f"{needed:,} bytes",
        fix="make room",
    )


def refuse_link(path: Path) -> None:
    """Raise a DataError if an entry of a folder is a link: what it leads to may be anywhere."""
    if path.is_symlink():
        fix = f"copy the folder together with the targets of its links: cp -rL {path.parent} COPY"
        raise DataError("a link, not a file", where=path, found=f"-> {os.path.realpath(path)}", fix=fix)


def refuse_special(path: Path) -> None:
    """Raise a DataError if a path is no regular file: opening a pipe or a socket would wait for ever."""
    if not path.is_file():
        raise DataError("not a regular file", where=path)


GIT_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
LFS_ADVICE = "a Git LFS pointer, not the file itself", "fetch the file: git lfs pull"
_PAGE = (b"<!doctype html", b"<html")


def stand_in(path: Path) -> tuple[str, str] | None:
    """What a failed download left in a file's place, and how to mend it; None: nothing of the kind."""
    with open(path, "rb") as file:
        head = file.read(256)
    if head.startswith(GIT_LFS_POINTER):
        return LFS_ADVICE
    if head.lstrip().lower().startswith(_PAGE):
        return "a web page, not the file itself", "download the file again, by its direct address"
    return None


@contextmanager
def storage_errors(where: Any) -> Iterator[None]:
    """Turn what the operating system says of `where` (disk full, read-only) into a `StorageError`."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        if error.errno in FULL:
            raise disk_full(where) from error
        fixes = {PermissionError: "change its permissions", FileExistsError: "use another name"}
        raise StorageError(
            (error.strerror or str(error)).lower(),
            where=error.filename if isinstance(error, PermissionError) and error.filename else where,
            fix=fixes.get(type(error), "make room, or use a folder that can be written to"),
        ) from error


def sync(path: Path) -> None:
    """Return when a file's content, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def let_umask_decide(folder: Path) -> None:
    """Give the files in a folder the permissions of any new one: safetensors makes its files private.

    Raises:
        StorageError: it cannot be written to.
    """
    with storage_errors(folder):
        files = [path for path in folder.iterdir() if path.is_file() and not path.is_symlink()]
        _let_umask_decide(files, folder)


def _let_umask_decide(files: Iterable[Path], folder: Path) -> None:
    new = folder / f".{uuid4().hex}.tmp"  # the system alone knows the umask, and what else decides
    new.touch()
    mode = _mode(new)
    new.unlink()
    for path in files:
        if _mode(path) != mode:
            path.chmod(mode)


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@contextmanager
def replacing(path: Path, durable: bool = True) -> Iterator[Path]:
    """A hidden path to write to; what is there at the end of the block becomes the file at `path`.

    A reader, or a crash, meets the old content or the new one. Its permissions are those of any new file,
    whatever has written it.

    Args:
        durable: return when it is on the disk; False is faster, and a power cut may take the file.

    Raises:
        StorageError: it cannot be written.
    """
    aside = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    with storage_errors(path):
        try:
            yield aside
            _let_umask_decide([aside], path.parent)
            if durable:
                sync(aside)
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
        if durable:
            sync(path.parent)


def write_atomically(path: Path, content: bytes, durable: bool = True) -> None:
    """Replace the file at `path` by `content`, see `replacing`.

    Raises:
        StorageError: it cannot be written.
    """
    with replacing(path, durable) as aside:
        aside.write_bytes(content)

"""Paths, and atomic writes: a file is complete or absent, even after a crash or a power cut."""

import errno
import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import uuid4

from nemo.utils.errors import DataError, MissingFileError, StorageError
from nemo.utils.lookup import closest


def common_folder(files: Sequence[str | os.PathLike[str]]) -> Path:
    """The innermost common folder."""
    return Path(os.path.commonpath([os.path.dirname(os.path.abspath(file)) for file in files]))


def names_of(files: Sequence[str | os.PathLike[str]]) -> list[str]:
    """Paths relative to the common folder, which do not depend on where that is mounted."""
    root = common_folder(files)
    return [Path(os.path.abspath(file)).relative_to(root).as_posix() for file in files]


def make_folder(folder: Path) -> None:
    """Create a folder and its parents, even while another process keeps removing it.

    Raises:
        FileExistsError: a file or a link to nothing has this name.
    """
    while True:
        try:
            return folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            with suppress(FileNotFoundError):  # removed after `mkdir` found it
                if not stat.S_ISDIR(os.lstat(folder).st_mode):
                    raise


@contextmanager
def gone_if_empty(folder: Path) -> Iterator[None]:
    """Create a folder and its parents; on exit, remove those that are new and still empty."""
    new = [each for each in (folder, *folder.parents) if not each.exists()]
    make_folder(folder)
    try:
        yield
    finally:
        with suppress(OSError):  # a folder that is not empty, or that another process removed
            for each in new:
                each.rmdir()


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Error numbers of a full disk, an exceeded quota, or a file size limit."""


def disk_full(where: Any, needed: int | None = None) -> StorageError:
    """The error for a file or folder that does not fit on the disk.

    Args:
        needed: required bytes; None if unknown.
    """
    folder = next(path for path in (Path(where), *Path(os.path.abspath(where)).parents) if path.is_dir())
    return StorageError(
        "disk full",
        where=where,
        found=f"{shutil.disk_usage(folder).free:,} bytes free (a quota or limit may allow less)",
        expected=None if needed is None else f"{needed:,} bytes",
        fix="free some space",
    )


MOST_NAMES = 1000  # of a folder, among which one that comes close is looked for


def missing(
    path: str | os.PathLike[str], expected: str, problem: str = "no such file or folder"
) -> MissingFileError:
    """The error of a path that leads nowhere: how far it leads, and the name there that comes closest.

    Args:
        expected: what should have been there.
    """
    path, whole = Path(path), Path(os.path.abspath(path))
    folder = next(parent for parent in whole.parents if parent.is_dir())
    if path.is_symlink():
        found = f"a link to {os.readlink(path)}, which does not exist"
    elif folder != whole.parent:
        found = f"no folder {folder / whole.relative_to(folder).parts[0]}"
    else:
        found = f"nothing of this name in {folder}"
    near = None
    if folder == whole.parent and not path.is_symlink():
        with suppress(OSError), os.scandir(folder) as entries:
            near = closest(path.name, [entry.name for entry in islice(entries, MOST_NAMES)])
    fix = f"did you mean {path.with_name(near)}?" if near else ""
    return MissingFileError(problem, where=path, found=found, expected=expected, fix=fix)


def refuse_link(path: Path) -> None:
    """Raise a DataError if a folder's entry is a link, as its target may lie anywhere."""
    if path.is_symlink():
        fix = f"copy the folder and resolve its links: cp -rL {path.parent} COPY"
        raise DataError("a link, not a file", where=path, found=f"-> {os.path.realpath(path)}", fix=fix)


def refuse_special(path: Path) -> None:
    """Raise a DataError if a path is not a regular file: opening a pipe or a socket could block forever."""
    if not path.is_file():
        raise DataError("not a regular file", where=path)


GIT_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
LFS_ADVICE = "a Git LFS pointer, not the file itself", "fetch the file: git lfs pull"
_PAGE = (b"<!doctype html", b"<html")


def stand_in(path: Path) -> tuple[str, str] | None:
    """What a failed download left in place of a file, and the fix; None if the file looks genuine."""
    with open(path, "rb") as file:
        head = file.read(256)
    if head.startswith(GIT_LFS_POINTER):
        return LFS_ADVICE
    if head.lstrip().lower().startswith(_PAGE):
        return "a web page, not the file itself", "download the file again, by its direct address"
    return None


@contextmanager
def storage_errors(where: Any) -> Iterator[None]:
    """Turn the system's errors about `where` (disk full, read-only) into a StorageError."""
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
            fix=fixes.get(type(error), "free some space, or use a writable folder"),
        ) from error


def sync(path: Path) -> None:
    """Flush a file's content, or a folder's entries, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def let_umask_decide(folder: Path) -> None:
    """Give the files in a folder default permissions: safetensors creates private files.

    Raises:
        StorageError: the folder cannot be written to.
    """
    with storage_errors(folder):
        files = [path for path in folder.iterdir() if path.is_file() and not path.is_symlink()]
        _let_umask_decide(files, folder)


def _let_umask_decide(files: Iterable[Path], folder: Path) -> None:
    new = folder / f".{uuid4().hex}.tmp"  # a new file shows the umask, and ACLs if there are any
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
    """Replace the file at `path` atomically: write to the temporary path that the block receives.

    Readers see the old content or the new one, also after a crash. The file gets default permissions.

    Args:
        durable: return when the file is on disk; False is faster, but a power cut may lose the file.

    Raises:
        StorageError: the file cannot be written.
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
    """Replace the file at `path` with `content`; see `replacing`.

    Raises:
        StorageError: the file cannot be written.
    """
    with replacing(path, durable) as aside:
        aside.write_bytes(content)

"""The user's cache: data that runs share and that can be rebuilt."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from nemo.utils.errors import StorageError
from nemo.utils.files import storage_errors


@dataclass(frozen=True)
class CacheEntry:
    """A file or folder in the cache.

    Attributes:
        path: its path.
        num_bytes: its size.
        used: when it was last changed or read, according to the file system; seconds since 1970.
    """

    path: Path
    num_bytes: int
    used: float


def user_cache() -> Path:
    """The folder `nemo-bert` in `$XDG_CACHE_HOME` or `~/.cache`; it may be absent.

    Raises:
        StorageError: there is no home folder.
    """
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nemo-bert"
    except RuntimeError:
        raise StorageError("no home folder to put the cache in", fix="set HOME or XDG_CACHE_HOME") from None


def cache_entries() -> list[CacheEntry]:
    """The entries of the cache, largest first."""
    root = user_cache()
    entries = []
    with storage_errors(root):
        for path in root.iterdir() if root.is_dir() else ():
            inside = [path, *path.rglob("*")] if path.is_dir() and not path.is_symlink() else [path]
            stats = [each.lstat() for each in inside]
            size = sum(stat.st_size for stat in stats)
            entries.append(CacheEntry(path, size, max(max(stat.st_atime, stat.st_mtime) for stat in stats)))
    return sorted(entries, key=lambda entry: (-entry.num_bytes, entry.path))


def clear_cache() -> int:
    """Delete everything in the cache and return its size in bytes; open files stay usable.

    Raises:
        StorageError: an entry cannot be deleted.
    """
    entries = cache_entries()
    for entry in entries:
        with storage_errors(entry.path):
            is_folder = entry.path.is_dir() and not entry.path.is_symlink()
            shutil.rmtree(entry.path) if is_folder else entry.path.unlink()
    return sum(entry.num_bytes for entry in entries)

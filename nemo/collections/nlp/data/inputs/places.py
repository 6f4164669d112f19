"""Opens local files, and addresses that fsspec supports (http, s3, gs, memory, ...)."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from nemo.utils.errors import DataError, MissingFileError, NemoError, UsageError

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
# Scheme of an address -> the package that fsspec needs for it.
_PACKAGES = {"http": "nemo-bert[remote]", "https": "nemo-bert[remote]", "s3": "s3fs", "gs": "gcsfs"}


def is_url(path: Any) -> bool:
    """Whether this is an address for fsspec, not a local path."""
    return bool(_URL.match(str(path))) and not str(path).startswith("file://")


def shown(path: Any) -> str:
    """A path or address that is safe to log: without user, password and query."""
    if not is_url(path):
        return str(path)
    parts = urlsplit(str(path))
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def filesystem_of(url: str) -> tuple[Any, str]:
    """fsspec's filesystem for an address, and the path in it.

    Raises:
        UsageError: this kind of address is unknown, or the package for it is not installed.
    """
    import fsspec

    scheme = url.partition("://")[0]
    with reading(url):
        try:
            return fsspec.core.url_to_fs(url)
        except ImportError as error:
            package = _PACKAGES.get(scheme)
            raise UsageError(
                "the package for this kind of address is not installed",
                where=shown(url),
                found=" ".join(str(error).split()),
                fix=f"pip install {package}" if package else "",
            ) from None
        except ValueError as error:
            found = " ".join(str(error).split())
            raise UsageError("unsupported address", where=shown(url), found=found) from None


@contextmanager
def reading(path: Any) -> Iterator[None]:
    """Turn a disk or network error into a one-line error that names the file.

    Raises:
        MissingFileError: the file does not exist.
        DataError: anything else.
    """
    try:
        yield
    except NemoError:
        raise
    except FileNotFoundError:
        problem = (
            "no such file, or its server cannot be reached" if is_url(path) else "no such file or folder"
        )
        raise MissingFileError(problem, where=shown(path)) from None
    except Exception as error:
        is_of_network = is_url(path) and type(error).__module__.split(".")[0] not in ("builtins", "nemo")
        if not (isinstance(error, OSError) or is_of_network):
            raise
        # The message of a network exception may contain the address with its password.
        text = type(error).__name__ if is_url(path) else str(error)
        found = getattr(error, "strerror", None) or text
        raise DataError("cannot be read", where=shown(path), found=found) from error


def open_at(path: str, start: int = 0) -> BinaryIO:
    """Open a file's stored bytes from byte `start` on, for sequential reading."""
    if not is_url(path):
        local = io.BufferedReader(io.FileIO(path))
        local.seek(start)
        return local
    filesystem, inner = filesystem_of(path)
    if path.startswith(("http://", "https://")):
        # One stream: separate requests for each block are slow, and not every server supports them.
        headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={start}-"} if start else {})}
        stream = filesystem.open(inner, "rb", block_size=0, headers=headers)
        return _HttpFile.opened(stream, start)
    file = filesystem.open(inner, "rb")
    file.seek(start)
    return file


class _HttpFile(io.RawIOBase):
    """A stream from a web server that knows its position in the file."""

    def __init__(self, stream: Any, position: int):
        self.stream, self.position = stream, position

    @classmethod
    def opened(cls, stream: Any, start: int) -> BinaryIO:
        """The stream, positioned at byte `start` even if the server sends the file from its beginning."""
        begins_at = start if stream.r.status == 206 else 0
        file = io.BufferedReader(cls(stream, begins_at), 1 << 16)
        while begins_at < start and (data := file.read(min(start - begins_at, 1 << 20))):
            begins_at += len(data)
        return file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self.stream.read(len(buffer))
        buffer[: len(data)] = data
        self.position += len(data)
        return len(data)

    def tell(self) -> int:
        return self.position

    def close(self) -> None:
        self.stream.close()
        super().close()


def place_of(path: Any) -> Path | str:
    """The local path or the address that `path` stands for."""
    return str(path) if is_url(path) else local_path(path)


def local_path(path: Any) -> Path:
    """The local path that `path`, or a file:// address, stands for."""
    text = str(path)
    return Path(text.removeprefix("file://") if text.startswith("file://") else text)

"""Reads compressed files: gzip, bz2, xz and zstd, all in the same way."""

import bz2
import lzma
import os
import re
import zlib
from typing import BinaryIO, Protocol

import zstandard

from nemo.collections.nlp.data.inputs.lines import Readable
from nemo.collections.nlp.data.inputs.places import shown
from nemo.utils.errors import DataError
from nemo.utils.logging import LogMode, logging

# First bytes of a compressed file, and the suffix of its name.
COMPRESSIONS = {
    "gzip": (b"\x1f\x8b", (".gz", ".gzip")),
    "bz2": (b"BZh", (".bz2",)),
    "xz": (b"\xfd7zXZ\0", (".xz",)),
    "zstd": (b"\x28\xb5\x2f\xfd", (".zst", ".zstd")),
}
_READ_BYTES = 1 << 16
_ZSTD_BYTES = 1 << 10  # compressed bytes per call; each may hold many blocks of up to 128 KiB
_LONGEST_MAGIC = 6
_ZSTD_SKIPPABLE = re.compile(rb"[\x50-\x5f]\x2a\x4d\x18")  # frames without content


def compression_of(path: str, head: bytes) -> str | None:
    """The file's compression, a name in `COMPRESSIONS`, from its first bytes; None if it has none.

    Raises:
        DataError: the file's name and its bytes disagree.
    """
    for name, (magic, _) in COMPRESSIONS.items():
        if head.startswith(magic):
            return name
    for name, (_, endings) in COMPRESSIONS.items():
        if head and shown(path).lower().endswith(endings):
            fix = "check whether the file is damaged or misnamed"
            raise DataError(f"has the suffix of a {name} file, but is not one", where=shown(path), fix=fix)
    return None


def without_compression(name: str) -> str:
    """A file's name without the suffix of its compression."""
    endings = tuple(ending for _, all_of_one in COMPRESSIONS.values() for ending in all_of_one)
    return os.path.splitext(name)[0] if name.lower().endswith(endings) else name


def decompressed(stored: BinaryIO, compression: str | None, name: str) -> Readable:
    """The content of a file, read sequentially in bounded memory, whatever the compression ratio.

    Args:
        compression: a name in `COMPRESSIONS`; None if the file is not compressed.
        name: name of the file, for messages.
    """
    return stored if compression is None else _Decompressed(stored, compression, name)


class _Decompressor(Protocol):
    """Decompresses one stream, member or frame; the interface of the standard library's bz2 and lzma."""

    @property
    def eof(self) -> bool:
        """Whether the end of the stream was reached."""

    @property
    def needs_input(self) -> bool:
        """Whether it needs more compressed data to return more content."""

    @property
    def unused_data(self) -> bytes:
        """The data after the end of the stream."""

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """Take more data, and return content, about `max_length` bytes at most."""


class _Decompressed:
    """The content of all streams of a file. Zeros between streams are padding; other data is logged."""

    def __init__(self, stored: BinaryIO, compression: str, name: str):
        self.stored, self.compression, self.name = stored, compression, name
        self._stream = _new_stream(compression)
        self._data = b""  # compressed data not yet consumed
        self._is_over = False

    def read(self, size: int, /) -> bytes:
        """The next bytes, about `size` at most; empty at the end.

        Raises:
            DataError: the file is damaged or truncated.
        """
        while not self._is_over:
            if self._stream.eof:
                self._begin_next()
                continue
            is_hungry = self._stream.needs_input
            data, self._data = self._data or (self.stored.read(_READ_BYTES) if is_hungry else b""), b""
            try:
                content = self._stream.decompress(data, size)
            except (lzma.LZMAError, zlib.error, zstandard.ZstdError, OSError) as error:
                raise self._damaged(error) from error
            if is_hungry and not data and not content and not self._stream.eof:
                raise self._damaged("the compressed data is truncated")
            if content:
                return content
        return b""

    def _begin_next(self) -> None:
        """Begin the next stream after the finished one, if there is one."""
        data = self._stream.unused_data.lstrip(b"\0")
        while len(data) < _LONGEST_MAGIC and (more := self.stored.read(_READ_BYTES)):
            data = (data + more).lstrip(b"\0")
        magic, _ = COMPRESSIONS[self.compression]
        if data.startswith(magic) or (self.compression == "zstd" and _ZSTD_SKIPPABLE.match(data)):
            self._stream, self._data = _new_stream(self.compression), data
            return
        self._is_over = True
        if data:
            logging.warning(
                f"{self.name}: data after byte {self.stored.tell() - len(data)} is not {self.compression} "
                "and is ignored; is the file complete?",
                mode=LogMode.ONCE,
            )

    def _damaged(self, found: object) -> DataError:
        return DataError("damaged: it cannot be decompressed", where=self.name, found=found)


def _new_stream(compression: str) -> _Decompressor:
    if compression == "gzip":
        return _Gzip()
    if compression == "bz2":
        return bz2.BZ2Decompressor()
    return lzma.LZMADecompressor(lzma.FORMAT_XZ) if compression == "xz" else _Zstd()


class _Gzip:
    def __init__(self) -> None:
        self._stream = zlib.decompressobj(zlib.MAX_WBITS | 16)

    @property
    def eof(self) -> bool:
        return self._stream.eof

    @property
    def needs_input(self) -> bool:
        return not self._stream.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._stream.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._stream.decompress(self._stream.unconsumed_tail + data, max_length)


class _Zstd:
    """Takes a little data at a time; the library has no other limit on the content it returns."""

    def __init__(self) -> None:
        self._stream = zstandard.ZstdDecompressor().decompressobj()
        self._data = memoryview(b"")

    @property
    def eof(self) -> bool:
        return self._stream.eof

    @property
    def needs_input(self) -> bool:
        return not self._data

    @property
    def unused_data(self) -> bytes:
        return self._stream.unused_data + bytes(self._data)

    def decompress(self, data: bytes, max_length: int) -> bytes:
        if data:
            self._data = memoryview(data)
        some, self._data = self._data[:_ZSTD_BYTES], self._data[_ZSTD_BYTES:]
        return self._stream.decompress(some)

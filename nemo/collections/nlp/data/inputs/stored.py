"""Reads one file of a corpus from any byte on, compressed or not."""

from collections.abc import Iterator

from nemo.collections.nlp.data.inputs.compression import decompressed
from nemo.collections.nlp.data.inputs.lines import (
    READ_BYTES,
    CarriageReturns,
    LineBlock,
    LongLineError,
    Readable,
    line_blocks_of,
)
from nemo.collections.nlp.data.inputs.places import open_at, shown
from nemo.utils.errors import DataError


class StoredFile:
    """A file for sequential reading that tracks its position and can name a line in messages.

    Args:
        path: local path, or an address.
        compression: a name in `places.COMPRESSIONS`, or None.
        ends_in_cr: whether lines end in CR alone.

    Attributes:
        bytes_read: number of stored bytes read so far.
    """

    def __init__(self, path: str, compression: str | None = None, ends_in_cr: bool = False):
        self.path, self.compression, self.ends_in_cr = path, compression, ends_in_cr
        self.bytes_read = 0

    def __str__(self) -> str:
        return shown(self.path)

    def blocks(
        self, start: int, stop: int | None, max_line_bytes: int, cut_long_lines: bool
    ) -> Iterator[LineBlock]:
        """The lines that begin in bytes `start` to `stop`, and then the rest; see `lines.line_blocks_of`.

        Raises:
            DataError: a line is too long and must not be cut, or the file has become shorter.
        """
        first = max(start - 1, 0)
        with open_at(self.path, first) as stored:
            content = self._lines_of(decompressed(stored, self.compression, str(self)))
            try:
                for block in line_blocks_of(content, start, stop, max_line_bytes, cut_long_lines):
                    self.bytes_read = stored.tell() - first
                    yield block
            except LongLineError as problem:
                raise DataError(
                    "a line is too long for a record",
                    where=f"{self}:{self.line_number(start, problem.num_lines_before)}",
                    found=f"more than {max_line_bytes >> 20} MiB",
                ) from None
            if stop is not None and (end := stored.tell()) < stop:
                found = f"{end} bytes"
                raise DataError("the text was truncated while it was being read", where=self, found=found)

    def line_number(self, start: int, num_ends: int) -> int:
        """The number of the line that begins `num_ends` line ends after byte `start`."""
        number = 1 + num_ends
        with open_at(self.path) as stored:
            file = self._lines_of(stored)
            while start > 0 and (data := file.read(min(start, READ_BYTES))):
                number += data.count(b"\n", 0, start)
                start -= len(data)
        return number

    def _lines_of(self, content: Readable) -> Readable:
        return CarriageReturns(content) if self.ends_in_cr else content

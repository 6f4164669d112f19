"""Reads a file in blocks of whole lines, in bounded memory.

LF and CR LF end a line (callers strip the CR); a lone CR does only in files whose lines all end that way.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

READ_BYTES = 1 << 20
MANY_ENDS = 10  # lone CRs; fewer may be slips in a text with other line ends


class Readable(Protocol):
    """A file, or a decompressor of one."""

    def read(self, size: int, /) -> bytes:
        """The next bytes, at most `size`; empty at the end."""


class CarriageReturns:
    """A file whose lines end in CR, read as if they ended in LF; byte offsets do not change.

    Args:
        file: the file; it may also contain CR LF, as files of both kinds may have been joined.
    """

    def __init__(self, file: Readable):
        self.file = file

    def read(self, size: int, /) -> bytes:
        """The next bytes, at most `size` or a few more; empty at the end."""
        data = self.file.read(size)
        while data.endswith(b"\r") and (more := self.file.read(1)):  # the next may be LF
            data += more
        return with_line_feeds(data)


def with_line_feeds(data: bytes) -> bytes:
    """The data with LF for each CR; byte offsets do not change."""
    return data.replace(b"\r\n", b" \n").replace(b"\r", b"\n")


def has_carriage_returns(excerpt: bytes) -> bool:
    """Whether all lines, or many, end in CR alone."""
    alone = excerpt.removesuffix(b"\r").count(b"\r") - excerpt.count(b"\r\n")
    ends = excerpt.count(b"\n")
    return alone > 0 and (not ends or (alone >= MANY_ENDS and alone * 4 > ends))


@dataclass
class LineBlock:
    """A block of lines.

    Attributes:
        data: bytes of the lines. The last line has no LF at the end of the file, or if it was cut.
        offset: position of the first byte in the file.
        num_lines_before: number of LFs between the start of the range that is read and these lines.
        is_beyond: whether all lines begin after the range that is read.
        is_cut: whether the line continues in the next block.
    """

    data: bytes
    offset: int
    num_lines_before: int
    is_beyond: bool
    is_cut: bool = False


class LongLineError(ValueError):
    """A line exceeds the maximum length.

    Args:
        num_lines_before: number of LFs between the start of the range that is read and this line.
    """

    def __init__(self, num_lines_before: int):
        super().__init__(num_lines_before)
        self.num_lines_before = num_lines_before


def line_blocks_of(
    file: Readable, start: int, stop: int | None, max_line_bytes: int, cut_long_lines: bool
) -> Iterator[LineBlock]:
    """The lines that begin in bytes `start` to `stop` of a file, and then, in blocks of their own, the rest.

    Args:
        file: the file, positioned at byte max(start - 1, 0).
        max_line_bytes: longer lines are cut between characters, or raise an error.

    Raises:
        LongLineError: a line is too long and must not be cut.
    """
    rest, offset, num_lines = b"", max(start - 1, 0), 0
    is_inside_line = False  # whether `rest` begins inside a line
    if start:
        while data := file.read(READ_BYTES):
            end = data.find(b"\n")
            offset += len(data) if end < 0 else end + 1
            if end >= 0:
                rest = data[end + 1 :]
                num_lines = int(offset > start)
                break
        else:
            return
    at_end = False
    while not at_end:
        data = file.read(READ_BYTES)
        at_end = not data
        buffer = rest + data
        while (end := _first_end(buffer, max_line_bytes)) > max_line_bytes:
            if not cut_long_lines:
                raise LongLineError(num_lines)
            cut = max_line_bytes
            while cut > max_line_bytes - 3 and buffer[cut] & 0xC0 == 0x80:
                cut -= 1
            is_beyond = stop is not None and offset >= stop and not is_inside_line
            yield LineBlock(buffer[:cut], offset, num_lines, is_beyond, is_cut=True)
            buffer, offset, is_inside_line = buffer[cut:], offset + cut, True
        end = len(buffer) if at_end else buffer.rfind(b"\n") + 1
        whole, rest = buffer[:end], buffer[end:]
        if not whole:
            continue
        for data, is_beyond in _parted(whole, offset, stop, is_inside_line):
            yield LineBlock(data, offset, num_lines, is_beyond)
            offset += len(data)
            num_lines += data.count(b"\n")
        is_inside_line = False


def _first_end(buffer: bytes, max_line_bytes: int) -> int:
    """The length of the first line, as far as it is in the buffer."""
    end = buffer.find(b"\n", 0, max_line_bytes + 1)
    return end if end >= 0 else len(buffer)


def _parted(data: bytes, offset: int, stop: int | None, is_inside_line: bool) -> list[tuple[bytes, bool]]:
    """Split whole lines at `stop` into (lines, whether they begin beyond it)."""
    if stop is None or offset + len(data) <= stop:
        return [(data, False)]
    if offset >= stop and not is_inside_line:
        return [(data, True)]
    end = data.find(b"\n", max(stop - offset - 1, 0)) + 1
    parts = (data[:end], False), (data[end:], True)
    return [part for part in parts if part[0]] if end else [(data, False)]

"""The bytes of a file as whole lines, block by block, in bounded memory.

LF and CR LF end a line (CR LF is one to whoever strips lines); a lone CR only in files whose lines end in it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

READ_BYTES = 1 << 20
MANY_ENDS = 10  # lone CRs: fewer may be slips in a text whose lines end otherwise


class Readable(Protocol):
    """A file, or what decompresses one."""

    def read(self, size: int, /) -> bytes:
        """The next bytes, at most `size`; none at the end."""


class CarriageReturns:
    """A file whose lines end in CR, read as if they ended in LF; each byte stays where it is.

    Args:
        file: where CR LF may be among the line ends, as files of both kinds may have been joined.
    """

    def __init__(self, file: Readable):
        self.file = file

    def read(self, size: int, /) -> bytes:
        """The next bytes, at most `size` or a few more; none at the end."""
        data = self.file.read(size)
        while data.endswith(b"\r") and (more := self.file.read(1)):  # it may be LF
            data += more
        return with_line_feeds(data)


def with_line_feeds(data: bytes) -> bytes:
    """With LF for each CR, each byte in its place."""
    return data.replace(b"\r\n", b" \n").replace(b"\r", b"\n")


def has_carriage_returns(sample: bytes) -> bool:
    """Do lines end in CR alone, all of them or many?"""
    alone = sample.removesuffix(b"\r").count(b"\r") - sample.count(b"\r\n")
    ends = sample.count(b"\n")
    return alone > 0 and (not ends or (alone >= MANY_ENDS and alone * 4 > ends))


@dataclass
class Block:
    """Some lines.

    Attributes:
        data: their bytes. The last line may be without its LF: at the end of the file, or if it was cut.
        offset: where in the file they begin.
        num_lines_before: LFs between the start of the part that is read and these lines.
        is_beyond: whether all lines begin behind the part that is read.
        is_cut: whether the line continues in the next block.
    """

    data: bytes
    offset: int
    num_lines_before: int
    is_beyond: bool
    is_cut: bool = False


class LongLineError(ValueError):
    """A line that is longer than it may be.

    Args:
        num_lines_before: LFs between the start of the part that is read and this line.
    """

    def __init__(self, num_lines_before: int):
        super().__init__(num_lines_before)
        self.num_lines_before = num_lines_before


def blocks_of(
    file: Readable, start: int, stop: int | None, max_line_bytes: int, cut_long_lines: bool
) -> Iterator[Block]:
    """The lines that begin in bytes `start` to `stop` of a file, and then those beyond, in other blocks.

    Args:
        file: at byte max(start - 1, 0).
        max_line_bytes: longer lines are cut between characters, or are an error.

    Raises:
        LongLineError: a line is too long and not to be cut.
    """
    rest, offset, num_lines = b"", max(start - 1, 0), 0
    is_inside_line = False  # is the beginning of `rest` that of a line?
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
            yield Block(buffer[:cut], offset, num_lines, is_beyond, is_cut=True)
            buffer, offset, is_inside_line = buffer[cut:], offset + cut, True
        end = len(buffer) if at_end else buffer.rfind(b"\n") + 1
        whole, rest = buffer[:end], buffer[end:]
        if not whole:
            continue
        for data, is_beyond in _parted(whole, offset, stop, is_inside_line):
            yield Block(data, offset, num_lines, is_beyond)
            offset += len(data)
            num_lines += data.count(b"\n")
        is_inside_line = False


def _first_end(buffer: bytes, max_line_bytes: int) -> int:
    """The length of the first line, as far as it is known."""
    end = buffer.find(b"\n", 0, max_line_bytes + 1)
    return end if end >= 0 else len(buffer)


def _parted(data: bytes, offset: int, stop: int | None, is_inside_line: bool) -> list[tuple[bytes, bool]]:
    """Whole lines, those that begin before `stop` and those beyond; each with whether it is beyond."""
    if stop is None or offset + len(data) <= stop:
        return [(data, False)]
    if offset >= stop and not is_inside_line:
        return [(data, True)]
    end = data.find(b"\n", max(stop - offset - 1, 0)) + 1
    parts = (data[:end], False), (data[end:], True)
    return [part for part in parts if part[0]] if end else [(data, False)]

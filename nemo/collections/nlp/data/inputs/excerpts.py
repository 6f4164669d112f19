"""Detects layout and line ends from excerpts all over a file, because its beginning alone may mislead."""

import re
from collections.abc import Sequence
from functools import lru_cache

from nemo.collections.nlp.data.inputs.compression import decompressed
from nemo.collections.nlp.data.inputs.layouts import LAYOUTS, detect_layout, other_layout
from nemo.collections.nlp.data.inputs.lines import Readable, has_carriage_returns, with_line_feeds
from nemo.collections.nlp.data.inputs.places import open_at, reading, shown
from nemo.utils.logging import LogMode, logging

HEAD_BYTES = 1 << 20  # excerpt of a small file, or of one on a server
EXCERPTS, EXCERPT_BYTES = 8, HEAD_BYTES // 8  # of a larger file
COMPRESSED_BYTES = 16 << 20  # decompressed bytes of a compressed file that excerpts are taken from
FEW_LINES = 200  # per excerpt, enough to compare it with the whole file
_FEW_ENDS = 10
_OTHER_ENDS = re.compile("[\x0b\x0c\x85\u2028\u2029]")


def read_up_to(file: Readable, size: int) -> bytes:
    """The first `size` bytes of a file, or all of them."""
    blocks, missing = [], size
    while missing > 0 and (data := file.read(missing)):
        blocks.append(data)
        missing -= len(data)
    return b"".join(blocks)[:size]


def excerpts_of(path: str, compression: str | None, num_bytes: int, version: str, head: bytes) -> list[bytes]:
    """Excerpts from all over a file, in order, as far as they can be reached.

    Args:
        num_bytes: size of the stored file; -1 if unknown.
        version: version of the stored file.
        head: the first `HEAD_BYTES` of its content, decompressed.
    """
    if len(head) < HEAD_BYTES:
        return [head]
    if compression is not None:
        return _of_compressed(path, compression, num_bytes, version)
    # To reach an excerpt, a server may send everything before it.
    if path.startswith(("http://", "https://")) or num_bytes < 0:
        return [head]
    excerpts = []
    for start in _starts(num_bytes):
        with reading(path), open_at(path, start) as file:
            excerpts.append(read_up_to(file, EXCERPT_BYTES))
    return excerpts


@lru_cache(maxsize=16)
def _of_compressed(path: str, compression: str, num_bytes: int, version: str) -> list[bytes]:
    with reading(path), open_at(path) as file:
        content = read_up_to(decompressed(file, compression, shown(path)), COMPRESSED_BYTES)
    return [content[start : start + EXCERPT_BYTES] for start in _starts(len(content))]


def _starts(num_bytes: int) -> list[int]:
    last = max(num_bytes - EXCERPT_BYTES, 0)
    return [number * last // (EXCERPTS - 1) for number in range(EXCERPTS)]


def ends_in_cr(excerpts: Sequence[bytes]) -> bool:
    """Whether lines end in CR alone."""
    return has_carriage_returns(b"".join(excerpts))


def layout_of(path: str, excerpts: Sequence[bytes], has_cr: bool) -> str:
    """The layout of a file, a name in `LAYOUTS`; logs a warning if parts of the file do not fit it.

    Args:
        has_cr: whether lines end in CR alone.
    """
    excerpt_lines = [
        _lines_of(with_line_feeds(excerpt) if has_cr else excerpt, i) for i, excerpt in enumerate(excerpts)
    ]
    layout = detect_layout([line for lines in excerpt_lines for line in lines])
    if len(excerpt_lines) > 1 and (
        other := other_layout([lines[:FEW_LINES] for lines in excerpt_lines], layout)
    ):
        logging.warning(
            f"{shown(path)}: read as layout {layout!r} ({LAYOUTS[layout].meaning}), but parts of it "
            f"look like {other!r} ({LAYOUTS[other].meaning}); split the file, or give --text_layout",
            mode=LogMode.ONCE,
        )
    _warn_of_other_ends(path, excerpt_lines)
    return layout


def _lines_of(excerpt: bytes, number: int) -> list[str]:
    """The whole lines in an excerpt; if it holds none, the beginning of the line."""
    lines = excerpt.decode(errors="replace").split("\n")
    is_cut = len(excerpt) in (EXCERPT_BYTES, HEAD_BYTES)
    return lines[number > 0 : -1 if is_cut else None] or lines


def _warn_of_other_ends(path: str, excerpt_lines: Sequence[Sequence[str]]) -> None:
    """Log a warning if lines seem to end in a character that is not a line end here."""
    if any(len(lines) > 1 for lines in excerpt_lines):
        return
    if (
        len(ends := _OTHER_ENDS.findall("".join(line.strip() for lines in excerpt_lines for line in lines)))
        >= _FEW_ENDS
    ):
        logging.warning(
            f"{shown(path)}: a single line in which U+{ord(ends[0]):04X} seems to end lines; only LF, CR LF "
            "and CR do, so replace it with LF",
            mode=LogMode.ONCE,
        )

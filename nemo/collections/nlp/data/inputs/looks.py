"""What plain text looks like all over the file, whose beginning alone may mislead: layout and line ends."""

import re
from collections.abc import Sequence
from functools import lru_cache

from nemo.collections.nlp.data.inputs.compression import decompressed
from nemo.collections.nlp.data.inputs.layouts import LAYOUTS, detect_layout, other_layout
from nemo.collections.nlp.data.inputs.lines import Readable, has_carriage_returns, with_line_feeds
from nemo.collections.nlp.data.inputs.places import open_at, reading, shown
from nemo.utils.logging import LogMode, logging

HEAD_BYTES = 1 << 20  # that a small file is told from, and a server's
PARTS, PART_BYTES = 8, HEAD_BYTES // 8  # of a larger one
COMPRESSED_BYTES = 16 << 20  # of content, that the parts of a compressed file are taken from
FEW_LINES = 200  # of a part, enough to tell whether it is like the whole
_FEW_ENDS = 10
_OTHER_ENDS = re.compile("[\x0b\x0c\x85\u2028\u2029]")


def read_up_to(file: Readable, size: int) -> bytes:
    """The first bytes of a file, or all of them."""
    parts, missing = [], size
    while missing > 0 and (data := file.read(missing)):
        parts.append(data)
        missing -= len(data)
    return b"".join(parts)[:size]


def samples_of(path: str, compression: str | None, num_bytes: int, version: str, head: bytes) -> list[bytes]:
    """Parts from all over a file, in its order, as far as they can be reached.

    Args:
        num_bytes, version: of the stored file; -1 if unknown.
        head: its first `HEAD_BYTES`, decompressed.
    """
    if len(head) < HEAD_BYTES:
        return [head]
    if compression is not None:
        return _of_compressed(path, compression, num_bytes, version)
    # A server may send all that is before a part, too.
    if path.startswith(("http://", "https://")) or num_bytes < 0:
        return [head]
    samples = []
    for start in _starts(num_bytes):
        with reading(path), open_at(path, start) as file:
            samples.append(read_up_to(file, PART_BYTES))
    return samples


@lru_cache(maxsize=16)
def _of_compressed(path: str, compression: str, num_bytes: int, version: str) -> list[bytes]:
    with reading(path), open_at(path) as file:
        content = read_up_to(decompressed(file, compression, shown(path)), COMPRESSED_BYTES)
    return [content[start : start + PART_BYTES] for start in _starts(len(content))]


def _starts(num_bytes: int) -> list[int]:
    last = max(num_bytes - PART_BYTES, 0)
    return [number * last // (PARTS - 1) for number in range(PARTS)]


def ends_in_cr(samples: Sequence[bytes]) -> bool:
    """Do lines end in CR alone?"""
    return has_carriage_returns(b"".join(samples))


def layout_of(path: str, samples: Sequence[bytes], has_cr: bool) -> str:
    """The name in `LAYOUTS` that fits a file; a warning if parts of it do not fit.

    Args:
        has_cr: its lines end in CR alone.
    """
    parts = [_lines_of(with_line_feeds(sample) if has_cr else sample, i) for i, sample in enumerate(samples)]
    layout = detect_layout([line for lines in parts for line in lines])
    if len(parts) > 1 and (other := other_layout([lines[:FEW_LINES] for lines in parts], layout)):
        logging.warning(
            f"{shown(path)}: read as layout {layout!r} ({LAYOUTS[layout].meaning}), but parts of it "
            f"look like {other!r} ({LAYOUTS[other].meaning}); split the file, or give --text_layout",
            mode=LogMode.ONCE,
        )
    _warn_of_other_ends(path, parts)
    return layout


def _lines_of(sample: bytes, number: int) -> list[str]:
    """Whole lines; of a line longer than the sample, its beginning."""
    lines = sample.decode(errors="replace").split("\n")
    is_cut = len(sample) in (PART_BYTES, HEAD_BYTES)
    return lines[number > 0 : -1 if is_cut else None] or lines


def _warn_of_other_ends(path: str, parts: Sequence[Sequence[str]]) -> None:
    """Say so if lines end in what ends no line here."""
    if any(len(lines) > 1 for lines in parts):
        return
    if (
        len(ends := _OTHER_ENDS.findall("".join(line.strip() for lines in parts for line in lines)))
        >= _FEW_ENDS
    ):
        logging.warning(
            f"{shown(path)}: a single line in which U+{ord(ends[0]):04X} seems to end lines; only LF, CR LF "
            "and CR do, so replace it with LF",
            mode=LogMode.ONCE,
        )

"""Detects layout and line ends from samples all over a file, because its beginning alone may mislead."""

import re
from collections.abc import Sequence
from functools import lru_cache

from nemo.collections.nlp.data.inputs.compression import decompressed
from nemo.collections.nlp.data.inputs.layouts import LAYOUTS, detect_layout, other_layout
from nemo.collections.nlp.data.inputs.lines import Readable, has_carriage_returns, with_line_feeds
from nemo.collections.nlp.data.inputs.places import open_at, reading, shown
from nemo.utils.logging import LogMode, logging

HEAD_BYTES = 1 << 20  # sample of a small file, or of one on a server
PARTS, PART_BYTES = 8, HEAD_BYTES // 8  # samples of a larger file
COMPRESSED_BYTES = 16 << 20  # decompressed bytes from which a compressed file is sampled
FEW_LINES = 200  # per part, enough to compare it with the whole file
_FEW_ENDS = 10
_OTHER_ENDS = re.compile("[\x0b\x0c\x85\u2028\u2029]")


def read_up_to(file: Readable, size: int) -> bytes:
    """The first `size` bytes of a file, or all of them."""
    parts, missing = [], size
    while missing > 0 and (data := file.read(missing)):
        parts.append(data)
        missing -= len(data)
    return b"".join(parts)[:size]


def samples_of(path: str, compression: str | None, num_bytes: int, version: str, head: bytes) -> list[bytes]:
    """Samples from all over a file, in order, as far as they can be reached.

    Args:
        num_bytes: size of the stored file; -1 if unknown.
        version: version of the stored file.
        head: the first `HEAD_BYTES` of its content, decompressed.
    """
    if len(head) < HEAD_BYTES:
        return [head]
    if compression is not None:
        return _of_compressed(path, compression, num_bytes, version)
    # To reach a part, a server may send everything before it.
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
    """Whether lines end in CR alone."""
    return has_carriage_returns(b"".join(samples))


def layout_of(path: str, samples: Sequence[bytes], has_cr: bool) -> str:
    """The layout of a file, a name in `LAYOUTS`; logs a warning if parts of the file do not fit it.

    Args:
        has_cr: whether lines end in CR alone.
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
    """The whole lines in a sample; if it holds none, the beginning of the line."""
    lines = sample.decode(errors="replace").split("\n")
    is_cut = len(sample) in (PART_BYTES, HEAD_BYTES)
    return lines[number > 0 : -1 if is_cut else None] or lines


def _warn_of_other_ends(path: str, parts: Sequence[Sequence[str]]) -> None:
    """Log a warning if lines seem to end in a character that is not a line end here."""
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

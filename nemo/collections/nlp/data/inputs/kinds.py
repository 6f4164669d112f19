"""Detects the format of a file by name and first bytes: plain text, JSON lines, Parquet, CSV or none."""

import codecs
import json
import os
import re
from pathlib import PurePosixPath

from nemo.collections.nlp.data.inputs.compression import without_compression
from nemo.collections.nlp.data.inputs.places import shown
from nemo.collections.nlp.data.inputs.splits import split_of
from nemo.utils.errors import DataError
from nemo.utils.files import GIT_LFS_POINTER, LFS_ADVICE

ENDINGS = {
    ".txt": "text",
    ".text": "text",
    ".jsonl": "json-lines",
    ".ndjson": "json-lines",
    ".json": "json-lines",
    ".parquet": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
}
_ENDINGS_OF_SPLITS = {
    ".raw",
    ".tokens",
}  # text if the name also says which split it is, as WikiText's wiki.train.raw
_RECORDS_LOOKED_AT = 3
_AS_TEXT = "export it as plain text in UTF-8"
_CONVERT = "convert it, for example with iconv -f {0} -t utf-8"
# First bytes -> kind of file, and fix.
_OTHER_KINDS: list[tuple[bytes, str, str]] = [
    (GIT_LFS_POINTER, *LFS_ADVICE),
    (b"%PDF", "a PDF", "extract its text, for example with pdftotext"),
    (b"\xd0\xcf\x11\xe0", "an old Office document", _AS_TEXT),
    (b"{\\rtf", "an RTF document", _AS_TEXT),
    (b"\x89HDF", "HDF5 shards, not text", "to train on shards add data_preprocessed instead of data_text"),
    (b"ARROW1", "an Arrow file", "save it as Parquet"),
    (b"7z\xbc\xaf", "an archive (7z)", "unpack it"),
    (b"Rar!", "an archive (rar)", "unpack it"),
    (b"SQLite format 3", "a database", "export the text as CSV"),
    (b"\x7fELF", "a program", ""),
    (b"\x89PNG", "a picture", ""),
    (b"\xff\xd8\xff", "a picture", ""),
    (b"GIF8", "a picture", ""),
    (b"\x80\x02", "a pickle", ""),
    (b"\x80\x04", "a pickle", ""),
]
_IN_ZIP = {
    b"word/": "a Word document (docx)",
    b"xl/": "a spreadsheet (xlsx)",
    b"ppt/": "slides (pptx)",
    b"mimetypeapplication/epub": "a book (epub)",
    b"mimetypeapplication/vnd.oasis": "an OpenDocument file",
}
_MARKUP = re.compile(rb"\s*<(?:\?xml|!doctype|html|mediawiki)\b", re.IGNORECASE)


def format_ending(path: str) -> str:
    """The suffix of a name in lower case, not counting that of a compression."""
    return os.path.splitext(without_compression(shown(path)).lower())[1]


def format_by_name(path: str) -> str | None:
    """The format that a name's suffix stands for; None if unknown."""
    ending = format_ending(path)
    if ending in _ENDINGS_OF_SPLITS and split_of(PurePosixPath(shown(path)).name):
        return "text"
    return ENDINGS.get(ending)


def format_of(path: str, head: bytes) -> str:
    """The format of a file: `text` unless its name or content says otherwise.

    Args:
        path: path or address of the file; its suffix is a hint.
        head: the first bytes of its content, decompressed.

    Raises:
        DataError: it has none of the formats.
    """
    by_name = format_by_name(path)
    if head.startswith(b"PAR1"):
        return "parquet"
    check_readable(path, head)
    if by_name == "parquet":
        fix = "check whether the file is damaged or misnamed"
        raise DataError("has the suffix of a Parquet file, but is not one", where=shown(path), fix=fix)
    if by_name == "csv":
        return "csv"
    if _MARKUP.match(head.removeprefix(codecs.BOM_UTF8)):
        fix = "extract its text, for example with wikiextractor or trafilatura, or give --text_format text"
        raise DataError("HTML or XML, not plain text", where=shown(path), fix=fix)
    if _is_json_lines(head):
        return "json-lines"
    if by_name == "json-lines":
        if shown(path).lower().endswith(".json") and not _begins_with_record(head):
            raise not_json_lines(path, head)
        return "json-lines"
    return "text"


def not_json_lines(path: str, head: bytes) -> DataError:
    """The error for a .json file that is not JSON lines."""
    is_list = head.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"[")
    return DataError(
        "not JSON lines",
        where=shown(path),
        found="a JSON list" if is_list else "JSON of several lines",
        expected="one JSON object per line",
        fix=f"jq -c {'.[]' if is_list else '.'} FILE > FILE.jsonl",
    )


def check_readable(path: str, head: bytes) -> None:
    """Raise a DataError that names the format if the first bytes are not text."""
    for magic, what, fix in _OTHER_KINDS:
        if head.startswith(magic):
            raise DataError(what, where=shown(path), expected="text", fix=fix)
    if head.startswith(b"PK\x03\x04"):
        what = next((what for inside, what in _IN_ZIP.items() if inside in head), "")
        fix = _AS_TEXT if what else "unpack it"
        raise DataError(what or "an archive (zip)", where=shown(path), expected="text", fix=fix)
    if head[257:262] == b"ustar":
        raise DataError("an archive (tar)", where=shown(path), expected="text", fix="unpack it")
    if head.startswith(
        (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
    ):  # before UTF-16, whose mark is a prefix of UTF-32's
        fix = _CONVERT.format("utf-32")
        raise DataError("text in UTF-32", where=shown(path), expected="UTF-8", fix=fix)
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        fix = _CONVERT.format("utf-16")
        raise DataError("text in UTF-16", where=shown(path), expected="UTF-8", fix=fix)
    num_nuls = head.count(0)
    if num_nuls * 100 > len(head):
        at_odd, at_even = head[1::2].count(0), head[::2].count(0)
        if len(head) > 20 and not min(at_odd, at_even) and num_nuls * 4 > len(head):
            encoding = "utf-16-le" if at_odd else "utf-16-be"
            fix = _CONVERT.format(encoding)
            raise DataError("text in UTF-16", where=shown(path), expected="UTF-8", fix=fix)
        found = f"{num_nuls} NUL bytes in the first {len(head)}"
        raise DataError("looks binary", where=shown(path), found=found, expected="UTF-8 text")


def _is_json_lines(head: bytes) -> bool:
    """Whether the first lines are JSON objects, one per line."""
    lines = head.removeprefix(codecs.BOM_UTF8).split(b"\n")
    # The last line may be cut off.
    full = [line for line in lines[: -1 if len(lines) > 1 else None] if line.strip()][:_RECORDS_LOOKED_AT]
    return bool(full) and all(map(_is_object, full))


def _is_object(line: bytes) -> bool:
    if not line.lstrip().startswith(b"{"):
        return False
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _begins_with_record(head: bytes) -> bool:
    """Whether the first line may be a record; if it is longer than the head, it may."""
    first, end, _ = head.removeprefix(codecs.BOM_UTF8).lstrip().partition(b"\n")
    return first.startswith(b"{") and (not end or len(first.strip()) > 1)

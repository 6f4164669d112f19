"""JSON lines (the format of wiki2019zh and related corpora) -> documents, one after another."""

import codecs
import json
from collections.abc import Iterator

from nemo.collections.nlp.data.inputs.documents import Oddities, documents_of, leave_out
from nemo.collections.nlp.data.inputs.invisible import visible
from nemo.collections.nlp.data.inputs.options import TextOptions
from nemo.collections.nlp.data.inputs.stored import StoredFile
from nemo.collections.nlp.data.inputs.text import not_utf8
from nemo.utils.errors import DataError
from nemo.utils.lookup import closest

MAX_RECORD_BYTES = 64 << 20  # a record is held in memory; a longer line means that it is not JSON lines
_EXPECTED = "one JSON object per line"
_REPLACEMENT = "\ufffd".encode()


def read_json_lines(
    file: StoredFile, start: int, stop: int | None, options: TextOptions, odd: Oddities
) -> Iterator[list[str]]:
    """The documents in the lines that begin in bytes `start` to `stop`: the `text_field` of each.

    Raises:
        DataError: there are more bad lines than may be skipped.
    """
    for line, offset, num_ends in _lines(file, start, stop):
        try:
            title, text = _parsed(line, offset, options, odd)
        except DataError as problem:
            where = f"{file}:{file.line_number(start, num_ends)}"
            leave_out(DataError(f"{where}: {problem}"), options.max_bad_records, odd)
        else:
            yield from documents_of(text, title, odd)


def _lines(file: StoredFile, start: int, stop: int | None) -> Iterator[tuple[bytes, int, int]]:
    """(non-blank line, its offset in the file, number of line ends between `start` and it)"""
    for block in file.blocks(start, stop, MAX_RECORD_BYTES, cut_long_lines=False):
        if block.is_beyond:
            return
        offset = block.offset
        for number, line in enumerate(block.data.split(b"\n"), block.num_lines_before):
            record = line
            while record.startswith(codecs.BOM_UTF8):  # several where files were joined
                record = record[len(codecs.BOM_UTF8) :]
            if not _is_blank(record):
                yield record, offset + len(line) - len(record), number
            offset += len(line) + 1


def _is_blank(line: bytes) -> bool:
    stripped = line.strip()
    return not stripped.startswith(b"{") and not visible(stripped.decode(errors="replace").strip())


def _parsed(line: bytes, offset: int, options: TextOptions, odd: Oddities) -> tuple[str, str]:
    """The title ("" if there is none) and the text of one line."""
    try:
        content = line.decode("utf-8", "strict" if options.invalid_bytes == "error" else "replace")
        record = json.loads(content)
    except UnicodeDecodeError as error:
        raise not_utf8(line, error.start, offset + error.start) from None
    except (ValueError, RecursionError) as error:
        found = str(error) or type(error).__name__
        raise DataError("not JSON", found=found, expected=_EXPECTED) from None
    if "\ufffd" in content:
        odd.replaced_bytes += content.count("\ufffd") - line.count(_REPLACEMENT)
    if not isinstance(record, dict):
        raise DataError("not a JSON object", found=type(record).__name__, expected=_EXPECTED)
    text, title = record.get(options.text_field), record.get("title")
    if not isinstance(text, str):
        raise _without_text(record, options.text_field)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        found = f"half a surrogate pair, \\u{ord(text[error.start]):x}"
        raise DataError("text that is not Unicode", found=found) from None
    return title if isinstance(title, str) else "", text


def _without_text(record: dict, text_field: str) -> DataError:
    if text_field in record:
        found = type(record[text_field]).__name__
        return DataError(f"no text in {text_field!r}", found=found, expected="a string")
    strings = {key: value for key, value in record.items() if isinstance(value, str)}
    return no_field(text_field, list(record), strings)


def no_field(text_field: str, names: list[str], strings: dict[str, str]) -> DataError:
    """The error for a record or a table without a field of that name.

    Args:
        strings: the fields that hold text; the fix names the longest.
    """
    near = closest(text_field, strings) or max(strings, key=lambda name: len(strings[name]), default=None)
    return DataError(
        f"no field {text_field!r}",
        found=", ".join(map(repr, names[:10])) or "an empty object",
        fix=f"name the text field, such as {near!r} (--text_field)" if near is not None else "",
    )

"""Files of JSON lines, as wiki2019zh and its sister corpora are, -> their documents, one after another."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nemo.utils.errors import DataError
from nemo.utils.logging import logging
from nemo.utils.lookup import closest

MAX_LINE_BYTES = 64 << 20  # a document is held in memory; what is longer is no file of JSON lines


@dataclass(frozen=True)
class JsonDocument:
    """The text of one line, and its title if there is one."""

    title: str
    text: str


def read_json_lines(
    files: Sequence[Path], text_field: str = "text", max_bad_records: int = 0
) -> Iterator[JsonDocument]:
    """The documents of files that have one JSON object per line, in their order.

    Args:
        text_field: the key of the text; the title's is "title".
        max_bad_records: how many lines may be left out, each with a warning, because they are no such object.

    Raises:
        DataError: a file cannot be read, or one more line is bad.
    """
    num_bad = 0
    for file in files:
        for where, line in _lines(file):
            try:
                document = _parsed(line, where, text_field)
            except DataError as problem:
                num_bad += 1
                if num_bad > max_bad_records:
                    raise
                logging.warning("left out: %s", problem)
            else:
                yield document
    if num_bad:
        logging.warning("%d bad records left out of %d files", num_bad, len(files))


def _lines(file: Path) -> Iterator[tuple[str, bytes]]:
    """(file:line, its bytes) of every line that is not blank."""
    number = 0
    try:
        with open(file, "rb") as stream:
            while line := stream.readline(MAX_LINE_BYTES):
                number += 1
                where = f"{file}:{number}"
                if len(line) == MAX_LINE_BYTES and not line.endswith(b"\n"):
                    found, expected = (
                        f"a line of more than {MAX_LINE_BYTES >> 20} MiB",
                        "one JSON object per line",
                    )
                    raise DataError("not JSON lines", where=where, found=found, expected=expected)
                if number == 1:
                    line = line.removeprefix(b"\xef\xbb\xbf")
                if line.strip():
                    yield where, line
    except OSError as error:
        raise DataError("cannot be read", where=file, found=error.strerror) from error


def _parsed(line: bytes, where: str, text_field: str) -> JsonDocument:
    try:
        record = json.loads(line.decode())
    except UnicodeDecodeError as error:
        found = f"byte 0x{line[error.start]:02x} at offset {error.start} of the line"
        raise DataError("text that is not UTF-8", where=where, found=found) from None
    except (ValueError, RecursionError) as error:
        found, expected = str(error) or type(error).__name__, "one JSON object per line"
        raise DataError("not JSON", where=where, found=found, expected=expected) from None
    if not isinstance(record, dict):
        found, expected = type(record).__name__, "one JSON object per line"
        raise DataError("not a JSON object", where=where, found=found, expected=expected)
    text, title = record.get(text_field), record.get("title")
    if not isinstance(text, str):
        raise _without_text(record, where, text_field)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        found = f"half a surrogate pair, \\u{ord(text[error.start]):x}"
        raise DataError("text that is not Unicode", where=where, found=found) from None
    return JsonDocument(title if isinstance(title, str) else "", text)


def _without_text(record: dict, where: str, text_field: str) -> DataError:
    if text_field in record:
        found = type(record[text_field]).__name__
        return DataError(f"no text in {text_field!r}", where=where, found=found, expected="a string")
    near = closest(text_field, record)
    strings = [key for key, value in record.items() if isinstance(value, str)]
    return DataError(
        f"no field {text_field!r}",
        where=where,
        found=", ".join(map(repr, list(record)[:10])) or "an empty object",
        fix=f"name the field of the text, such as {near or max(strings, key=lambda k: len(record[k]))!r}"
        if strings
        else "",
    )

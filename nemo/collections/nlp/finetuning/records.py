"""The text of a labeled file, and the records of JSON lines, CSV and TSV."""

import codecs
import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nemo.collections.nlp.data.inputs.tables import csv_rows, fields_of
from nemo.collections.nlp.data.inputs.text import not_utf8
from nemo.utils.errors import DataError, reason
from nemo.utils.files import missing
from nemo.utils.lookup import closest
from nemo.utils.strict import parse_json

_JSON_ARRAY = re.compile(r"\s*\[\s*\{")

Record = tuple[Mapping[str, Any], str]
"""Fields by name, and where they are."""


def read_labeled(path: str | Path) -> str:
    """The text of a file, without a byte order mark.

    Raises:
        MissingFileError: there is no such file.
        DataError: it is empty, or has bytes that are not UTF-8.
    """
    path = Path(path)
    if path.is_dir():
        raise DataError("a folder instead of a file", where=path, fix="name the labeled file in it")
    if not path.is_file():
        raise missing(path, "a labeled file", problem="no such file")
    data = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise not_utf8(data, error.start, error.start, f"{path}:{line}", may_replace=False) from None
    if not text.strip():
        raise DataError("is empty", where=path, expected="labeled examples", fix="give another file")
    if _JSON_ARRAY.match(text):
        raise DataError(
            "a JSON array",
            where=path,
            found="'[' before the first object",
            expected="JSON lines",
            fix=f"write one object per line: jq -c '.[]' {path}",
        )
    return text


def begins_with_object(text: str) -> bool:
    """Whether a text begins with a JSON object; then it is read as JSON lines."""
    return text.lstrip().startswith("{")


def json_records(text: str, path: str | Path) -> Iterator[Record]:
    """The objects of JSON lines.

    Raises:
        DataError: a line is not a JSON object.
    """
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            record = parse_json(line.encode())
        except (ValueError, RecursionError) as error:
            raise DataError("not JSON", where=where, found=reason(error)) from None
        if not isinstance(record, dict):
            raise DataError("not a JSON object", where=where, found=type(record).__name__)
        yield record, where


def table_records(text: str, path: str | Path) -> Iterator[Record]:
    """The rows of CSV or TSV, whose first line names the columns.

    Raises:
        DataError: a row is longer or shorter than the first, or a quote is not closed.
    """
    rows = csv_rows(io.StringIO(text, newline=""), path, strict=True)
    _, header = next(rows)
    for line, row in rows:
        if row:
            where = f"{path}:{line}"
            yield fields_of(row, header, where), where


def find_column(
    record: Mapping[str, Any], given: str | None, usual: tuple[str, ...], option: str, path: str | Path
) -> str:
    """The field named by `option`, or else the first of the `usual` names that exists.

    Raises:
        DataError: there is no such field.
    """
    if given in record:
        return str(given)
    names = [name for name in usual if name in record] if given is None else []
    if names:
        return names[0]
    near = closest(given, record) if given else None
    raise DataError(
        f"no column {given!r}" if given else f"no column for {option}",
        where=path,
        found=", ".join(map(repr, list(record)[:10])),
        expected=None if given else " or ".join(usual),
        fix=f"did you mean {near!r}?"
        if near
        else f"give {option} one of these"
        if given
        else f"name it with {option}",
    )


def field_text(record: Mapping[str, Any], column: str, where: str) -> str:
    """The text or label in a field; a label may also be a number.

    Raises:
        DataError: it is missing, empty or not text.
    """
    value = record.get(column)
    if isinstance(value, float) and value.is_integer():  # as pandas writes whole numbers if some are missing
        value = int(value)
    if isinstance(value, bool | int):
        value = str(value)
    if value is None or (isinstance(value, str) and not value.strip()):
        raise DataError(
            f"an empty column {column!r}",
            where=where,
            found="nothing",
            expected="text",
            fix="fill it in, or remove the row",
        )
    if not isinstance(value, str):
        raise DataError(
            f"the column {column!r} is neither text nor a whole number",
            where=where,
            found=repr(value)[:60],
            fix="write it as a string",
        )
    return value

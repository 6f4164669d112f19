"""Tables (Parquet, CSV) -> documents, one per row."""

import csv
import itertools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from nemo.collections.nlp.data.inputs.documents import Oddities, documents_of, leave_out
from nemo.collections.nlp.data.inputs.json_lines import MAX_RECORD_BYTES, no_field
from nemo.collections.nlp.data.inputs.kinds import format_ending
from nemo.collections.nlp.data.inputs.options import TextOptions
from nemo.collections.nlp.data.inputs.places import filesystem_of, is_url, shown
from nemo.collections.nlp.data.inputs.stored import StoredFile
from nemo.collections.nlp.data.inputs.text import decoded
from nemo.utils.errors import DataError, reason

_ROWS_AT_ONCE = 256  # texts may be long
_BUFFER_BYTES = 1 << 20
_DELIMITERS = ",\t;|"
_LINES_LOOKED_AT = 100
_END = "\x00"  # appended as a last line; if the CSV reader does not return it, a quote was not closed


def row_groups_of(path: str) -> list[int]:
    """The stored bytes of each row group of a Parquet file.

    Raises:
        DataError: it is damaged.
    """
    with _opened(path) as table:
        groups = [table.metadata.row_group(i) for i in range(table.metadata.num_row_groups)]
        return [sum(g.column(i).total_compressed_size for i in range(g.num_columns)) for g in groups]


def read_parquet(
    file: StoredFile, start: int, stop: int | None, options: TextOptions, odd: Oddities
) -> Iterator[list[str]]:
    """The documents in row groups `start` to `stop`: column `text_field` of each row.

    Raises:
        DataError: there is no such column of strings, or more rows without text than may be skipped.
    """
    sizes = row_groups_of(file.path)
    with _opened(file.path) as table:
        _check_column(table, options.text_field, file)
        columns = [options.text_field, *(["title"] if _holds_text(table, "title") else [])]
        row = sum(table.metadata.row_group(i).num_rows for i in range(start))
        for group in range(len(sizes))[start:stop]:
            for batch in table.iter_batches(_ROWS_AT_ONCE, row_groups=[group], columns=columns):
                titles = _strings(batch, "title", file, row) if "title" in columns else [""] * len(batch)
                texts = _strings(batch, options.text_field, file, row)
                for text, title in zip(texts, titles, strict=True):
                    row += 1
                    if text is not None:
                        yield from documents_of(text, title or "", odd)
                        continue
                    where = f"{file}: row {row}"
                    problem = DataError(f"no text in {options.text_field!r}", where=where, found="null")
                    leave_out(problem, options.max_bad_records, odd)
            file.bytes_read += sizes[group]


def read_csv(file: StoredFile, options: TextOptions, odd: Oddities) -> Iterator[list[str]]:
    """The documents of a CSV file: column `text_field` of each row. The first row names the columns.

    Raises:
        DataError: there is no such column, or more bad rows than may be skipped.
    """
    csv.field_size_limit(MAX_RECORD_BYTES)
    lines = _lines(file, options, odd)
    first = next(lines, None)
    if first is None:
        return
    rows = csv_rows(itertools.chain([first], lines, [_END]), file)
    line, header = next(rows)
    if header.count(options.text_field) > 1:
        raise DataError(f"several columns are named {options.text_field!r}", where=file)
    for line, row in rows:
        if row == [_END]:
            break
        if options.text_field not in header:
            strings = dict(zip(header, row, strict=False))
            raise DataError(f"{file}: {no_field(options.text_field, header, strings)}")
        if not row:
            continue
        try:
            fields = fields_of(row, header, f"{file}:{line}")
        except DataError as problem:
            leave_out(problem, options.max_bad_records, odd)
            continue
        yield from documents_of(fields[options.text_field], fields.get("title", ""), odd)
    else:
        fix = "check whether the file was cut off or a quote is not closed"
        raise DataError("the file ends inside quotes", where=f"{file}:{line - 1}", fix=fix)


def csv_rows(lines: Iterable[str], name: object, strict: bool = False) -> Iterator[tuple[int, list[str]]]:
    """The rows of CSV, or of TSV if the file's name ends so; the names of the columns first.

    Args:
        lines: at least one; each with its line feed.
        strict: refuse text after a closing quote, and a quote that is not closed.

    Yields:
        The number of a row's last line, from 1, and its fields; none for a blank line.

    Raises:
        DataError: this is not CSV.
    """
    lines = iter(lines)
    head = list(itertools.islice(lines, _LINES_LOOKED_AT))
    delimiter = "\t" if format_ending(str(name)) == ".tsv" else max(_DELIMITERS, key=head[0].count)
    has_quotes = delimiter != "\t" or not _has_bare_quotes(head)
    rows = csv.reader(
        itertools.chain(head, lines),
        delimiter=delimiter,
        quoting=csv.QUOTE_MINIMAL if has_quotes else csv.QUOTE_NONE,
        strict=strict,
    )
    try:
        header = [column.strip() for column in next(rows)]
        yield rows.line_num, header
        for row in rows:
            yield rows.line_num, row
    except csv.Error as error:
        raise DataError("not CSV", where=f"{name}:{rows.line_num}", found=error) from None


def fields_of(row: list[str], header: list[str], where: str) -> dict[str, str]:
    """The fields of a row by the names of their columns.

    Raises:
        DataError: the row is longer or shorter than the first.
    """
    if len(row) != len(header):
        raise DataError(
            "a row with the wrong number of columns",
            where=where,
            found=f"{len(row)} columns",
            expected=f"{len(header)} as in the first line",
        )
    return dict(zip(header, row, strict=True))


def _lines(file: StoredFile, options: TextOptions, odd: Oddities) -> Iterator[str]:
    for block in file.blocks(0, None, MAX_RECORD_BYTES, cut_long_lines=False):
        text = decoded(block, file, 0, options.invalid_bytes, odd)
        for line in text.removesuffix("\n").split("\n"):
            yield line.removesuffix("\r") + "\n"


def _has_bare_quotes(lines: list[str]) -> bool:
    """Whether fields begin with a quote but do not end with one, so that quotes are part of the text."""
    fields = (field for line in lines for field in line.rstrip("\n").split("\t"))
    return any(field.startswith('"') and not (field.endswith('"') and len(field) > 1) for field in fields)


@contextmanager
def _opened(path: str) -> Iterator[Any]:
    import pyarrow
    from pyarrow.parquet import ParquetFile

    try:
        if not is_url(path):
            with ParquetFile(path, buffer_size=_BUFFER_BYTES) as table:
                yield table
        else:
            filesystem, inner = filesystem_of(path)
            with filesystem.open(inner, "rb") as file, _over_network(file, path) as table:
                yield table
    except (pyarrow.ArrowException, OSError) as error:
        if isinstance(error, DataError | FileNotFoundError):
            raise
        raise DataError("damaged, or not Parquet", where=shown(path), found=reason(error)) from error


def _over_network(file: Any, path: str) -> Any:
    from pyarrow.parquet import ParquetFile

    try:
        return ParquetFile(file)
    except ValueError as error:
        if "range requests" not in str(error):
            raise
        raise DataError(
            "the server cannot send parts of a file, which reading Parquet needs",
            where=shown(path),
            fix="download the file",
        ) from None


def _holds_text(table: Any, name: str) -> bool:
    """Whether a column of strings (plain or dictionary-encoded) has this name."""
    import pyarrow.types as types

    schema = table.schema_arrow
    if schema.names.count(name) != 1:
        return False
    kind = schema.field(name).type
    if types.is_dictionary(kind):
        kind = kind.value_type
    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)


def _check_column(table: Any, name: str, file: StoredFile) -> None:
    if _holds_text(table, name):
        return
    schema = table.schema_arrow
    if name in schema.names:
        found = "several of that name" if schema.names.count(name) > 1 else schema.field(name).type
        raise DataError(f"no text in {name!r}", where=file, found=found, expected="a column of strings")
    strings = {each: "" for each in schema.names if _holds_text(table, each)}
    raise DataError(f"{file}: {no_field(name, schema.names, strings)}")


def _strings(batch: Any, column: str, file: StoredFile, row: int) -> list[str | None]:
    try:
        return batch.column(column).to_pylist()
    except UnicodeDecodeError as error:
        where = f"{file}: row {row + 1} to {row + len(batch)}"
        found = f"byte 0x{error.object[error.start]:02x} in {column!r}"
        raise DataError("text that is not UTF-8", where=where, found=found) from None

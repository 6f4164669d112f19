"""Splits a corpus into sections that any process can read; together they yield each document once."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from nemo.collections.nlp.data.inputs.documents import Oddities
from nemo.collections.nlp.data.inputs.json_lines import read_json_lines
from nemo.collections.nlp.data.inputs.options import AUTO, TextOptions
from nemo.collections.nlp.data.inputs.places import reading, shown
from nemo.collections.nlp.data.inputs.sources import Path_, Source, check_unchanged, sources_of
from nemo.collections.nlp.data.inputs.stored import StoredFile
from nemo.collections.nlp.data.inputs.tables import read_csv, read_parquet, row_groups_of
from nemo.collections.nlp.data.inputs.text import read_text
from nemo.utils.errors import DataError
from nemo.utils.logging import LogMode, logging

SECTION_BYTES = 32 << 20


@dataclass(frozen=True)
class Section:
    """A range of a file; `str` gives its name for messages.

    A document belongs to the section in which its first line begins, so that the sections of a file together
    yield each document once.

    Attributes:
        start, stop: bytes of plain text and JSON lines, row groups of Parquet. A file that can only be read
            from its beginning, such as a compressed one, is one section from 0 to None.
        num_bytes: size of the section as stored; -1 if a server does not report it.
    """

    source: Source
    start: int
    stop: int | None
    num_bytes: int

    def __str__(self) -> str:
        if self.is_whole:
            return shown(self.source.path)
        unit = "row groups" if self.source.format == "parquet" else "bytes"
        return f"{shown(self.source.path)}, {unit} {self.start} to {self.stop}"

    @property
    def is_whole(self) -> bool:
        """Whether this is the whole file."""
        return self.start == 0 and self.stop in (None, self.source.num_bytes)


def sections_of(sources: Iterable[Source], section_bytes: int = SECTION_BYTES) -> list[Section]:
    """The sections of a corpus, in order, each of about `section_bytes`; they depend on the files alone.

    Raises:
        DataError: a Parquet file is damaged.
    """
    return [Section(source, *found) for source in sources for found in _ranges(source, section_bytes)]


class SectionReader:
    """Reads one section.

    Args:
        options: how the corpus is read.

    Attributes:
        odd: defects repaired so far, and bad records skipped.
    """

    def __init__(self, section: Section, options: TextOptions = AUTO):
        self.section, self.options = section, options
        self.odd = Oddities()
        self._file = StoredFile(section.source.path, section.source.compression, section.source.ends_in_cr)

    @property
    def bytes_read(self) -> int:
        """The number of stored bytes read so far."""
        return self._file.bytes_read

    def documents(self) -> Iterator[list[str]]:
        """The documents that begin in this section, as lists of paragraphs.

        A paragraph is a stripped line; empty lines, headings and repeated titles are left out.

        Raises:
            DataError: the text is not UTF-8, a record is invalid, or the file changed while it was read.
        """
        source = self.section.source
        with reading(source.path):
            is_empty = True
            for document in self._documents():
                is_empty = False
                yield document
            check_unchanged(source)
        if is_empty and self.section.is_whole:
            logging.warning(f"{self.section}: no text in this file", mode=LogMode.ONCE)
        for what in self.odd.tell():
            logging.warning(f"{self.section}: {what}", mode=LogMode.ONCE)

    def _documents(self) -> Iterator[list[str]]:
        source, start, stop = self.section.source, self.section.start, self.section.stop
        if source.layout is not None:
            return read_text(self._file, source.layout, start, stop, self.options.invalid_bytes, self.odd)
        if source.format == "json-lines":
            return read_json_lines(self._file, start, stop, self.options, self.odd)
        if source.format == "parquet":
            return read_parquet(self._file, start, stop, self.options, self.odd)
        return read_csv(self._file, self.options, self.odd)


def read_documents(
    path: Path_ | Source | Iterable[Path_ | Source], options: TextOptions = AUTO
) -> Iterator[list[str]]:
    """All documents of a corpus, with files in order of their names. See `sources_of` and `SectionReader`.

    Raises:
        DataError: as these do; `max_bad_records` is the limit for all files together.
    """
    num_bad = 0
    for section in sections_of(sources_of(path, options)):
        reader = SectionReader(section, options)
        yield from reader.documents()
        num_bad += reader.odd.bad_records
        check_bad_records(num_bad, options)


def check_bad_records(number: int, options: TextOptions) -> None:
    """Raise a DataError if more records were skipped, in all sections together, than allowed."""
    if number > options.max_bad_records:
        raise DataError(
            "too many bad records; the log names them",
            found=number,
            expected=f"at most {options.max_bad_records} (--max_bad_records)",
        )


def _ranges(source: Source, section_bytes: int) -> list[tuple[int, int | None, int]]:
    """(start, stop, bytes) of each section of a file."""
    if source.format == "parquet":
        return _groups(row_groups_of(source.path), section_bytes)
    size = source.num_bytes
    if source.compression is not None or source.format == "csv" or size < 0:
        return [(0, None, size)]
    starts = range(0, max(size, 1), section_bytes)
    return [(start, min(start + section_bytes, size), min(section_bytes, size - start)) for start in starts]


def _groups(sizes: list[int], section_bytes: int) -> list[tuple[int, int | None, int]]:
    """Runs of consecutive row groups, each just large enough to have `section_bytes`."""
    ranges: list[tuple[int, int | None, int]] = []
    start = size = 0
    for group, group_bytes in enumerate(sizes, 1):
        size += group_bytes
        if size >= section_bytes or group == len(sizes):
            ranges.append((start, group, size))
            start, size = group, 0
    return ranges or [(0, None, 0)]

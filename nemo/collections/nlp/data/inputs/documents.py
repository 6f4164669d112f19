"""A document from any format: a list of paragraphs, none empty and none too long."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from nemo.collections.nlp.data.inputs.invisible import visible
from nemo.utils.errors import DataError
from nemo.utils.logging import logging

MAX_LINE_BYTES = 1 << 20  # longer lines are cut, so that one line cannot fill the memory
# Longer documents are cut. Running text has no boundaries to lose. Pairs are made from all documents in
# parallel (see pairs.py); with a few huge documents they would be made from one after another.
MAX_DOCUMENT_CHARS = 1 << 18

_LINE_END = re.compile(r"[\r\n]+")
_MAX_PARAGRAPH_CHARS = MAX_LINE_BYTES // 4  # at up to four bytes each


@dataclass
class Oddities:
    """Defects of a text that were repaired while reading.

    Attributes:
        cuts: number of cuts in lines that were too long.
        nul_characters: number of NUL characters removed.
        replaced_bytes: number of bytes replaced because they were not UTF-8.
        bad_records: number of records skipped.
    """

    cuts: int = 0
    nul_characters: int = 0
    replaced_bytes: int = 0
    bad_records: int = 0

    def tell(self) -> Iterator[str]:
        """One phrase per kind of defect that occurred, for the log."""
        for count, what in (
            (self.cuts, f"cuts in lines over {MAX_LINE_BYTES} bytes"),
            (self.nul_characters, "NUL characters removed"),
            (self.replaced_bytes, "invalid bytes replaced"),
            (self.bad_records, "bad records skipped"),
        ):
            if count:
                yield f"{count} {what}"


def leave_out(problem: DataError, at_most: int, odd: Oddities) -> None:
    """Count and log a bad record; raise `problem` if there are too many."""
    odd.bad_records += 1
    if odd.bad_records > at_most:
        raise problem
    logging.warning("skipped: %s", problem)


def documents_of(text: str, title: str, odd: Oddities) -> Iterator[list[str]]:
    """Split the text of one record into documents: one, several if it is very long, none if it is empty.

    A title at the start of the text is dropped: it is not a sentence that the next one continues.
    """
    if "\0" in text:
        odd.nul_characters += text.count("\0")
        text = text.replace("\0", "")
    lines = text.split("\n") if "\r" not in text else _LINE_END.split(text)
    paragraphs = [paragraph for line in lines if visible(paragraph := line.strip())]
    if paragraphs and visible(paragraphs[0]) == visible(title.strip()):
        del paragraphs[0]
    if len(text) <= MAX_DOCUMENT_CHARS:
        if paragraphs:
            yield paragraphs
        return
    document: list[str] = []
    size = 0
    for paragraph in paragraphs:
        for line in _cut(paragraph, odd):
            if document and size > MAX_DOCUMENT_CHARS:
                yield document
                document, size = [], 0
            document.append(line)
            size += len(line)
    if document:
        yield document


def _cut(paragraph: str, odd: Oddities) -> Iterator[str]:
    for start in range(0, len(paragraph), _MAX_PARAGRAPH_CHARS):
        odd.cuts += start > 0
        yield paragraph[start : start + _MAX_PARAGRAPH_CHARS]

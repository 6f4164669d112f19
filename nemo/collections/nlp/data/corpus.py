"""Text files -> documents: lists of paragraphs, read as a stream in bounded memory.

Only LF and CR LF end a line. What a document is depends on the file's layout, see `LAYOUTS`.
"""

import codecs
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from nemo.collections.nlp.data.sentences import SPLITTERS
from nemo.utils.errors import DataError, MissingFileError
from nemo.utils.logging import logging
from nemo.utils.lookup import choose

MAX_LINE_BYTES = 1 << 20  # longer lines are cut, so that one line cannot fill the memory
# Longer documents are cut. Running text has no borders that would mind; and pairs are made of all
# documents side by side (see pairs.py), which a few endless ones would turn into one after another.
MAX_DOCUMENT_CHARS = 1 << 18
SAMPLE_BYTES = 1 << 20  # what a layout is told from
ARTICLE_BYTES = 1024  # lines of at least this median length are articles, not paragraphs
NOT_TEXT = {"readme", "license", "licence", "copying", "notice", "changelog", "vocab"}

_TITLE = re.compile(r"= [^=].* =")
_HEADING = re.compile(r"=( =)* [^=].* (= )*=")


@dataclass(frozen=True)
class TextOptions:
    """How text files are read.

    Args:
        layout: a name in `LAYOUTS`, or "auto": told for each file from its first MiB.
        sentences: a name in `sentences.SPLITTERS`, or "auto": told from a sample of the corpus.
        invalid_bytes: what to do with bytes that are not UTF-8: "error", or "replace" each by U+FFFD.

    Raises:
        UsageError: a name that is not known.
    """

    layout: str = "auto"
    sentences: str = "auto"
    invalid_bytes: str = "error"

    def __post_init__(self) -> None:
        choose({"auto": None, **LAYOUTS}, self.layout, what="layout")
        choose({"auto": None, **SPLITTERS}, self.sentences, what="sentence splitter")
        choose({"error": None, "replace": None}, self.invalid_bytes, what="invalid_bytes")


@dataclass(frozen=True)
class Layout:
    """Which lines, stripped, start a new document, and which are no text of it."""

    meaning: str
    starts_document: Callable[[str], object]
    is_dropped: Callable[[str], object]


LAYOUTS = {
    "headings": Layout("`= Title =` starts a document", _TITLE.fullmatch, _HEADING.fullmatch),
    "blank": Layout("a blank line ends a document", lambda text: not text, lambda text: False),
    "lines": Layout("every line is a document", lambda text: True, lambda text: False),
    "running": Layout("running text, cut into documents", lambda text: False, lambda text: False),
}


AUTO = TextOptions()


def detect_layout(lines: list[str]) -> str:
    """The name in `LAYOUTS` that fits a sample of a file's lines.

    Headings count if there is a title and one line in a hundred is a heading, as in WikiText.
    Lines without blank ones between them are articles (one per line, as NVIDIA's BERT scripts write
    them) when they are long. Shorter ones are paragraphs or sentences, and neighbours belong together:
    abc_news without its blank lines (median 120 to 150 bytes, WikiText's paragraphs 530) would be
    documents of one sentence each, and no sentence would ever follow another. So they are running text.
    Where nearly every line stands between blank ones, blank lines part paragraphs, not documents.
    """
    stripped = [line.strip() for line in lines]
    texts = [line for line in stripped if line]
    headings = sum(bool(_HEADING.fullmatch(line)) for line in texts)
    if headings * 100 >= len(texts) and any(map(_TITLE.fullmatch, texts)):
        return "headings"
    if texts and median(len(line.encode()) for line in texts) >= ARTICLE_BYTES:
        return "lines"
    blocks = [len(block.split("\n")) for block in re.split(r"\n\n+", "\n".join(stripped).strip("\n"))]
    return "blank" if len(blocks) > 1 and median(blocks) > 1 else "running"


def files_of(path: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[Path]:
    """The text files of a corpus: a file, the `*.txt` of a folder sorted by name, or a list of files.

    Files of a folder that are not text of the corpus (README.txt, vocab.txt, other endings) are
    left out and named in the log.

    Raises:
        MissingFileError: nothing is there.
        DataError: a folder without text, or an entry that is no regular file. A link in a folder is
            refused too, as it may lead anywhere; give its target.
    """
    if not isinstance(path, str | os.PathLike):
        return [file for each in path for file in files_of(each)]
    path = Path(path)
    if not path.exists():
        raise MissingFileError("no such file or folder", where=path)
    if not path.is_dir():
        return [_regular(path)]
    entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    texts = [e for e in entries if e.suffix == ".txt" and e.stem.lower() not in NOT_TEXT]
    ignored = [e.name for e in entries if e not in texts and e.is_file()]
    if ignored:
        logging.info("%s: not read as text: %s", path, ", ".join(ignored))
    if not texts:
        raise DataError("no text in this folder", where=path, expected="files named *.txt")
    for file in texts:
        if file.is_symlink():
            raise DataError("a link, not a file", where=file, fix=f"give {os.readlink(file)} itself")
    return [_regular(file) for file in texts]


def _regular(path: Path) -> Path:
    # Opening a pipe or a socket would wait for ever.
    if not path.is_file():
        raise DataError("not a regular file", where=path)
    return path


class TextReader:
    """One text file: its documents, and counts of what was odd in it.

    Attributes:
        layout: name in `LAYOUTS`.
        bytes_read: how far the file has been read.

    Raises:
        DataError: the file is binary or UTF-16, or (while reading) holds bytes that are not UTF-8.
    """

    def __init__(self, path: str | os.PathLike[str], options: TextOptions = AUTO):
        self.path = path
        self.invalid_bytes = options.invalid_bytes
        self.bytes_read = self.cuts = self.nul_characters = self.replaced_bytes = 0
        head = self._checked_head()
        self.layout = detect_layout(head) if options.layout == "auto" else options.layout

    def _checked_head(self) -> list[str]:
        with open(self.path, "rb") as file:
            head = file.read(SAMPLE_BYTES)
        if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            fix = "convert it, for example with iconv -f utf-16 -t utf-8"
            raise DataError("text in UTF-16", where=self.path, expected="UTF-8", fix=fix)
        if head.count(0) * 100 > len(head):
            found = f"{head.count(0)} NUL bytes in the first {len(head)}"
            raise DataError("binary?", where=self.path, found=found, expected="UTF-8 text")
        lines = head.decode(errors="replace").split("\n")
        # The last line of a sample may be half a line.
        return lines[:-1] if len(head) == SAMPLE_BYTES and len(lines) > 1 else lines

    def documents(self) -> Iterator[list[str]]:
        """Documents as lists of paragraphs: stripped lines that are neither blank nor headings."""
        layout = LAYOUTS[self.layout]
        document: list[str] = []
        size = 0
        for line in self._lines():
            text = line.strip()
            if document and (layout.starts_document(text) or size > MAX_DOCUMENT_CHARS):
                yield document
                document, size = [], 0
            if text and not layout.is_dropped(text):
                document.append(text)
                size += len(text)
        if document:
            yield document
        self._report()

    def _lines(self) -> Iterator[str]:
        decode = codecs.getincrementaldecoder("utf-8")(
            "strict" if self.invalid_bytes == "error" else "replace"
        )
        number = 1
        with open(self.path, "rb") as file:
            while piece := file.readline(MAX_LINE_BYTES):
                is_cut = len(piece) == MAX_LINE_BYTES and not piece.endswith(b"\n")
                try:
                    # A character that a cut goes through waits in the decoder for its other bytes.
                    text = decode.decode(piece, final=not is_cut)
                except UnicodeDecodeError as error:
                    offset = self.bytes_read - len(decode.getstate()[0]) + error.start
                    raise self._not_utf8(number, offset, error.object[error.start]) from None
                if not self.bytes_read:
                    text = text.removeprefix("\ufeff")
                self.bytes_read += len(piece)
                if "\0" in text:
                    self.nul_characters += text.count("\0")
                    text = text.replace("\0", "")
                if "\ufffd" in text:
                    self.replaced_bytes += text.count("\ufffd") - piece.count("\ufffd".encode())
                yield text
                self.cuts += is_cut
                number += not is_cut

    def _not_utf8(self, number: int, offset: int, byte: int) -> DataError:
        return DataError(
            "text that is not UTF-8",
            where=f"{self.path}:{number}",
            found=f"byte 0x{byte:02x} at offset {offset} of the file",
            fix="convert the file, for example with iconv -f latin1 -t utf-8, "
            "or have such bytes replaced (invalid_bytes='replace')",
        )

    def _report(self) -> None:
        oddities = {
            f"cuts in lines over {MAX_LINE_BYTES} bytes": self.cuts,
            "NUL characters removed": self.nul_characters,
            "invalid bytes replaced": self.replaced_bytes,
        }
        for what, count in oddities.items():
            if count:
                logging.warning("%s: %d %s", self.path, count, what)


def read_documents(path: str | os.PathLike[str], options: TextOptions = AUTO) -> Iterator[list[str]]:
    """The documents of one text file, each a list of paragraphs. See `TextReader`."""
    return TextReader(path, options).documents()

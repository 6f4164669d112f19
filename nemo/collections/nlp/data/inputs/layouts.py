"""What a document is in plain text: where one starts, and which lines are no text of it."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

ARTICLE_BYTES = 1024  # lines of at least this median length are articles, not paragraphs

_TITLE = re.compile(r"= [^=].* =")
_HEADING = re.compile(r"=( =)* [^=].* (= )*=")


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

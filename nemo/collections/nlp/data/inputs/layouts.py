"""Layouts of plain text: where a document starts, and which lines are not part of its text."""

import html
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import median

from nemo.collections.nlp.data.inputs.invisible import visible

ARTICLE_BYTES = 1024  # lines of at least this median length are articles, not paragraphs
MANY_LINES = 20  # lines between two blank lines: fewer long lines are one document, more are one article each
MANY_EXCERPTS = 0.2  # share of a file that looks like another layout, from which on a warning is logged
FEW_DOCUMENTS = 5  # in one excerpt of a file, too few to detect its layout

_TITLE = re.compile(r"= [^=].* =")
_HEADING = re.compile(r"=( =)* [^=].* (= )*=")
_DOC = re.compile(r"<doc id=.*>")
_TITLE_OF_DOC = re.compile(r"\stitle=([\"'])(.*?)\1(?=\s+\w+=|\s*>$)")
_END_OF_DOC = "</doc>"


@dataclass(frozen=True)
class Layout:
    """Which lines start a new document. Lines are given from their first to their last visible character.

    Attributes:
        meaning: the rule in words.
        starts_document: returns a true value for a line that starts a document.
        is_dropped: returns a true value for a line that is not text; None if all lines are text.
        title: returns the title in a line that starts a document, so that the next line is dropped if it
            repeats it; None without titles.
    """

    meaning: str
    starts_document: Callable[[str], object]
    is_dropped: Callable[[str], object] | None = None
    title: Callable[[str], str | None] | None = None


def _is_tag(text: str) -> bool:
    return text == _END_OF_DOC or bool(_DOC.fullmatch(text))


def _title_in_tag(text: str) -> str | None:
    found = _TITLE_OF_DOC.search(text)
    return html.unescape(found[2]) if found else None


LAYOUTS = {
    "headings": Layout("`= Title =` starts a document", _TITLE.fullmatch, _HEADING.fullmatch),
    "wikiextractor": Layout("`<doc id=...>` starts a document", _DOC.fullmatch, _is_tag, _title_in_tag),
    "blank": Layout("a blank line ends a document", lambda text: not text),
    "lines": Layout("every line is a document", lambda text: True),
    "running": Layout("running text, cut into documents", lambda text: False),
}


def detect_layout(lines: Sequence[str]) -> str:
    """Detect the layout of a file, a name in `LAYOUTS`.

    Headings: there is a title, and at least one line in a hundred is a heading, as in WikiText. The same
    rule holds for the tags that WikiExtractor puts around articles.
    Blank: blank lines separate documents if most lines are in blocks of several; if most lines stand alone,
    blank lines separate paragraphs.
    Lines: long lines (one article per line, as NVIDIA's BERT scripts write them) are documents, unless blank
    lines separate them into blocks of a few; one blank line in a hundred is ignored as a slip.
    Running: shorter lines without blank ones are paragraphs or sentences that belong together. In abc_news
    without its blank lines (median 120 to 150 bytes; WikiText's paragraphs have 530), each line would be a
    document of one sentence, and no sentence would ever follow another.

    Args:
        lines: excerpts from all over the file, including its first lines.
    """
    stripped = [visible(line.strip()) for line in lines]
    texts = [line for line in stripped if line]
    if any(map(_DOC.fullmatch, texts)) and (_END_OF_DOC in texts or _DOC.fullmatch(texts[0])):
        return "wikiextractor"
    headings = sum(bool(_HEADING.fullmatch(line)) for line in texts)
    if headings * 100 >= len(texts) and any(map(_TITLE.fullmatch, texts)):
        return "headings"
    blocks = [len(list(block)) for is_text, block in groupby(stripped, bool) if is_text]
    has_ends = len(blocks) > 1 and 2 * sum(size for size in blocks if size > 1) > len(texts)
    if texts and median(len(line.encode()) for line in texts) >= ARTICLE_BYTES:
        return "blank" if has_ends and len(texts) < MANY_LINES * len(blocks) else "lines"
    return "blank" if has_ends else "running"


def other_layout(excerpts: Sequence[Sequence[str]], layout: str) -> str | None:
    """Another layout that fits many excerpts of a file and splits them differently from `layout`; or None."""
    found: Counter[str] = Counter()
    for lines in excerpts:
        own = detect_layout(lines)
        if own not in (layout, "running"):
            numbers = [_num_documents(lines, name) for name in (own, layout)]
            found[own] += max(numbers) >= FEW_DOCUMENTS and max(numbers) > 2 * min(numbers)
    if found.total() > MANY_EXCERPTS * len(excerpts):
        return found.most_common(1)[0][0]
    return None


def _num_documents(lines: Sequence[str], layout: str) -> int:
    """About how many documents begin in some lines."""
    has_text, number = False, 0
    for text in lines:
        seen = visible(text.strip())
        if LAYOUTS[layout].starts_document(seen):
            number += has_text
            has_text = False
        has_text = has_text or bool(seen)
    return number + has_text

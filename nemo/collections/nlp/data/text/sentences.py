"""Paragraphs -> sentences: by Punkt, by a rule for Chinese and Japanese, or unsplit.

The rule uses the sentence-final marks of GB/T 15834-2011, and the ellipsis; a semicolon ends no sentence.
Full
stops also end one, as in scientific texts: `．`, and `.` before white space or the end; but not in numbers
(3.5, ２．０), or after enumerations (1. 2.), initials (J. K.) and some abbreviations.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nemo.collections.nlp.data.text.punkt import Punkt, train_punkt
from nemo.utils.files import write_atomically
from nemo.utils.logging import logging
from nemo.utils.lookup import choose
from nemo.utils.progress import working

Splitter = Callable[[str], list[str]]

IDEOGRAPHS = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
CJK_RANGES = f"\u3040-\u30ff\u31f0-\u31ff{IDEOGRAPHS}"
CJK = re.compile(f"[{CJK_RANGES}]")
_CJK_RUN = re.compile(f"[{CJK_RANGES}]++")
_CJK_SHARE = 0.3  # share of characters above which a paragraph is Chinese or Japanese
_SAME_LINES = 1.05  # sentences per line, below which lines are already sentences

_FINAL, _CLOSING = "。！？｡…‼⁇⁈⁉", "\"'”’」』﹂﹄｣)）】〕》〉\\]］}｝〗＂"
_INNER = "[!?](?=[A-Za-z0-9/=&])"  # as in http://a.cn/?q=1
_LETTERS, _DIGITS = "A-Za-zＡ-Ｚａ-ｚ", "0-9０-９"
_ABBREVIATIONS = ("Mr", "Mrs", "Ms", "Dr", "Prof", "St", "No", "Vol", "Fig", "vol", "fig", "pp", "cf", "vs")
_NO_STOP = (
    "".join(f"(?<!(?<![{_LETTERS}]){word}[.．])" for word in _ABBREVIATIONS)
    + f"(?<![\\s.．·][{_LETTERS}][.．])(?!(?<=[A-Z]\\.)\\s?[A-Z]\\.)"
)
# Bounded, because there may be a million dots in a row.
_STOP = f"(?:．(?:(?<![{_DIGITS}]．)|(?![{_DIGITS}]))|\\.(?=[.{_CLOSING}]{{0,8}}(?:\\s|$))){_NO_STOP}"
_COUNT = f"\\s*+(?:[{_DIGITS}]{{1,3}}|[{_LETTERS}])[.．]"  # at the beginning of a sentence
_END = f"(?:[{_FINAL}!?]|{_STOP})++[{_CLOSING}]*+"
_TEXT = f"(?:[^{_FINAL}!?.．]++|{_INNER}|(?!{_STOP})[.．])++"
_CJK_SENTENCE = re.compile(f"(?:{_COUNT})?+{_TEXT}(?:{_END})?|(?:{_COUNT})?+{_END}|{_COUNT}")


def is_cjk(paragraph: str) -> bool:
    """Whether a paragraph is Chinese or Japanese; it may contain words in other scripts."""
    if paragraph.isascii():
        return False
    least = _CJK_SHARE * len(paragraph)
    # Each such character has 3 or 4 bytes, so the length in bytes gives a quick upper bound.
    if len(paragraph.encode()) - len(paragraph) <= 2 * least:
        return False
    return sum(map(len, _CJK_RUN.findall(paragraph))) > least


def split_lines(paragraph: str) -> list[str]:
    """The paragraph is one sentence."""
    return [paragraph]


def split_cjk(paragraph: str) -> list[str]:
    """Split after sentence-final punctuation and the closing quotes and brackets after it."""
    sentences = (sentence.strip() for sentence in _CJK_SENTENCE.findall(paragraph))
    return [sentence for sentence in sentences if sentence]


SPLITTERS: dict[str, Callable[[list[str]], Splitter]] = {
    "punkt": train_punkt,
    "cjk": lambda paragraphs: split_cjk,
    "line": lambda paragraphs: split_lines,
}


def make_splitter(excerpt: list[str], name: str = "auto") -> Splitter:
    """A function from a paragraph to its sentences; the same excerpt gives the same function.

    Args:
        excerpt: paragraphs of the corpus; a few hundred thousand characters are enough.
        name: a name in `SPLITTERS`. "auto": "cjk" for paragraphs with 30% Chinese or Japanese characters; for
            others "line" if Punkt would split hardly any line (they are already sentences, and it could only
            do harm), else "punkt".

    Raises:
        UsageError: `name` is unknown.
    """
    if name != "auto":
        return choose(SPLITTERS, name, what="sentence splitter")(excerpt)
    others = [paragraph for paragraph in excerpt if not is_cjk(paragraph)]
    if len(others) < len(excerpt):
        logging.info("Chinese or Japanese text: split into sentences at punctuation")
        return ByScript(make_splitter(others)) if others else split_cjk
    with working("learning to split sentences"):
        punkt = train_punkt(excerpt)
    if sum(len(punkt(paragraph)) for paragraph in excerpt) <= _SAME_LINES * len(excerpt):
        logging.info("each line is one sentence")
        return split_lines
    size = sum(map(len, excerpt))
    logging.info("splitting sentences with Punkt, trained on %d characters of the corpus", size)
    return punkt


class ByScript:
    """Splits Chinese and Japanese paragraphs by the rule, and others with another splitter."""

    def __init__(self, split_other: Splitter):
        self.split_other = split_other

    def __call__(self, paragraph: str) -> list[str]:
        return split_cjk(paragraph) if is_cjk(paragraph) else self.split_other(paragraph)


def save_splitter(splitter: Splitter, path: Path) -> None:
    """Save a splitter from `make_splitter`, with what it learned, to a file.

    Raises:
        StorageError: it cannot be written.
    """
    write_atomically(path, json.dumps(_description(splitter)).encode())


def load_splitter(path: Path) -> Splitter:
    """Load a splitter that `save_splitter` wrote; it gives the same sentences."""
    return _from_description(json.loads(path.read_bytes()))


def _description(splitter: Splitter) -> dict[str, Any]:
    if isinstance(splitter, ByScript):
        return {"splitter": "by_script", "others": _description(splitter.split_other)}
    if isinstance(splitter, Punkt):
        return {"splitter": "punkt", "parameters": splitter.parameters}
    return {"splitter": "cjk" if splitter is split_cjk else "line"}


def _from_description(description: dict[str, Any]) -> Splitter:
    match description["splitter"]:
        case "by_script":
            return ByScript(_from_description(description["others"]))
        case "punkt":
            return Punkt(description["parameters"])
        case "cjk":
            return split_cjk
        case _:
            return split_lines

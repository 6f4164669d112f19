"""Paragraphs -> sentences: by Punkt, by a rule for Chinese and Japanese, or as they are.

The rule takes the marks that end a sentence in GB/T 15834-2011, and the ellipsis; a semicolon ends none.
"""

import re
from collections.abc import Callable

from nemo.utils.logging import logging
from nemo.utils.lookup import choose

Splitter = Callable[[str], list[str]]

CJK_RANGES = "\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
CJK = re.compile(f"[{CJK_RANGES}]")
_CJK_SHARE = 0.3  # of the characters, above which a paragraph is Chinese or Japanese
_SAME_LINES = 1.05  # sentences per line, below which lines already are sentences

_FINAL, _CLOSING = "。！？｡…‼⁇⁈⁉", "\"'”’」』﹂﹄｣)）】〕》〉\\]］}｝〗＂"
_INNER = "[!?](?=[A-Za-z0-9/=&])"  # as in http://a.cn/?q=1
_END = f"[{_FINAL}!?]++[{_CLOSING}]*+"
_CJK_SENTENCE = re.compile(f"(?:[^{_FINAL}!?]++|{_INNER})++(?:{_END})?|{_END}")


def is_cjk(paragraph: str) -> bool:
    """Whether a paragraph is Chinese or Japanese, though there may be words of other scripts in it."""
    return len(CJK.findall(paragraph)) > _CJK_SHARE * len(paragraph)


def split_lines(paragraph: str) -> list[str]:
    """The paragraph is one sentence."""
    return [paragraph]


def split_cjk(paragraph: str) -> list[str]:
    """Sentences end after final punctuation and the quotes and brackets that close behind it."""
    sentences = (sentence.strip() for sentence in _CJK_SENTENCE.findall(paragraph))
    return [sentence for sentence in sentences if sentence]


def train_punkt(sample: list[str]) -> Splitter:
    """Punkt (Kiss and Strunk 2006) with the abbreviations it finds in the sample; needs no download."""
    from nltk.tokenize.punkt import PunktSentenceTokenizer, PunktTrainer

    trainer = PunktTrainer()
    trainer.train("\n".join(sample), finalize=True)
    return PunktSentenceTokenizer(trainer.get_params()).tokenize


SPLITTERS: dict[str, Callable[[list[str]], Splitter]] = {
    "punkt": train_punkt,
    "cjk": lambda sample: split_cjk,
    "line": lambda sample: split_lines,
}


def make_splitter(sample: list[str], name: str = "auto") -> Splitter:
    """A function from a paragraph to its sentences, the same for the same sample.

    Args:
        sample: paragraphs of the corpus; a few hundred thousand characters are enough.
        name: a name in `SPLITTERS`. "auto" takes "cjk" for paragraphs with 30 % Chinese or Japanese
            characters; for others "line" where Punkt would split hardly any line (they are sentences
            already, and it could only do harm), else "punkt".

    Raises:
        UsageError: `name` is unknown.
    """
    if name != "auto":
        return choose(SPLITTERS, name, what="sentence splitter")(sample)
    others = [paragraph for paragraph in sample if not is_cjk(paragraph)]
    if len(others) < len(sample):
        logging.info("in Chinese or Japanese sentences end at its punctuation")
        return _by_script(make_splitter(others)) if others else split_cjk
    punkt = train_punkt(sample)
    if sum(len(punkt(paragraph)) for paragraph in sample) <= _SAME_LINES * len(sample):
        logging.info("every line is a sentence")
        return split_lines
    size = sum(map(len, sample))
    logging.info("sentences are found by Punkt, trained on %d characters of the corpus", size)
    return punkt


def _by_script(split_other: Splitter) -> Splitter:
    return lambda paragraph: split_cjk(paragraph) if is_cjk(paragraph) else split_other(paragraph)

"""Guesses the encoding of text that is not UTF-8, to give the right advice for converting it."""

import codecs
import re
import unicodedata
from collections.abc import Callable

_ENOUGH = 0.7  # share of the non-ASCII characters that must fit for an encoding to be accepted
_MARKS = frozenset("，。、的一")  # occur in any Chinese text of some length
_SHORT = 20  # characters; in shorter text none of these may occur
_FEW = 8  # letters; too few to recognize a language
_HIGH_BYTES = re.compile(rb"[\x80-\xff]+")


def likely_encoding(text: bytes) -> str:
    """The likely encoding, by its name for iconv, or "" if none is likely.

    Args:
        text: text that starts at the beginning of a line; it may end anywhere.
    """
    if _is_mostly_utf8(text):
        return ""
    # Two-byte characters are adjacent, accented letters stand between other letters.
    runs = [len(run) for run in _HIGH_BYTES.findall(text)]
    fits = _OF_TWO_BYTES if sum(n for n in runs if n > 1) > 0.8 * sum(runs) else _OF_ONE_BYTE
    scores = {name: _score(text, name, fit) for name, fit in fits.items()}
    best = max(scores, key=lambda name: scores[name])
    return best if scores[best] >= _ENOUGH else ""


def _is_mostly_utf8(text: bytes) -> bool:
    decoded = text.decode(errors="replace")
    wrong = decoded.count("\ufffd")
    return sum(not character.isascii() for character in decoded) - wrong > wrong


def _score(text: bytes, encoding: str, fits: Callable[[str], float]) -> float:
    try:
        decoded = codecs.getincrementaldecoder(encoding)().decode(text)
    except UnicodeDecodeError:
        return 0.0
    not_ascii = "".join(character for character in decoded if not character.isascii())
    return fits(not_ascii) if not_ascii else 0.0


def _share_of(characters: str, encoding: str, first: int, last: int) -> float:
    """The share of characters that are common in Chinese text, by themselves or by their first byte."""

    def is_common(character: str) -> bool:
        code = character.encode(encoding, errors="ignore")
        return (
            "\u3000" <= character <= "\u303f"
            or "\uff00" <= character <= "\uff60"
            or (len(code) == 2 and first <= code[0] <= last)
        )

    return sum(map(is_common, characters)) / len(characters)


def _simplified(characters: str) -> float:
    has_marks = len(characters) < _SHORT or not _MARKS.isdisjoint(characters)
    return has_marks * _share_of(characters, "gb2312", 0xB0, 0xD7)


def _traditional(characters: str) -> float:
    has_marks = len(characters) < _SHORT or not _MARKS.isdisjoint(characters)
    return has_marks * _share_of(characters, "big5", 0xA4, 0xC6)


def _japanese(characters: str) -> float:
    """1 if at least one character in seven is Hiragana; half-width Katakana, rare in text, lowers it."""
    hiragana = sum("\u3041" <= character <= "\u309f" for character in characters)
    half_width = sum("\uff61" <= character <= "\uff9f" for character in characters)
    return min(1.0, max(0, hiragana - half_width) * 7 / len(characters))


def _korean(characters: str) -> float:
    return sum("\uac00" <= character <= "\ud7a3" for character in characters) / len(characters)


def _western(characters: str) -> float:
    """The share of letters, mostly lower-case as in words, and punctuation."""
    categories = [unicodedata.category(character)[0] for character in characters]
    is_shouting = categories.count("L") > _FEW and sum(c.isupper() for c in characters) * 2 > len(characters)
    return 0.0 if is_shouting else sum(c in "LPSN" for c in categories) / len(characters)


_Fits = dict[str, Callable[[str], float]]
_OF_TWO_BYTES: _Fits = {
    "euc_kr": _korean,
    "gb18030": _simplified,
    "big5": _traditional,
    "shift_jis": _japanese,
    "euc_jp": _japanese,
}
_OF_ONE_BYTE: _Fits = {"cp1252": _western}

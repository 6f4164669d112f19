"""The characters of a corpus: its scripts, and characters that should not be in it."""

import unicodedata
from collections import Counter

import numpy as np

REPLACEMENT = "\ufffd"  # stands for bytes that could not be read
# Most Unicode names begin with the script; these are the exceptions.
_SCRIPTS = {
    "CJK": "Han",
    "IDEOGRAPHIC": "Han",
    "KATAKANA-HIRAGANA": "Katakana",
    "FULLWIDTH": "Latin",
    "HALFWIDTH": "Katakana",
    "MICRO": "Greek",
    "FEMININE": "Latin",
    "MASCULINE": "Latin",
    "MODIFIER": "modifiers",
    "MATHEMATICAL": "mathematics",
}


def characters_of(code_points: np.ndarray) -> dict[str, int]:
    """Character -> how often it occurs, the most frequent first.

    Args:
        code_points: how often each code point occurs, int64 [0x110000].
    """
    present = np.flatnonzero(code_points)
    order = present[np.argsort(-code_points[present], kind="stable")]
    return {chr(code): int(code_points[code]) for code in order.tolist()}


def scripts_of(characters: dict[str, int]) -> dict[str, float]:
    """Script -> its share of the letters, the largest first."""
    counts: Counter[str] = Counter()
    for character, times in characters.items():
        if character.isalpha():
            first = unicodedata.name(character, "unnamed").partition(" ")[0]
            counts[_SCRIPTS.get(first, first.capitalize())] += times
    return {script: times / counts.total() for script, times in counts.most_common()}


def is_odd(character: str) -> bool:
    """Whether no text should have it: control characters, private-use ones, and what was not UTF-8."""
    return character == REPLACEMENT or (character != "\t" and unicodedata.category(character) in ("Cc", "Co"))

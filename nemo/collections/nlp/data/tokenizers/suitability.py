"""Checks whether a tokenizer suits a text, for the report of `inspect` and warnings of other commands."""

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from nemo.collections.nlp.data.tokenizers.base import TokenizerSpec
from nemo.collections.nlp.data.tokenizers.opening import keeps_capitals

MANY_UNKNOWN = 0.01  # of the tokens
MANY_LOST = 0.005  # of the letters; in English, 0.1 % have accents
NAMED = 6


@dataclass(frozen=True)
class LostMarks:
    """What a tokenizer that strips accents removes from the letters of a text.

    Attributes:
        share: share of letters that lose a mark.
        letters: the most frequent of these letters -> what remains of each.
    """

    share: float
    letters: dict[str, str]


def lost_marks(characters: Mapping[str, int], normalized: Callable[[str], str]) -> LostMarks:
    """What BERT's lower-casing strips from letters besides case: accents, dakuten, vowel signs.

    Args:
        characters: how often each occurs in the text.
        normalized: the tokenizer's normalization of a text.
    """
    letters = {c: times for c, times in characters.items() if unicodedata.category(c)[0] in "LM"}
    lost = {}
    for letter, times in letters.items():
        small, left = letter.lower(), normalized(letter).strip()
        if left != small and left == _without_marks(small):
            lost[letter] = times
    most = sorted(lost, key=lambda letter: -lost[letter])[:NAMED]
    share = sum(lost.values()) / max(sum(letters.values()), 1)
    return LostMarks(share, {letter: _without_marks(letter.lower()) for letter in most})


def strips_marks(tokenizer: TokenizerSpec) -> bool:
    """Whether the tokenizer strips anything from letters besides case."""
    return tokenizer.normalized("é") == "e"


def warning_of_lost_marks(lost: LostMarks) -> str | None:
    """A warning; None if little is lost."""
    if lost.share < MANY_LOST:
        return None
    return (
        f"lower-casing also strips marks from {lost.share:.1%} of the letters of this text "
        f"({', '.join(_told(letter, left) for letter, left in lost.letters.items())}): to keep them, leave "
        "out --do_lower_case, or use a tokenizer that keeps them."
    )


def warning_of_lost_marks_in(paragraphs: Iterable[str], tokenizer: TokenizerSpec) -> str | None:
    """A warning of the marks lost in a text; None if few are."""
    if not strips_marks(tokenizer):
        return None
    characters: Counter[str] = Counter()
    for paragraph in paragraphs:
        characters.update(paragraph)
    return warning_of_lost_marks(lost_marks(characters, tokenizer.normalized))


def lacks_capitals(tokenizer: TokenizerSpec) -> bool:
    """Whether a cased tokenizer has no capital letters: a vocabulary made from lower-cased text."""
    specials = set(tokenizer.special_ids.tolist())
    texts = (token for i, token in enumerate(tokenizer.vocabulary()) if i not in specials)
    return keeps_capitals(tokenizer) and all(text == text.lower() for text in texts)


def warning_of_unknown(share: float, is_uncased: bool = False) -> str | None:
    """A warning of the share of unknown tokens; None if it is small.

    Args:
        is_uncased: see `lacks_capitals`.
    """
    if share <= MANY_UNKNOWN:
        return None
    advice = (
        "its vocabulary has no capital letters, so lower-case the text (--do_lower_case)"
        if is_uncased
        else "use a tokenizer trained on such text (nemo-bert tokenizer)"
    )
    return f"{share:.1%} of the tokens are unknown; they can be neither learned nor predicted: {advice}."


def _without_marks(text: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFD", text) if unicodedata.category(c) != "Mn")


def _told(letter: str, left: str) -> str:
    if not left:
        return f"U+{ord(letter):04X} is dropped"
    is_whole = unicodedata.normalize("NFC", left) == letter  # a Korean syllable, which has no marks
    return f"{letter} is taken apart" if is_whole else f"{letter} becomes {left}"

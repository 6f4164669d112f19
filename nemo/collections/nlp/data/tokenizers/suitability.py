"""Does a tokenizer suit a text? What `inspect` reports and every command that reads text warns of."""

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from nemo.collections.nlp.data.tokenizers.base import TokenizerSpec
from nemo.collections.nlp.data.tokenizers.opening import keeps_capitals

MANY_UNKNOWN = 0.01  # of the tokens
MANY_LOST = 0.005  # of the letters: accents in English are 0.1 %
NAMED = 6


@dataclass(frozen=True)
class LostMarks:
    """What a tokenizer that strips accents removes from the letters of a text.

    Attributes:
        share: of the letters.
        letters: the most frequent of them -> what is left.
    """

    share: float
    letters: dict[str, str]


def lost_marks(characters: Mapping[str, int], normalized: Callable[[str], str]) -> LostMarks:
    """What lower-casing as BERT's takes from letters beside their case: accents, dakuten, vowel signs.

    Args:
        characters: how often each is in the text.
        normalized: what the tokenizer makes of a text before it cuts it.
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
    """Whether it takes anything from letters beside their case."""
    return tokenizer.normalized("é") == "e"


def warning_of_lost_marks(lost: LostMarks) -> str | None:
    """What to tell a person; None where little is lost."""
    if lost.share < MANY_LOST:
        return None
    return (
        f"lower-casing also strips marks from {lost.share:.1%} of the letters of this text "
        f"({', '.join(_told(letter, left) for letter, left in lost.letters.items())}): to keep them leave "
        "--do_lower_case out, or use a tokenizer that keeps them."
    )


def warning_of_lost_marks_in(paragraphs: Iterable[str], tokenizer: TokenizerSpec) -> str | None:
    """The same for a text."""
    if not strips_marks(tokenizer):
        return None
    characters: Counter[str] = Counter()
    for paragraph in paragraphs:
        characters.update(paragraph)
    return warning_of_lost_marks(lost_marks(characters, tokenizer.normalized))


def lacks_capitals(tokenizer: TokenizerSpec) -> bool:
    """Whether it keeps capital letters, and has none: a vocabulary of lower-cased text."""
    specials = set(tokenizer.special_ids.tolist())
    texts = (token for i, token in enumerate(tokenizer.vocabulary()) if i not in specials)
    return keeps_capitals(tokenizer) and all(text == text.lower() for text in texts)


def warning_of_unknown(share: float, is_uncased: bool = False) -> str | None:
    """What to tell a person of the share of unknown tokens; None where they are few.

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
    return f"{share:.1%} of the tokens are unknown, and can be neither learned nor predicted: {advice}."


def _without_marks(text: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFD", text) if unicodedata.category(c) != "Mn")


def _told(letter: str, left: str) -> str:
    if not left:
        return f"U+{ord(letter):04X} is dropped"
    is_whole = (
        unicodedata.normalize("NFC", left) == letter
    )  # a Korean syllable, of whose parts none is a mark
    return f"{letter} is taken apart" if is_whole else f"{letter} becomes {left}"

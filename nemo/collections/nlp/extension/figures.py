"""How a vocabulary splits a text: pieces per word, unknown words, and the words that change most."""

from collections.abc import Sequence
from dataclasses import dataclass

from nemo.collections.nlp.data.tokenizers import TokenizerSpec
from nemo.collections.nlp.extension.wordpiece import Words


@dataclass(frozen=True)
class Cut:
    """How a tokenizer splits words.

    Attributes:
        pieces: the pieces of each word, in order of the words.
        pieces_per_word: mean over all words of the text.
        unknown_share: share of words in the text with an unknown piece.
    """

    pieces: Sequence[Sequence[str]]
    pieces_per_word: float
    unknown_share: float


def cut_of(words: Words, tokenizer: TokenizerSpec) -> Cut:
    """Split the words of a text with a tokenizer."""
    ids = [row.tolist() for row in tokenizer.encode_batch(list(words))]
    total = max(1, sum(words.values()))
    counted = list(zip(words.values(), ids, strict=True))
    return Cut(
        [tokenizer.ids_to_tokens(row) for row in ids],
        sum(count * len(row) for count, row in counted) / total,
        sum(count for count, row in counted if tokenizer.unk_id in row) / total,
    )


@dataclass(frozen=True)
class Change:
    """How a word is split before and after the extension.

    Attributes:
        count: its occurrences in the text.
        before, after: its pieces.
    """

    word: str
    count: int
    before: Sequence[str]
    after: Sequence[str]


def changes(words: Words, before: Cut, after: Cut) -> list[Change]:
    """The words that are split differently; first those that save most pieces in the whole text."""
    changed = [
        Change(word, count, old, new)
        for (word, count), old, new in zip(words.items(), before.pieces, after.pieces, strict=True)
        if old != new
    ]
    return sorted(changed, key=lambda change: (-change.count * (len(change.before) - 1), change.word))

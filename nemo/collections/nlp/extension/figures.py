"""How a vocabulary splits a text: pieces per word, unknown words, and the words that change most."""

from collections.abc import Sequence, Set
from dataclasses import dataclass

from nemo.collections.nlp.data.tokenizers import TokenizerSpec
from nemo.collections.nlp.extension.wordpiece import Words


@dataclass(frozen=True)
class Cut:
    """How a tokenizer splits words.

    Attributes:
        pieces: the pieces of each word, in order of the words.
        pieces_per_word: mean over all words of the text.
        unknown: the words with an unknown piece.
        unknown_share: their share of the words in the text.
    """

    pieces: Sequence[Sequence[str]]
    pieces_per_word: float
    unknown: Set[str]
    unknown_share: float


def cut_of(words: Words, tokenizer: TokenizerSpec) -> Cut:
    """Split the words of a text with a tokenizer."""
    ids = [row.tolist() for row in tokenizer.encode_batch(list(words))]
    total = max(1, sum(words.values()))
    unknown = {word for word, row in zip(words, ids, strict=True) if tokenizer.unk_id in row}
    return Cut(
        [tokenizer.ids_to_tokens(row) for row in ids],
        sum(count * len(row) for count, row in zip(words.values(), ids, strict=True)) / total,
        unknown,
        sum(words[word] for word in unknown) / total,
    )


@dataclass(frozen=True)
class Change:
    """How a word is split before and after the extension.

    Attributes:
        count: its occurrences in the text.
        before, after: its pieces.
        was_unknown: whether a piece was unknown before, so that the number of pieces means little.
    """

    word: str
    count: int
    before: Sequence[str]
    after: Sequence[str]
    was_unknown: bool

    @property
    def saved(self) -> int:
        """The pieces that it saves in the whole text."""
        return self.count * (len(self.before) - len(self.after))


def changes(words: Words, before: Cut, after: Cut) -> list[Change]:
    """The words that are split differently: first the unknown ones, the most frequent first; then the
    others, those that save most pieces first.
    """
    changed = [
        Change(word, count, old, new, word in before.unknown)
        for (word, count), old, new in zip(words.items(), before.pieces, after.pieces, strict=True)
        if old != new
    ]
    return sorted(changed, key=_rank)


def _rank(change: Change) -> tuple[bool, int, str]:
    return not change.was_unknown, -(change.count if change.was_unknown else change.saved), change.word

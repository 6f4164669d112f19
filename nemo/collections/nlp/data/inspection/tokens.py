"""Tokenizer statistics of a text: how many tokens, what it cannot spell, how much of a batch is padding."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from nemo.collections.nlp.data.samples.pairs import NUM_SPECIALS, make_pairs
from nemo.collections.nlp.data.tokenizers.base import TokenizerSpec
from nemo.utils.errors import DataError

SEQUENCE_LENGTHS = (128, 512)  # of the two phases of BERT's training
ENOUGH_PAIRS, MOST_EPOCHS = 100_000, 100
_MOST_CHARACTERS = 50_000


class Store(Protocol):
    """A token store, on disk or in memory."""

    tokens: np.ndarray
    starts_word: np.ndarray
    sentence_offsets: np.ndarray
    document_offsets: np.ndarray


@dataclass(frozen=True)
class PairFigures:
    """Pairs of one epoch at a length of sequences.

    Attributes:
        padding_share: of all places in a batch.
        random_share: pairs whose B does not follow A.
    """

    padding_share: float
    random_share: float


def pair_figures(store: Store, max_seq_length: int, documents: range | None = None) -> PairFigures | None:
    """What the pairs of documents are like on average; None where there is too little text for one.

    A few documents, all of whose pairs chance makes short in an epoch, would mislead: see `make_pairs`. So
    pairs of several epochs are looked at.

    Args:
        documents: whose pairs are looked at; default: all.
    """
    if len(store.document_offsets) < 2:
        return None
    number = tokens = random_ones = 0
    for epoch in range(MOST_EPOCHS):
        try:
            pairs = make_pairs(store, max_seq_length, epoch=epoch, documents=documents)
        except DataError:
            continue
        number += len(pairs)
        tokens += int(np.sum(pairs.a_length + pairs.b_length)) + NUM_SPECIALS * len(pairs)
        random_ones += int(np.sum(pairs.is_random))
        if number > ENOUGH_PAIRS:
            break
    return PairFigures(1 - tokens / (number * max_seq_length), random_ones / number) if number else None


def unigram_entropy(tokens: np.ndarray, tokenizer: TokenizerSpec) -> float:
    """Nats per token, specials left out: the loss of a model that knows only token frequencies."""
    counts = np.bincount(tokens, minlength=tokenizer.vocab_size)
    counts[tokenizer.special_ids] = 0
    shares = counts[counts > 0] / max(counts.sum(), 1)
    return float(-np.sum(shares * np.log(shares)))


def unknown_characters(characters: dict[str, int], tokenizer: TokenizerSpec) -> dict[str, int]:
    """Those of the characters, with their counts, that the tokenizer has no token for.

    Each is tried twice in a row: a vocabulary may have it at the beginning of a word only.
    """
    visible = [c for c in list(characters)[:_MOST_CHARACTERS] if c.isprintable() and not c.isspace()]
    encoded = tokenizer.encode_batch([c + c for c in visible])
    is_unknown = [tokenizer.unk_id in ids.tolist() for ids in encoded]
    return {c: characters[c] for c, unknown in zip(visible, is_unknown, strict=True) if unknown}

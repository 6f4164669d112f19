"""Tokenizer statistics of a text: entropy, unknown characters, padding and random pairs."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from nemo.collections.nlp.data.samples.pairs import NUM_SPECIALS, make_pairs
from nemo.collections.nlp.data.tokenizers.base import TokenizerSpec
from nemo.utils.errors import DataError

SEQUENCE_LENGTHS = (128, 512)  # the two phases of BERT's training
ENOUGH_PAIRS, MOST_EPOCHS = 10_000, 30
_MOST_CHARACTERS = 50_000


class StoreArrays(Protocol):
    """A token store, on disk or in memory."""

    tokens: np.ndarray
    starts_word: np.ndarray
    sentence_offsets: np.ndarray
    document_offsets: np.ndarray


@dataclass(frozen=True)
class PairFigures:
    """Statistics of the pairs of an epoch at one sequence length.

    Attributes:
        padding_share: share of all positions in a batch.
        random_share: share of random pairs.
    """

    padding_share: float
    random_share: float


def pair_figures(
    store: StoreArrays, max_seq_length: int, documents: range | None = None
) -> PairFigures | None:
    """Mean statistics of the pairs of documents; None if there is too little text for a pair.

    With few documents, one epoch may by chance have only short pairs (see `make_pairs`). So the mean is over
    several epochs.

    Args:
        documents: the documents to pair; default: all.
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
    """Unigram entropy, nats per token, without special tokens."""
    counts = np.bincount(tokens, minlength=tokenizer.vocab_size)
    counts[tokenizer.special_ids] = 0
    shares = counts[counts > 0] / max(counts.sum(), 1)
    return float(-np.sum(shares * np.log(shares)))


def unknown_characters(characters: dict[str, int], tokenizer: TokenizerSpec) -> dict[str, int]:
    """The characters without a token, with their counts.

    Each is tried twice in a row, because a vocabulary may have it only at the beginning of a word.
    """
    visible = [c for c in list(characters)[:_MOST_CHARACTERS] if c.isprintable() and not c.isspace()]
    encoded = tokenizer.encode_batch([c + c for c in visible])
    is_unknown = [tokenizer.unk_id in ids.tolist() for ids in encoded]
    return {c: characters[c] for c, unknown in zip(visible, is_unknown, strict=True) if unknown}

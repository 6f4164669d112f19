"""Token store -> pairs of text A and B, by the algorithm of Google's `create_pretraining_data.py`.

    While a document has sentences left: take the next ones until they hold T tokens. The first few,
    a random number of them, are A. B is what follows, or with probability 1/2 (and always
    when the chunk is one sentence) text from a random place; then what followed is put back. Tokens are
    removed from the longer side, at random ends, until A and B fit.

T is `max_seq_length - 3`, or with probability `short_seq_prob`, drawn once per document and epoch, any
smaller number down to 2. All documents take their step at once, in NumPy; A and B are runs of tokens in
the store, so a pair is four numbers and a label.

Where this differs from the original, which lets a pair be trained on wrongly:
- Pairs are cut to T, where it cuts to `max_seq_length - 3` and its short pairs come out too long.
- B of a random pair never is from A's own document, where it gives up after ten tries; only a corpus
  of one document takes B from elsewhere in it, neither touching A nor following it. Where there is no
  such place the pair is a true one, or left out if it has no second sentence.
- A sentence too long for any pair is cut into equal parts of at most half the space; it would lose
  all but its end.
"""

from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np

from nemo.utils.errors import DataError

NUM_SPECIALS = 3  # [CLS] A [SEP] B [SEP]
_STREAM = 1  # this use of randomness; datasets.py has others with the same seed and epoch


class Sentences(Protocol):
    """What pairs are made of; see `token_store.TokenStore`."""

    sentence_offsets: np.ndarray
    document_offsets: np.ndarray


@dataclass(frozen=True)
class PairTable:
    """n pairs, in the order of A in the corpus. Positions and lengths count tokens of the store.

    Attributes:
        a_start, b_start: int64 [n].
        a_length, b_length: int32 [n], at least 1.
        is_random: bool [n], False where B follows A in the corpus.
    """

    a_start: np.ndarray
    a_length: np.ndarray
    b_start: np.ndarray
    b_length: np.ndarray
    is_random: np.ndarray

    def __len__(self) -> int:
        return len(self.a_start)

    def __getitem__(self, rows: np.ndarray) -> "PairTable":
        return PairTable(*(getattr(self, field.name)[rows] for field in fields(self)))


def make_pairs(
    store: Sentences,
    max_seq_length: int,
    short_seq_prob: float = 0.1,
    seed: int = 0,
    epoch: int = 0,
    source: Any = "",
) -> PairTable:
    """The pairs of one epoch: a function of the arguments alone; `source` is for messages.

    Raises:
        DataError: the corpus is too small for a single pair.
    """
    rng = np.random.default_rng((seed, epoch, _STREAM))
    budget = max_seq_length - NUM_SPECIALS
    sentences, documents = _cut_long_sentences(store.sentence_offsets, store.document_offsets, budget)
    num_documents = len(documents) - 1
    is_short = rng.random(num_documents) < short_seq_prob
    targets = np.where(is_short, rng.integers(2, budget + 1, num_documents), budget)

    steps = []
    document, cursor = np.arange(num_documents), documents[:-1]
    while len(document):
        target, stop = targets[document], documents[document + 1]
        end = _end_of_run(sentences, cursor, target, stop)  # of the chunk
        split = cursor + rng.integers(1, np.maximum(end - cursor, 2))  # where A ends
        a_length = sentences[split] - sentences[cursor]
        elsewhere, its_stop, is_possible = _random_places(rng, documents, document, cursor, split)
        its_end = _end_of_run(sentences, elsewhere, target - a_length, its_stop)
        is_random = is_possible & ((end - cursor == 1) | (rng.random(len(document)) < 0.5))
        b_first, b_end = np.where(is_random, (elsewhere, its_end), (split, end))
        b_length = sentences[b_end] - sentences[b_first]
        step = _truncated(
            rng,
            PairTable(sentences[cursor], a_length, sentences[b_first], b_length, is_random),
            target,
        )
        steps.append(step[b_length > 0])
        cursor = np.where(is_random, split, end)  # what followed a random pair's A is put back
        document, cursor = document[cursor < stop], cursor[cursor < stop]

    table = PairTable(
        *(np.concatenate([getattr(step, field.name) for step in steps]) for field in fields(PairTable))
    )
    if not len(table):
        found = f"{num_documents} document(s) of {len(sentences) - 1} sentence(s)"
        raise DataError("too little text for a pair", where=source, found=found, expected="two sentences")
    return table[np.argsort(table.a_start, kind="stable")]


def _cut_long_sentences(
    sentences: np.ndarray, documents: np.ndarray, budget: int
) -> tuple[np.ndarray, np.ndarray]:
    """The offsets, with every sentence of more than `budget` tokens cut into parts."""
    lengths = np.diff(sentences)
    if lengths.max() <= budget:
        return sentences, documents
    parts = np.where(lengths > budget, -(-lengths // (budget // 2)), 1)
    first = np.append(0, np.cumsum(parts))  # first part of each sentence
    sentence = np.repeat(np.arange(len(parts)), parts)
    nth = np.arange(first[-1]) - first[sentence]
    cuts = sentences[sentence] + nth * lengths[sentence] // parts[sentence]
    return np.append(cuts, sentences[-1]), first[documents]


def _end_of_run(sentences: np.ndarray, first: np.ndarray, length: np.ndarray, stop: np.ndarray) -> np.ndarray:
    """The sentence before which a run ends: it holds `length` tokens if `stop` allows, and one sentence."""
    end = np.searchsorted(sentences, sentences[first] + length)
    return np.minimum(np.maximum(end, first + 1), stop)


def _random_places(
    rng: np.random.Generator,
    documents: np.ndarray,
    document: np.ndarray,
    cursor: np.ndarray,
    split: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where a B that does not follow A may start and has to stop, and whether there is such a place."""
    num_documents = len(documents) - 1
    if num_documents > 1:
        other = (document + rng.integers(1, num_documents, len(document))) % num_documents
        stop = documents[other + 1]
        return rng.integers(documents[other], stop), stop, np.ones(len(document), dtype=bool)
    # One document: from its beginning up to A, or from the sentence after the one that follows A.
    num_before, num_after = cursor, np.maximum(documents[1] - split - 1, 0)
    place = rng.integers(0, np.maximum(num_before + num_after, 1))
    is_before = place < num_before
    first = np.where(is_before, place, np.minimum(split + 1 + place - num_before, documents[1] - 1))
    return first, np.where(is_before, cursor, documents[1]), num_before + num_after > 0


def _truncated(rng: np.random.Generator, pairs: PairTable, target: np.ndarray) -> PairTable:
    """Pairs of at most `target` tokens.

    Removing one token at a time from the longer side (B if they are equal) ends at the lengths
    below; each token removed comes off the front or the back with equal chance.
    """
    a_length = np.minimum(pairs.a_length, np.maximum(target - pairs.b_length, (target + 1) // 2))
    b_length = np.minimum(pairs.b_length, np.maximum(target - pairs.a_length, target // 2))
    return PairTable(
        pairs.a_start + rng.binomial(pairs.a_length - a_length, 0.5),
        a_length.astype(np.int32),
        pairs.b_start + rng.binomial(pairs.b_length - b_length, 0.5),
        b_length.astype(np.int32),
        pairs.is_random,
    )

"""Token store -> pairs of text A and B, by the algorithm of Google's `create_pretraining_data.py`.

    While a document has sentences left: take the next ones until they have T tokens. The first few,
    a random number of them, are A. B is the rest of this passage, or with probability 1/2 (and always if
    the passage is one sentence) text from a random position; then the rest is put back. Tokens are removed
    from random ends of the longer side until A and B fit.

T is `max_seq_length - 3`, or, with probability `short_seq_prob`, drawn once per document and epoch, any
smaller number down to 2. All documents take a step at once, in NumPy. The steps do not depend on the text
of random Bs, so these are drawn at the end for all pairs. A and B are runs of tokens in the store, so a
pair is four numbers and a label.

Differences from the original, which produces some wrong pairs:
- Pairs are cut to T; the original cuts to `max_seq_length - 3`, so its short pairs come out too long.
- B of a random pair is never from A's document; the original gives up after ten tries. Only in a corpus
  of one document does B come from elsewhere in it, neither touching A nor following it. Without such a
  place the pair is a true one, or dropped if it has no second sentence.
- B comes from anywhere in the corpus, even if A is restricted to some documents, as in one of many
  shards; each such part of the corpus has its own random numbers.
- A sentence too long for any pair is cut into equal fragments of at most half the space; in the original it
  would lose all but its end.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np

from nemo.collections.nlp.data.samples.randomness import Stream
from nemo.collections.nlp.data.store.mapped import let_go, slices, taken
from nemo.utils.errors import DataError

NUM_SPECIALS = 3  # [CLS] A [SEP] B [SEP]
FEW_DOCUMENTS = 10
_STARTS_AT_ONCE = 4096  # random starts in the corpus


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


def warning_of_few_documents(num_documents: int) -> str | None:
    """A warning if a corpus has too few documents for random pairs; else None."""
    if num_documents >= FEW_DOCUMENTS:
        return None
    if num_documents == 1:
        found = (
            "1 document: half of the pairs have a random B, and every one comes from the same document as A"
        )
    else:
        found = f"{num_documents} documents: the random B of half the pairs comes from only a few others"
    return f"{found}, so next-sentence prediction is too easy. Check where documents end (--text_layout)."


def joined(tables: Sequence[PairTable]) -> PairTable:
    """The pairs of all tables, one table after the other."""
    return PairTable(
        *(np.concatenate([getattr(table, field.name) for table in tables]) for field in fields(PairTable))
    )


def make_pairs(
    store: Sentences,
    max_seq_length: int,
    short_seq_prob: float = 0.1,
    seed: int = 0,
    epoch: int = 0,
    source: Any = "",
    documents: range | None = None,
) -> PairTable:
    """The pairs of one epoch, a function of the arguments alone. Memory is proportional to `documents`.

    Args:
        source: name of the corpus, for messages.
        documents: the documents, at least one, from which A is taken; default: all. B is from the whole
            corpus.

    Raises:
        DataError: the corpus is too small for a single pair.
    """
    if documents is None:
        documents = range(len(store.document_offsets) - 1)
    is_alone = len(store.document_offsets) == 2
    rng = np.random.default_rng((seed, epoch, Stream.PAIRS, documents.start))
    budget = max_seq_length - NUM_SPECIALS
    cuts, firsts = _cut_grid(store, documents, budget)
    is_short = rng.random(len(documents)) < short_seq_prob
    targets = np.where(is_short, rng.integers(2, budget + 1, len(documents)), budget)
    document, cursor, split, end, is_random = _passages(rng, cuts, firsts, targets, is_alone)

    a_start, b_start, b_end = cuts[cursor], cuts[split], cuts[end]
    a_length, target = b_start - a_start, targets[document]
    random_rows = np.flatnonzero(is_random)
    for rows in np.split(random_rows, range(_STARTS_AT_ONCE, len(random_rows), _STARTS_AT_ONCE)):
        length = np.maximum(target - a_length, 1)[rows]
        if is_alone:
            b_start[rows], b_end[rows] = _elsewhere(rng, cuts, cursor[rows], split[rows], length)
        else:
            of_a = documents.start + document[rows]
            b_start[rows], b_end[rows] = _in_another_document(rng, store, of_a, length, budget)
            let_go(store.document_offsets, store.sentence_offsets)

    pairs = PairTable(a_start, a_length, b_start, b_end - b_start, is_random)
    order = np.argsort(cursor)
    order = order[pairs.b_length[order] > 0]
    if not len(order):
        found = f"{len(documents)} document(s) of {len(cuts) - 1} sentence(s)"
        raise DataError("too little text for a pair", where=source, found=found, expected="two sentences")
    return _truncated(rng, pairs[order], target[order])


def _passages(
    rng: np.random.Generator, cuts: np.ndarray, firsts: np.ndarray, targets: np.ndarray, is_alone: bool
) -> Iterator[np.ndarray]:
    """Cut all documents into passages of the target lengths, in step.

    Returns:
        For each passage: its document; the cuts where A begins, where A ends and where the passage ends; and
        whether B is random.
    """
    steps = []
    document, cursor = np.arange(len(targets)), firsts[:-1]
    while len(document):
        stop = firsts[document + 1]
        end = _end_of_run(cuts, cursor, targets[document], stop)  # of the passage
        split = cursor + rng.integers(1, np.maximum(end - cursor, 2))  # where A ends
        is_random = (end - cursor == 1) | (rng.random(len(document)) < 0.5)
        if is_alone:
            is_random &= sum(_num_elsewhere(cuts, cursor, split)) > 0
        steps.append((document, cursor, split, end, is_random))
        cursor = np.where(is_random, split, end)  # what followed a random pair's A is put back
        document, cursor = document[cursor < stop], cursor[cursor < stop]
    return map(np.concatenate, zip(*steps, strict=True))


def _cut_grid(store: Sentences, documents: range, budget: int) -> tuple[np.ndarray, np.ndarray]:
    """Where sentences and fragments of too long ones begin, and the index of each document's first."""
    sentence_of = store.document_offsets[documents.start : documents.stop + 1]
    sentences = np.array(store.sentence_offsets[sentence_of[0] : sentence_of[-1] + 1])
    let_go(store.sentence_offsets)
    firsts = sentence_of - sentence_of[0]
    lengths = np.diff(sentences)
    if lengths.max() <= budget:
        return sentences, firsts
    fragments = _num_fragments(lengths, budget)
    first = np.append(0, np.cumsum(fragments))  # index of each sentence's first fragment
    sentence = np.repeat(np.arange(len(fragments)), fragments)
    nth = np.arange(first[-1]) - first[sentence]
    cuts = sentences[sentence] + nth * lengths[sentence] // fragments[sentence]
    return np.append(cuts, sentences[-1]), first[firsts]


def _num_fragments(lengths: np.ndarray, budget: int) -> np.ndarray:
    """The number of fragments of each sentence; fragment n begins at `n * length // fragments`."""
    return np.where(lengths > budget, -(-lengths // (budget // 2)), 1)


def _end_of_run(cuts: np.ndarray, first: np.ndarray, length: np.ndarray, stop: np.ndarray) -> np.ndarray:
    """The sentence before which a run ends that has `length` tokens (1 or more) if `stop` allows."""
    return np.minimum(np.searchsorted(cuts, cuts[first] + length), stop)


def _in_another_document(
    rng: np.random.Generator, store: Sentences, document: np.ndarray, length: np.ndarray, budget: int
) -> tuple[np.ndarray, np.ndarray]:
    """The first token and the end of a random B: `length` tokens and the rest of their last sentence.

    It starts at any sentence, or fragment of a long sentence, of any document except `document`.
    """
    num_documents, offsets = len(store.document_offsets) - 1, store.sentence_offsets
    other = (document + rng.integers(1, num_documents, len(document))) % num_documents
    first, stop = taken(store.document_offsets, np.stack([other, other + 1], axis=1)).T
    sentence = rng.integers(first, stop)
    start, its_end, limit = taken(offsets, np.stack([sentence, sentence + 1, stop], axis=1)).T
    fragments = _num_fragments(its_end - start, budget)
    start = start + rng.integers(0, fragments) * (its_end - start) // fragments

    end = np.minimum(start + length, limit)
    last = _sentence_before(offsets, end, sentence, np.minimum(sentence + length, stop))
    its_start, its_end = taken(offsets, np.stack([last, last + 1], axis=1)).T
    its_length = its_end - its_start
    fragments = _num_fragments(its_length, budget)
    nth = -((its_start - end) * fragments // its_length)  # the first fragment that begins at or after `end`
    return start, its_start + nth * its_length // fragments


def _sentence_before(
    offsets: np.ndarray, token: np.ndarray, first: np.ndarray, stop: np.ndarray
) -> np.ndarray:
    """The sentence, from `first` to `stop`, that contains the token before `token`.

    Bisects only these few: `searchsorted` would touch the whole corpus.
    """
    low, high = first.copy(), stop - 1
    for rows in slices(offsets, len(first)):
        while (low[rows] < high[rows]).any():
            middle = (low[rows] + high[rows] + 1) // 2
            is_before = offsets[middle] < token[rows]
            low[rows] = np.where(is_before, middle, low[rows])
            high[rows] = np.where(is_before, high[rows], middle - 1)
    return low


def _num_elsewhere(cuts: np.ndarray, cursor: np.ndarray, split: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The number of sentences in A's document at which a random B may start, before A and well after it."""
    return cursor, np.maximum(len(cuts) - 2 - split, 0)


def _elsewhere(
    rng: np.random.Generator, cuts: np.ndarray, cursor: np.ndarray, split: np.ndarray, length: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """`_in_another_document` for a corpus of one: B ends before A, or starts after what follows A."""
    num_before, num_behind = _num_elsewhere(cuts, cursor, split)
    drawn = rng.integers(0, num_before + num_behind)
    is_before = drawn < num_before
    first = np.where(is_before, drawn, split + 1 + drawn - num_before)
    end = _end_of_run(cuts, first, length, np.where(is_before, cursor, len(cuts) - 1))
    return cuts[first], cuts[end]


def _truncated(rng: np.random.Generator, pairs: PairTable, target: np.ndarray) -> PairTable:
    """Cut pairs to at most `target` tokens.

    The lengths are those after removing one token at a time from the longer side (B if they are equal), from
    the front or the back with equal probability.
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

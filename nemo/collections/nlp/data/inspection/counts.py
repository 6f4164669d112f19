"""Counts one pass over a corpus: amount of text, characters and repeats; and draws excerpts.

Counts of sections add up to those of the corpus, in bounded memory. The excerpts and the hashes that reveal
repeats are thinned as they grow: they cover all of a small corpus, and a share of a large one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from hashlib import blake2b
from itertools import chain

import numpy as np

from nemo.collections.nlp.data.inputs.documents import Oddities
from nemo.collections.nlp.data.store.duplicates import document_hash

EXCERPT_CHARS = 2_000_000
WINDOW_CHARS = 1 << 14  # a longer document is cut, so that the excerpts are from many documents
MOST_HASHES = 1 << 22
LENGTHS = (1, 10, 30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000)  # lower bounds of the histogram's bars
_CODE_POINTS = 0x110000


def hashes_of(texts: Sequence[str]) -> np.ndarray:
    """Hashes of texts, uint64; equal in all processes."""
    digests = [blake2b(text.encode(), digest_size=8).digest() for text in texts]
    return np.frombuffer(b"".join(digests), np.uint64)


class Repeats:
    """The share of texts that repeat an earlier one.

    Keeps only hashes whose last `bits` bits are zero. All copies of a text have the same hash, so the share
    of repeats among the kept hashes estimates the share among all.

    Attributes:
        bits: 0 while every hash is kept.
    """

    def __init__(self) -> None:
        self.bits = 0
        self._kept_hashes: list[np.ndarray] = []
        self._num_kept = 0

    def add(self, hashes: np.ndarray) -> None:
        """Add texts by their hashes, uint64 [n]."""
        self._kept_hashes.append(self._kept(hashes))
        self._num_kept += len(self._kept_hashes[-1])
        while self._num_kept > MOST_HASHES:
            self._thin(self.bits + 1)

    def merge(self, other: "Repeats") -> None:
        """Add all the texts that `other` counted, such as those of another process."""
        self._thin(max(self.bits, other.bits))
        for hashes in other._kept_hashes:
            self.add(hashes)

    def _thin(self, bits: int) -> None:
        if bits > self.bits:
            self.bits = bits
            self._kept_hashes = [self._kept(np.concatenate(self._kept_hashes))] if self._kept_hashes else []
            self._num_kept = sum(map(len, self._kept_hashes))

    def _kept(self, hashes: np.ndarray) -> np.ndarray:
        return hashes[hashes & np.uint64((1 << self.bits) - 1) == 0] if self.bits else hashes

    @property
    def share(self) -> float:
        """The share of texts that repeat an earlier one."""
        hashes = np.concatenate(self._kept_hashes)
        return 1 - len(np.unique(hashes)) / max(len(hashes), 1)

    def times(self, hashes: np.ndarray) -> np.ndarray:
        """How often each text occurs, int64 [n]; 0 where its hash was not kept."""
        known, counts = np.unique(np.concatenate(self._kept_hashes), return_counts=True)
        index = np.searchsorted(known, hashes).clip(max=len(known) - 1)
        return np.where(known[index] == hashes, counts[index], 0)


@dataclass(frozen=True)
class ParagraphWindow:
    """Consecutive paragraphs of a document.

    Attributes:
        is_document: whether they are the whole document.
    """

    paragraphs: list[str]
    is_document: bool

    @property
    def num_chars(self) -> int:
        """The total length of its paragraphs, in characters."""
        return sum(map(len, self.paragraphs))


class Excerpts:
    """Windows drawn uniformly from a corpus.

    Attributes:
        share: the share of all windows that it holds; 1 until some are dropped.
    """

    def __init__(self) -> None:
        self.share = 1.0
        self._drawn: list[tuple[float, ParagraphWindow]] = []
        self._num_chars = 0

    @property
    def windows(self) -> list[ParagraphWindow]:
        """The windows, in the order of the corpus."""
        return [window for _, window in self._drawn]

    def add(self, draw: float, window: ParagraphWindow) -> None:
        """Add a window if its draw, a random number from 0 to 1, is below the share."""
        if draw >= self.share:
            return
        self._drawn.append((draw, window))
        self._num_chars += window.num_chars
        if self._num_chars > 2 * EXCERPT_CHARS:
            self._thin(self.share / 2)

    def merge(self, later: "Excerpts") -> None:
        """Add the excerpts of a later section of the corpus."""
        if later.share < self.share:
            self._thin(later.share)
        for draw, window in later._drawn:
            self.add(draw, window)

    def _thin(self, share: float) -> None:
        self.share = share
        self._drawn = [(draw, window) for draw, window in self._drawn if draw < share]
        self._num_chars = sum(window.num_chars for _, window in self._drawn)


class Counts:
    """The counts of a corpus or section.

    Attributes:
        documents, paragraphs: how many.
        code_points: how often each character occurs, int64 [0x110000].
        documents_by_length, chars_by_length: documents whose characters are `LENGTHS[i]` to
            `LENGTHS[i + 1] - 1`, and the characters in them, int64 [len(LENGTHS)].
        odd: defects that the readers found and repaired.
    """

    def __init__(self) -> None:
        self.documents = self.paragraphs = 0
        self.code_points = np.zeros(_CODE_POINTS, np.int64)
        self.documents_by_length = np.zeros(len(LENGTHS), np.int64)
        self.chars_by_length = np.zeros(len(LENGTHS), np.int64)
        self.repeated_documents, self.repeated_paragraphs = Repeats(), Repeats()
        self.excerpts = Excerpts()
        self.odd = Oddities()

    def add(self, documents: list[list[str]], rng: np.random.Generator) -> None:
        """Count documents, none of them empty; `rng` draws the excerpts."""
        paragraphs = list(chain.from_iterable(documents))
        sizes = np.fromiter(map(len, documents), np.int64, len(documents))
        starts = np.cumsum(sizes) - sizes
        lengths = np.add.reduceat(np.fromiter(map(len, paragraphs), np.int64, len(paragraphs)), starts)
        self.documents += len(documents)
        self.paragraphs += len(paragraphs)
        code_points = np.frombuffer("".join(paragraphs).encode("utf-32-le"), np.uint32)
        self.code_points += np.bincount(code_points, minlength=_CODE_POINTS)
        bars = bars_of(lengths)
        self.documents_by_length += np.bincount(bars, minlength=len(LENGTHS))
        self.chars_by_length += np.bincount(bars, lengths, len(LENGTHS)).astype(np.int64)

        self.repeated_paragraphs.add(hashes_of(paragraphs))
        self.repeated_documents.add(np.array([document_hash(document) for document in documents], np.uint64))
        draws = rng.random(len(documents)).tolist()
        for document, length, draw in zip(documents, lengths.tolist(), draws, strict=True):
            if length > WINDOW_CHARS:
                for window in _windows(document):
                    self.excerpts.add(rng.random(), ParagraphWindow(window, is_document=False))
            elif draw < self.excerpts.share:
                self.excerpts.add(draw, ParagraphWindow(document, is_document=True))

    def merge(self, later: "Counts") -> None:
        """Add the counts of a later section of the corpus."""
        self.documents += later.documents
        self.paragraphs += later.paragraphs
        self.code_points += later.code_points
        self.documents_by_length += later.documents_by_length
        self.chars_by_length += later.chars_by_length
        self.repeated_documents.merge(later.repeated_documents)
        self.repeated_paragraphs.merge(later.repeated_paragraphs)
        self.excerpts.merge(later.excerpts)
        for field in fields(Oddities):
            setattr(self.odd, field.name, getattr(self.odd, field.name) + getattr(later.odd, field.name))


def bars_of(lengths: np.ndarray) -> np.ndarray:
    """The index in `LENGTHS` of the bar of each length (at least 1), int64 [n]."""
    return np.searchsorted(LENGTHS, lengths, side="right") - 1


def _windows(document: list[str]) -> list[list[str]]:
    windows: list[list[str]] = [[]]
    size = 0
    for paragraph in document:
        if size > WINDOW_CHARS:
            windows.append([])
            size = 0
        windows[-1].append(paragraph)
        size += len(paragraph)
    return windows

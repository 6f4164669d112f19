"""Finds documents that repeat an earlier one: exactly, except for white space, or nearly.

The result depends only on the documents and their order, not on how they are spread over files and processes.
Shapes: D documents.
"""

import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import Any

import numpy as np

from nemo.collections.nlp.data.inputs.invisible import visible
from nemo.collections.nlp.data.text.sentences import CJK_RANGES
from nemo.utils.errors import UsageError

# Two documents are near-duplicates if one of BANDS bands of ROWS MinHashes is equal. That finds 5% of the
# pairs that share half of their runs of words, 21% of those that share 0.6, 77% at 0.75, 99% at 0.85.
BANDS, ROWS = 14, 8
RUN = 5  # number of words in a run

SORTED_AT_ONCE = 1 << 22  # hashes; sorting takes about 40 bytes for each
RUNS_AT_ONCE = 1 << 14  # runs of words; their MinHashes take 14 MB
REMEMBERED_WORDS = 1 << 18

_WORD = re.compile(f"[{CJK_RANGES}]|[^\\W{CJK_RANGES}]+")
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd, and its bits look random


def document_hash(document: list[str]) -> int:
    """A 64-bit hash of the text, independent of white space, paragraph breaks and byte order marks.

    Args:
        document: its paragraphs.
    """
    text = " ".join(document)
    # White space other than a plain space, and invisible characters, are not printable in Python's sense. Few
    # texts have any, or two spaces in a row.
    if "  " in text or not text.isprintable():
        text = " ".join(" ".join(visible(paragraph.strip()) for paragraph in document).split())
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


def exact_duplicates(document_hashes: np.ndarray) -> np.ndarray:
    """Bool [D], True for documents with the hash of an earlier one.

    Args:
        document_hashes: uint64 [D], see `document_hash`.
    """
    is_duplicate = np.zeros(len(document_hashes), dtype=bool)
    for _, later in _equal_pairs(document_hashes):
        is_duplicate[later] = True
    return is_duplicate


def near_duplicates(bands: Iterable[np.ndarray]) -> np.ndarray:
    """Bool [D], True for all but the first document of each cluster of near-duplicates.

    Clusters are transitive: the first and the last document may have little in common.

    Args:
        bands: uint64 [D] for each band, see `NearDuplicateKeys`.
    """
    first = np.zeros(0, dtype=np.int32)  # an earlier document of the cluster, or the document itself
    for keys in bands:
        if not len(first):
            first = np.arange(len(keys), dtype=np.int32 if len(keys) < 1 << 31 else np.int64)
        for earlier, later in _equal_pairs(keys):
            _unite(first, earlier, later)
    return first != np.arange(len(first), dtype=first.dtype)


def _equal_pairs(hashes: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(earlier, later): indices of equal hashes, each with the previous one, in batches."""
    num_parts = len(hashes) // SORTED_AT_ONCE + 1
    for part in range(num_parts):
        indices = np.concatenate(
            [
                start + np.flatnonzero(hashes[start : start + SORTED_AT_ONCE] % np.uint64(num_parts) == part)
                for start in range(0, len(hashes) + 1, SORTED_AT_ONCE)
            ]
        )
        values = hashes[indices]
        order = np.argsort(values, kind="stable")
        is_equal = np.diff(values[order]) == 0
        indices = indices[order]
        yield indices[:-1][is_equal], indices[1:][is_equal]


def _unite(first: np.ndarray, a: np.ndarray, b: np.ndarray) -> None:
    """Merge the clusters of a[i] and b[i], for all i at once: the smaller root becomes the root of both."""
    while len(a):
        a, b = _root(first, a), _root(first, b)
        differ = a != b
        a, b = a[differ], b[differ]
        np.minimum.at(first, np.maximum(a, b), np.minimum(a, b))


def _root(first: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """The first document of each one's cluster."""
    root = first[indices]
    while ((further := first[root]) != root).any():
        root = further
    first[indices] = root  # path compression
    return root


class NearDuplicateKeys:
    """Keys that near-duplicates have in common, by MinHash (Broder 1997) over runs of five words.

    Words are Unicode words in lower case, and single characters of Chinese and Japanese.

    Raises:
        UsageError: datasketch is not installed.
    """

    def __init__(self) -> None:
        try:
            from datasketch import MinHash
        except ImportError:
            raise UsageError(
                "near duplicates need the package datasketch", fix="pip install 'nemo-bert[clean]'"
            ) from None
        self._min_hash: Any = MinHash(BANDS * ROWS, hashfunc=lambda hashed: hashed)
        self._word_hashes = _WordHashes()

    def __call__(self, documents: Sequence[list[str]]) -> np.ndarray:
        """uint64 [D, BANDS]: documents with the same number in any column are near-duplicates.

        Args:
            documents: the paragraphs of each document.
        """
        words = [_WORD.findall("\n".join(document).lower()) for document in documents]
        hashes = np.array([self._word_hashes[word] for each in words for word in each], dtype=np.uint64)
        runs = _mixed(np.lib.stride_tricks.sliding_window_view(np.pad(hashes, (0, RUN)), RUN))
        minima = np.empty((len(documents), BANDS * ROWS), dtype=np.uint64)
        first = 0
        for row, (document, each) in enumerate(zip(documents, words, strict=True)):
            stop = first + len(each)
            if len(each) >= RUN:
                minima[row] = self._minima(runs[first : stop - RUN + 1])
            elif each:
                minima[row] = self._minima(_mixed(hashes[None, first:stop]))
            else:  # no words to compare: only the same text is a duplicate
                minima[row] = document_hash(document) & 0xFFFFFFFF
            first = stop
        return _mixed(minima.reshape(-1, BANDS, ROWS))

    def _minima(self, runs: np.ndarray) -> np.ndarray:
        """uint32 [BANDS * ROWS]: the smallest hash of a document's runs under each permutation."""
        self._min_hash.clear()
        for start in range(0, len(runs), RUNS_AT_ONCE):
            some = runs[start : start + RUNS_AT_ONCE] >> np.uint64(32)
            self._min_hash.update_batch(some.tolist())
        return self._min_hash.hashvalues


class _WordHashes(dict[str, int]):
    """Word -> 32-bit hash, the same in every process; computed on first use."""

    def __missing__(self, word: str) -> int:
        if len(self) >= REMEMBERED_WORDS:
            self.clear()
        self[word] = zlib.crc32(word.encode())
        return self[word]


def _mixed(values: np.ndarray) -> np.ndarray:
    """uint64 [...]: a hash of the numbers along the last axis, all below 2^32."""
    mixed = np.zeros(values.shape[:-1], dtype=np.uint64)
    for column in range(values.shape[-1]):
        mixed = (mixed ^ values[..., column]) * _MULTIPLIER
        mixed ^= mixed >> np.uint64(32)
    return mixed

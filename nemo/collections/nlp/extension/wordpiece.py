"""WordPiece on word counts: how a vocabulary splits words, and which new pieces would save most.

A word is split greedily: into the longest entry that it begins with, the longest that continues it, and so
on. So a new entry can also give a word more pieces; its value is found by splitting the words again.
"""

import heapq
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Set

from nemo.collections.nlp.data.tokenizers.files import CONTINUATION

LONGEST_WORD = 100
"""Characters; a longer word is unknown, as in BERT's tokenizer."""

Words = Mapping[str, int]
"""Normalized word of a text -> count."""


def split_word(word: str, vocabulary: Collection[str], continues: bool = False) -> list[str] | None:
    """The pieces of a word; None if it is unknown.

    Args:
        vocabulary: a set, or another collection with fast lookup.
        continues: whether `word` is the rest of a word.
    """
    if len(word) > LONGEST_WORD:
        return None
    pieces = []
    start = 0
    while start < len(word):
        mark = CONTINUATION if start or continues else ""
        for end in range(len(word), start, -1):
            piece = mark + word[start:end]
            if piece in vocabulary:
                pieces.append(piece)
                start = end
                break
        else:
            return None
    return pieces


def cost(word: str, vocabulary: Collection[str]) -> int:
    """Number of pieces of a word; an unknown word costs more than its characters.

    It costs one more for each character that is missing, so that each of them gains.
    """
    pieces = split_word(word, vocabulary)
    if pieces is not None:
        return len(pieces)
    missing = sum((CONTINUATION if i else "") + char not in vocabulary for i, char in enumerate(word))
    return len(word) + max(1, missing)


class Selection:
    """Adds the candidates that save most to a vocabulary, one after another.

    Args:
        words: of the text.
        vocabulary: of the model.
        candidates: entries that may be added.

    Attributes:
        chosen: added entry -> tokens of the text that it saved, in order of addition.
    """

    def __init__(self, words: Words, vocabulary: Iterable[str], candidates: Iterable[str]):
        self._words = words
        self._vocabulary = set(vocabulary)
        self.chosen: dict[str, int] = {}
        self._where = _words_with(set(candidates) - self._vocabulary, words)
        self._costs = {word: cost(word, self._vocabulary) for word in words}

    def run(self, at_most: int | None, least: float) -> None:
        """Add candidates until there are `at_most`, or the next one saves fewer than `least` tokens.

        Gains almost always fall as pieces are added. So the candidate with the highest last known gain is
        evaluated first, and added if its current gain is still the highest.
        """
        heap = [(-self._gain(piece), piece) for piece in self._where.keys() - self._vocabulary]
        heapq.heapify(heap)
        while heap and (at_most is None or len(self.chosen) < at_most):
            _, piece = heapq.heappop(heap)
            gain = self._gain(piece)
            if gain < max(least, 1):
                continue
            if heap and gain < -heap[0][0]:
                heapq.heappush(heap, (-gain, piece))
                continue
            self._add(piece, gain)

    def _gain(self, piece: str) -> int:
        self._vocabulary.add(piece)
        saved = (
            self._words[word] * (self._costs[word] - cost(word, self._vocabulary))
            for word in self._where[piece]
        )
        gain = sum(saved)
        self._vocabulary.remove(piece)
        return gain

    def _add(self, piece: str, gain: int) -> None:
        self._vocabulary.add(piece)
        self.chosen[piece] = gain
        for word in self._where[piece]:
            self._costs[word] = cost(word, self._vocabulary)

    def drop_unused(self) -> list[str]:
        """Remove and return entries that no word uses any more since longer pieces were added."""
        used = {piece for word in self._words for piece in split_word(word, self._vocabulary) or ()}
        unused = [piece for piece in self.chosen if piece not in used]
        for piece in unused:
            del self.chosen[piece], self._where[piece]
            self._vocabulary.remove(piece)
        return unused


def _words_with(candidates: Set[str], words: Words) -> dict[str, list[str]]:
    """The words that contain each candidate: at the beginning, or later if it continues a word."""
    longest = max((len(piece.removeprefix(CONTINUATION)) for piece in candidates), default=0)
    where: dict[str, list[str]] = defaultdict(list)
    for word in words:
        if len(word) > LONGEST_WORD:
            continue
        parts = {
            (CONTINUATION if start else "") + word[start:end]
            for start in range(len(word))
            for end in range(start + 1, min(start + longest, len(word)) + 1)
        }
        for piece in parts & candidates:
            where[piece].append(word)
    return where

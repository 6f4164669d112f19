"""Encodes text by units: stretches of text whose ids do not depend on the context.

A corpus repeats its words: a MiB of English has 230,000 words and punctuation marks, of which 4,000 are new
once 8 MiB have been read. Only new ones are encoded.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import compress, pairwise

import numpy as np

from nemo.collections.nlp.data.tokenizers.base import TokenizerSpec

_REMEMBERED_CHARACTERS = 1 << 21  # of distinct units: about 250,000 words, a few dozen MB


class Units(ABC):
    """Encodes texts and caches the ids of their units.

    A subclass defines where units begin.

    Args:
        tokenizer: the tokenizer that the ids belong to.
        encode_whole: encodes texts without units.
        begins_word: whether each token begins a word, bool [vocabulary].
        words_at_once: number of new words that may be encoded as one text.
    """

    def __init__(
        self,
        tokenizer: TokenizerSpec,
        encode_whole: Callable[[list[str]], list[np.ndarray]],
        begins_word: np.ndarray,
        words_at_once: int = _REMEMBERED_CHARACTERS,
    ):
        self._tokenizer, self._encode_whole = tokenizer, encode_whole
        self._begins_word, self._words_at_once = begins_word, words_at_once
        self._forget()

    def _forget(self) -> None:
        self._numbers: dict[str, int] = {}  # unit -> number
        self._ids = np.zeros(0, np.int32)  # ids of unit 0, then of unit 1, ...
        self._starts = np.zeros(0, np.int64)  # where the ids of each unit start
        self._lengths = np.zeros(0, np.int64)
        self._characters = 0

    @abstractmethod
    def _begins(self, characters: np.ndarray) -> np.ndarray:
        """Where units begin: bool [characters], given the code points of a text.

        A unit begins after spaces and never at one: spaces between two units belong to the first.
        """

    @abstractmethod
    def _are_words(self, units: list[str]) -> list[bool]:
        """Whether exactly one token of each unit begins a word, the first; if in doubt, False."""

    def _without_units(self, texts: list[str], text: str) -> list[int]:
        """The indices of the texts to encode as a whole.

        These spell a special token, which units would split. `text` is all texts joined.
        """
        named = [token for token in self._tokenizer.corpus_tokens if token in text]
        return [i for i, text in enumerate(texts) if any(token in text for token in named)] if named else []

    def encode_batch(self, texts: list[str]) -> list[np.ndarray]:
        """The ids of each text, int32."""
        text = _joined(texts)
        whole = self._without_units(texts, text)
        if not whole:
            return self._encode_by_units(texts, text)
        rest = list(texts)
        for i in whole:
            rest[i] = ""
        batch = self._encode_by_units(rest, _joined(rest))
        for i, ids in zip(whole, self._encode_whole([texts[i] for i in whole]), strict=True):
            batch[i] = ids
        return batch

    def _encode_by_units(self, texts: list[str], text: str) -> list[np.ndarray]:
        encoded = text.encode()
        is_ascii = len(encoded) == len(text)
        data = np.frombuffer(encoded, np.uint8)
        characters = data if is_ascii else np.frombuffer(text.encode("utf-32-le"), np.uint32)
        begins = np.flatnonzero(self._begins(characters))
        offsets = begins if is_ascii else np.flatnonzero(data & 0xC0 != 0x80)[begins]
        ids, ends = self._ids_of(encoded, np.append(offsets, len(encoded)))
        text_begins = 1 + np.append(0, np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)) + 1))
        stops = ends[np.searchsorted(begins, text_begins)].tolist()
        return [ids[start:stop] for start, stop in pairwise(stops)]

    def _ids_of(self, encoded: bytes, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The ids of all units in order, and the offset of each unit's ids, with the end of the last.

        Args:
            encoded: a text in UTF-8.
            offsets: where each unit begins in it, and where the last ends; int64.
        """
        import pyarrow as pa
        from pyarrow._compute import call_function  # pyarrow.compute itself takes as long to import as NumPy

        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(encoded)]
        units = pa.Array.from_buffers(pa.large_utf8(), len(offsets) - 1, buffers)
        found = call_function("dictionary_encode", [units])
        numbers = self._numbers_of(found.dictionary.to_pylist())[found.indices.to_numpy()]
        lengths = self._lengths[numbers]
        begins = np.append(0, np.cumsum(lengths))
        ids = self._ids[np.repeat(self._starts[numbers] - begins[:-1], lengths) + np.arange(begins[-1])]
        ids.flags.writeable = False
        return ids, begins

    def _numbers_of(self, units: list[str]) -> np.ndarray:
        if self._characters > _REMEMBERED_CHARACTERS:
            self._forget()
        number_of = self._numbers.get
        numbers = np.array([number_of(unit, -1) for unit in units], np.int64)
        unseen = np.flatnonzero(numbers < 0)
        if len(unseen):
            seen_first = [units[i] for i in unseen.tolist()]
            bare = [unit.rstrip(" ") for unit in seen_first]  # trailing spaces have no ids
            if new := [unit for unit in dict.fromkeys(bare) if unit not in self._numbers]:
                self._learn(new)
            numbers[unseen] = [self._numbers[unit] for unit in bare]
            self._numbers.update(zip(seen_first, numbers[unseen].tolist(), strict=True))
            self._characters += sum(map(len, seen_first))
        return numbers

    def _learn(self, units: list[str]) -> None:
        """Encode and number units, words first.

        One long text is encoded faster than many short ones; its tokens show where each word begins.
        """
        are_words = np.array(self._are_words(units))
        words, others = (list(compress(units, chosen)) for chosen in (are_words, ~are_words))
        step = self._words_at_once
        texts = [" ".join(words[i : i + step]) for i in range(0, len(words), step)]
        ids = np.concatenate(self._encode_whole([*texts, ""]))
        lengths = np.diff(np.flatnonzero(self._begins_word[ids]), append=len(ids))
        assert len(lengths) == len(words), "a word that begins twice, or not at all"
        encoded = self._encode_whole(others)
        self._numbers.update(
            {unit: number for number, unit in enumerate([*words, *others], len(self._lengths))}
        )
        self._ids = np.concatenate([self._ids, ids, *encoded])
        self._lengths = np.concatenate([self._lengths, lengths, [len(ids) for ids in encoded]]).astype(
            np.int64
        )
        self._starts = np.cumsum(self._lengths) - self._lengths


def _joined(texts: list[str]) -> str:
    """Join texts by spaces: a space ends a unit and has no ids, so no unit spans two texts."""
    return " ".join(["", *texts])

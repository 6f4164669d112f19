"""Finds the tokens that begin a word, even in scripts without spaces between words.

To WordPiece every Chinese character is a word, and to SentencePiece a whole clause is, so their marks do not
help. rjieba segments such text into words, including adjacent letters, as in T恤. Its words are aligned with
the tokens by character offsets in the text that the tokens spell, so no normalizer can shift them.
"""

from functools import cached_property

import numpy as np

from nemo.collections.nlp.data.text.sentences import CJK

_UNKNOWN = "\ufffd"  # stands for a token that spells no text; segmented as a separate symbol


class WordStarts:
    """Finds where words begin, by the tokenizer's marks and, in Chinese and Japanese, by rjieba.

    Args:
        starts_word: bool [vocabulary], the tokenizer's marks.
        vocabulary: the tokens in WordPiece spelling.
        special_ids: tokens that spell no text.
    """

    def __init__(self, starts_word: np.ndarray, vocabulary: list[str], special_ids: np.ndarray):
        specials = set(special_ids.tolist())
        self._texts = [
            _UNKNOWN if i in specials else token.removeprefix("##") or token
            for i, token in enumerate(vocabulary)
        ]
        self._marks = starts_word
        self._begins_cjk, self._ends_cjk = np.zeros((2, len(vocabulary)), dtype=bool)
        for i, text in enumerate(self._texts):
            if not text.isascii():
                self._begins_cjk[i], self._ends_cjk[i] = map(CJK.match, (text, text[-1]))

    def __call__(self, sentences: list[np.ndarray]) -> np.ndarray:
        """Bool [tokens of all sentences], True where a token begins a word.

        Args:
            sentences: the ids of each sentence; none is empty.
        """
        ids = np.concatenate(sentences)
        lengths = np.array([len(sentence) for sentence in sentences])
        first = np.cumsum(lengths) - lengths
        starts = self._marks[ids]
        touches_cjk = self._begins_cjk[ids]
        if touches_cjk.any():
            touches_cjk[1:] |= self._ends_cjk[ids[:-1]]
            is_first = np.zeros(len(ids), dtype=bool)
            is_first[first] = True
            # Only sentences with such characters.
            chosen = np.repeat(np.logical_or.reduceat(touches_cjk, first), lengths)
            is_spaced = starts & ~touches_cjk
            segmented = self._segmented(ids[chosen], is_first[chosen], is_spaced[chosen])
            starts[chosen] = np.where(touches_cjk[chosen], segmented, starts[chosen])
        starts[first] = True
        return starts

    @cached_property
    def _lengths(self) -> np.ndarray:
        return np.array([len(text) for text in self._texts])

    @cached_property
    def _spelled(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Each token's spelling inside a clause, after a space, at the start of a sentence, and after both.

        Returns the characters of all spellings, and the start and length of each.
        """
        befores = ("", " ", "\n", "\n ")
        characters = "".join(before + text for before in befores for text in self._texts)
        lengths = np.concatenate([len(before) + self._lengths for before in befores])
        return np.frombuffer(characters.encode("utf-32-le"), np.uint32), np.cumsum(lengths) - lengths, lengths

    def _segmented(self, ids: np.ndarray, is_first: np.ndarray, is_spaced: np.ndarray) -> np.ndarray:
        """True where a word of rjieba's segmentation begins with the first character of a token.

        Args:
            is_first: first tokens of sentences; no word spans two sentences.
            is_spaced: tokens after a space, which separates words in scripts with spaces.
        """
        import rjieba

        characters, all_starts, all_lengths = self._spelled
        spellings = ids + len(self._texts) * (is_spaced + 2 * is_first)
        lengths = all_lengths[spellings]
        ends = np.cumsum(lengths)
        positions = np.repeat(all_starts[spellings] - (ends - lengths), lengths) + np.arange(ends[-1])
        words = rjieba.cut(characters[positions].tobytes().decode("utf-32-le"))
        word_begins = np.zeros(ends[-1] + 1, dtype=bool)
        word_begins[np.cumsum(np.fromiter(map(len, words), np.int64, len(words)))] = True
        return word_begins[ends - self._lengths[ids]]

"""Which tokens begin a word, also where the script puts no spaces between words.

WordPiece makes every Chinese character a word of its own and SentencePiece a whole clause one, so
their marks say nothing there. rjieba's segmentation does, also of what stands beside such characters,
as in T恤. It is aligned with the tokens by character offsets in the text that the tokens themselves spell,
so no normaliser can shift it.
"""

import numpy as np

from nemo.collections.nlp.data.sentences import CJK

_UNKNOWN = "\ufffd"  # stands for a token that spells no text; segmented as a symbol of its own


class WordStarts:
    """Tells where words begin, by the tokenizer's marks and, in Chinese and Japanese, by rjieba.

    Args:
        starts_word: bool [vocabulary], the tokenizer's marks.
        vocabulary: the tokens in WordPiece spelling.
        special_ids: tokens that spell no text.
    """

    def __init__(self, starts_word: np.ndarray, vocabulary: list[str], special_ids: np.ndarray):
        specials = set(special_ids.tolist())
        texts = [
            _UNKNOWN if i in specials else token.removeprefix("##") or token
            for i, token in enumerate(vocabulary)
        ]
        self._marks = starts_word
        self._texts = texts
        self._lengths = np.array([len(text) for text in texts])
        self._begins_cjk = np.array([bool(CJK.match(text)) for text in texts])
        self._ends_cjk = np.array([bool(CJK.match(text[-1])) for text in texts])

    def __call__(self, sentences: list[np.ndarray]) -> np.ndarray:
        """Bool [tokens of all sentences], True where a token begins a word.

        Args:
            sentences: the ids of each; none is empty.
        """
        ids = np.concatenate(sentences)
        first = np.cumsum([0] + [len(sentence) for sentence in sentences[:-1]])
        starts = self._marks[ids]
        touches_cjk = self._begins_cjk[ids]
        if touches_cjk.any():
            touches_cjk[1:] |= self._ends_cjk[ids[:-1]]
            starts = np.where(touches_cjk, self._segmented(ids, first, starts & ~touches_cjk), starts)
        starts[first] = True
        return starts

    def _segmented(self, ids: np.ndarray, first: np.ndarray, is_spaced: np.ndarray) -> np.ndarray:
        """True where a word of rjieba's segmentation begins with the first character of a token.

        Args:
            first: the first token of each sentence; no word goes from one sentence into the next.
            is_spaced: tokens behind a space, which parts the words of scripts that have spaces.
        """
        import rjieba

        pieces = [self._texts[i] for i in ids.tolist()]
        lengths = self._lengths[ids]
        for i in np.flatnonzero(is_spaced).tolist():
            pieces[i] = " " + pieces[i]
        for i in first.tolist():
            pieces[i] = "\n" + pieces[i]
        spelled = lengths + is_spaced
        spelled[first] += 1
        ends = np.cumsum(spelled)
        word_begins = np.zeros(ends[-1], dtype=bool)
        words = rjieba.tokenize("".join(pieces), "default", True)
        word_begins[[begin for _, begin, _ in words]] = True
        return word_begins[ends - lengths]

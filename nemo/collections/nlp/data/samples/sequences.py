"""Pairs of text in a token store -> rows of input for a model, before masking.

Shapes: B batch, T tokens of a row.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from nemo.collections.nlp.data.samples.pairs import NUM_SPECIALS, PairTable
from nemo.collections.nlp.data.store.mapped import taken
from nemo.collections.nlp.data.tokenizers.base import TokenizerSpec

MIN_SEQ_LENGTH = NUM_SPECIALS + 5  # with less, hardly a word fits on either side


class Tokens(Protocol):
    """What rows are made of; see `token_store.TokenStore`."""

    tokens: np.ndarray
    starts_word: np.ndarray


@dataclass(frozen=True)
class Sequences:
    """Rows `[CLS] A [SEP] B [SEP]` and padding.

    Attributes:
        ids: (B, T) int64.
        is_token: (B, T) bool, False for padding.
        in_b: (B, T) bool, True for B and its [SEP].
        may_choose: (B, T) bool, True for tokens that may be masked: tokens of A and B except [UNK].
        starts_word: (B, T) bool; undefined for special tokens and padding.
        lengths: (B) int64, tokens of each row.
    """

    ids: np.ndarray
    is_token: np.ndarray
    in_b: np.ndarray
    may_choose: np.ndarray
    starts_word: np.ndarray
    lengths: np.ndarray


class SequenceBuilder:
    """Builds rows of `max_seq_length` tokens.

    Attributes:
        replacements: the ids of text tokens, int64.
    """

    def __init__(self, tokenizer: TokenizerSpec, max_seq_length: int):
        self._position = np.arange(max_seq_length, dtype=np.int32)
        self._cls_id, self._sep_id, self._pad_id = tokenizer.cls_id, tokenizer.sep_id, tokenizer.pad_id
        self._is_special = np.zeros(tokenizer.vocab_size, dtype=bool)
        self._is_special[tokenizer.special_ids] = True
        self.replacements = np.flatnonzero(~self._is_special)

    def build(self, store: Tokens, pairs: PairTable) -> Sequences:
        """Build the rows of these pairs, which must fit the length."""
        position = self._position
        a_end = pairs.a_length[:, None] + 1  # position of A's [SEP]
        b_end = a_end + pairs.b_length[:, None] + 1
        is_token = position <= b_end
        in_b = is_token & (position > a_end)
        is_text = is_token & (position != a_end) & (position != b_end) & (position > 0)
        at = np.where(in_b, (pairs.b_start - 1)[:, None] - a_end, (pairs.a_start - 1)[:, None])
        at = np.where(is_text, at + position, 0)
        special = np.where(position == 0, self._cls_id, self._sep_id)
        special = np.where(is_token, special, self._pad_id)
        ids = np.where(is_text, taken(store.tokens, at), special)
        return Sequences(
            ids=ids,
            is_token=is_token,
            in_b=in_b,
            may_choose=is_text & ~self._is_special[ids],
            starts_word=taken(store.starts_word, at),
            lengths=b_end[:, 0].astype(np.int64) + 1,
        )

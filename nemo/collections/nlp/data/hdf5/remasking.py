"""Draws new masks for rows of shards whose stored masks were undone.

Shapes: B batch, L tokens of a row.
"""

import numpy as np

from nemo.collections.nlp.data.hdf5.survey import Survey
from nemo.collections.nlp.data.samples.masking import Masking
from nemo.collections.nlp.data.samples.sampling import MASK_PROBABILITY, Sampling
from nemo.collections.nlp.data.tokenizers.base import TokenizerSpec
from nemo.collections.nlp.data.tokenizers.word_starts import WordStarts
from nemo.utils.errors import UsageError


class Remasking:
    """Masks different tokens in every epoch, as `Masking` does.

    The tokenizer defines the special tokens and word boundaries. Without one, [CLS], [SEP] and [MASK] are
    found in the rows, id 0 is padding, and word boundaries are unknown.

    Args:
        sampling: kind, share and seed of the masks.
        survey: statistics of the shards.
        tokenizer: the tokenizer that made the shards, if available.
        vocab_size: upper bound of the ids; needed without a tokenizer.
        max_predictions: maximum tokens to predict in a row; None: no limit besides the sampling's
            probability.

    Raises:
        UsageError: the kind is unknown, or needs a tokenizer.
    """

    def __init__(
        self,
        sampling: Sampling,
        survey: Survey,
        tokenizer: TokenizerSpec | None = None,
        vocab_size: int | None = None,
        max_predictions: int | None = None,
    ):
        kind, probability = str(sampling.masking), sampling.mask_probability or MASK_PROBABILITY
        if tokenizer is None:
            mask_id = self._mask_id_of(survey, kind, vocab_size)
            specials = np.array([0, survey.frame.cls_id, survey.frame.sep_id, mask_id])
        else:
            mask_id, specials = tokenizer.mask_id, tokenizer.special_ids
            vocab_size = tokenizer.vocab_size
        assert vocab_size is not None  # otherwise it was refused above
        self._is_special = np.zeros(vocab_size, dtype=bool)
        self._is_special[specials] = True
        self.masking = Masking(
            probability, mask_id, np.flatnonzero(~self._is_special), kind, sampling.seed, max_predictions
        )
        self._words: WordStarts | None = None
        if tokenizer is not None and kind != "token":
            self._words = WordStarts(tokenizer.starts_word, tokenizer.vocabulary(), tokenizer.special_ids)

    @staticmethod
    def _mask_id_of(survey: Survey, kind: str, vocab_size: int | None) -> int:
        fix = "give the tokenizer that made the shards (--tokenizer)"
        if kind != "token":
            raise UsageError(
                "word boundaries are unknown without a tokenizer",
                where="--masking",
                found=kind,
                fix=f"{fix}, or give --masking token",
            )
        if survey.mask_id is None or vocab_size is None:
            raise UsageError(
                "unknown without a tokenizer: "
                + ("the size of the vocabulary" if vocab_size is None else "the id of [MASK]"),
                where="--masking",
                found=kind,
                fix=fix,
            )
        return survey.mask_id

    def __call__(
        self,
        ids: np.ndarray,
        is_token: np.ndarray,
        epoch: int,
        samples: np.ndarray,
        probabilities: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mask tokens of a batch.

        Args:
            ids: (B, L) int, none masked.
            is_token: (B, L) bool, False for padding, which is at the end.
            epoch: 0 or more.
            samples: (B) int, the number of each row.
            probabilities: (B) float, of each row, in place of the sampling's.

        Returns:
            ids with some masked, (B, L) int, and which tokens to predict, (B, L) bool.
        """
        starts_word = np.ones_like(is_token)
        if self._words is not None:
            starts_word[is_token] = self._words([row[real] for row, real in zip(ids, is_token, strict=True)])
        may_choose = is_token & ~self._is_special[ids]
        lengths = is_token.sum(axis=1)
        return self.masking(ids, starts_word, may_choose, lengths, epoch, samples, probabilities)

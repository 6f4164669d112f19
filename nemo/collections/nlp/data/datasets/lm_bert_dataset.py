"""Text -> batches of sentence pairs with masked tokens, ready for training.

Shapes: B batch, T max_seq_length.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from nemo.collections.nlp.data.descriptor import BERTPretrainingDataDesc
from nemo.collections.nlp.data.samples.masking import Masking
from nemo.collections.nlp.data.samples.pairs import (
    NUM_SPECIALS,
    PairTable,
    make_pairs,
    warning_of_few_documents,
)
from nemo.collections.nlp.data.samples.randomness import Stream
from nemo.collections.nlp.data.samples.sampling import Sampling
from nemo.collections.nlp.data.samples.sequences import MIN_SEQ_LENGTH, SequenceBuilder
from nemo.collections.nlp.data.store.token_store import TokenStore
from nemo.collections.nlp.data.tokenizers.base import TokenizerSpec
from nemo.utils.logging import LogMode, logging

__all__ = ["MAX_RANDOM_SHARE", "MIN_SEQ_LENGTH", "BERTPretrainingDataDesc", "BertPretrainingDataset"]

DEFAULT = Sampling()
MAX_RANDOM_SHARE = 0.9  # share of random pairs above which documents are too short; 0.54 is usual


class BertPretrainingDataset:
    """Pairs of sentences of a corpus, paired and masked anew in every epoch.

    Sample `i` of epoch `e` is a function of (corpus, tokenizer, options, seed, e, i) alone. Epoch 0
    also serves evaluation, whose samples and masks are therefore always the same.

    An epoch has as many samples as epoch 0 has pairs, so that it always has the same number of steps;
    if an epoch has more pairs, a random few are left out; if it has fewer, a random few come twice.

    Args:
        tokenizer: the tokenizer that made the token store.
        store: the corpus, see `token_store.open_or_build`.
        sampling: how pairs and masks are drawn.
        source: name of the text in messages; default: the store's folder.
        only_mlm_loss: next-sentence prediction is not trained, so do not warn about it.

    Raises:
        UsageError: stored masks are requested, or the tokenizer lacks a special token.
        DataError: there is too little text for a pair.
    """

    def __init__(
        self,
        tokenizer: TokenizerSpec,
        store: TokenStore,
        sampling: Sampling = DEFAULT,
        source: object = None,
        only_mlm_loss: bool = False,
    ):
        self.sampling = sampling = sampling.of_text()
        assert sampling.max_seq_length is not None and sampling.mask_probability is not None
        self.tokenizer = tokenizer
        self.store = store
        self.max_seq_length = sampling.max_seq_length
        self.epoch = 0
        self._builder = SequenceBuilder(tokenizer, self.max_seq_length)
        self.masking = Masking(
            sampling.mask_probability,
            tokenizer.mask_id,
            self._builder.replacements,
            str(sampling.masking),
            sampling.seed,
        )
        source = store.folder if source is None else source
        self._pairs = self._made_pairs(0, source)
        self._pairs_epoch = 0
        self._length = len(self._pairs)
        self._report()
        if not only_mlm_loss:
            self._report_pairs(source)

    def _made_pairs(self, epoch: int, source: object = "") -> PairTable:
        sampling = self.sampling
        return make_pairs(
            self.store, self.max_seq_length, sampling.short_seq_prob, sampling.seed, epoch, source
        )

    def _report(self) -> None:
        mean_length = np.mean(self._pairs.a_length + self._pairs.b_length) + NUM_SPECIALS
        padding = 100 * (1 - mean_length / self.max_seq_length)
        logging.info(
            "%d samples per epoch, %.0f%% padding at length %d", len(self), padding, self.max_seq_length
        )

    def _report_pairs(self, source: object) -> None:
        random_share = np.mean(self._pairs.is_random)
        logging.info("%.0f%% of the samples are random pairs", 100 * random_share)
        if few := warning_of_few_documents(len(self.store.document_offsets) - 1):
            logging.warning(f"{source}: {few}", mode=LogMode.ONCE)
        if random_share > MAX_RANDOM_SHARE:
            logging.warning(
                "few sentences are followed by another one in their document, so next-sentence prediction "
                "learns nothing; check where documents end (text layout), or drop that loss"
            )

    def __len__(self) -> int:
        return self._length

    @property
    def fingerprint(self) -> str:
        """SHA-256 of everything that determines the samples: tokens, lengths, shares and seed."""
        decisive = {
            "arrays": {name: array["sha256"] for name, array in self.store.manifest["arrays"].items()},
            "tokenizer": self.tokenizer.fingerprint,
            **asdict(self.sampling),
        }
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()

    def set_epoch(self, epoch: int) -> None:
        """Make `dataset[i]` return sample i of this epoch."""
        self.epoch = epoch

    def order(self, epoch: int) -> np.ndarray:
        """The samples of an epoch, shuffled: int64 [len(self)]."""
        return np.random.default_rng((self.sampling.seed, epoch, Stream.ORDER)).permutation(len(self))

    def pairs(self, epoch: int) -> PairTable:
        """The pairs of an epoch, row i for sample i, in the order of the corpus."""
        if epoch != self._pairs_epoch:
            self.store.check_sizes()
            pairs = self._made_pairs(epoch)
            rng = np.random.default_rng((self.sampling.seed, epoch, Stream.PAIRS_KEPT))
            rows = rng.permutation(max(len(self), len(pairs)))[: len(self)] % len(pairs)
            self._pairs, self._pairs_epoch = pairs[np.sort(rows)], epoch
        return self._pairs

    def lengths(self, epoch: int) -> np.ndarray:
        """Number of tokens of each sample of an epoch, including special tokens: int32 [len(self)]."""
        pairs = self.pairs(epoch)
        return pairs.a_length + pairs.b_length + np.int32(NUM_SPECIALS)

    def batch(
        self,
        epoch: int,
        indices: Sequence[int] | np.ndarray,
        mask_probabilities: np.ndarray | None = None,
    ) -> dict[str, np.ndarray]:
        """Samples of an epoch.

        Args:
            mask_probabilities: (B) float, one per sample, instead of the sampling's.

        Returns:
            input_ids: (B, T) int64, `[CLS] A [SEP] B [SEP]` and padding, some tokens masked.
            input_type_ids: (B, T) int64, 1 for B and its [SEP].
            input_mask: (B, T) int64, 1 for tokens, 0 for padding.
            output_ids: (B, T) int64, the tokens, none masked.
            output_mask: (B, T) float32, 1 for tokens to predict.
            labels: (B) int64, 0 where B follows A in the corpus, 1 where it is random.
        """
        samples = np.asarray(indices, dtype=np.int64)
        pairs = self.pairs(epoch)[samples]
        rows = self._builder.build(self.store, pairs)
        masked, chosen = self.masking(
            rows.ids,
            rows.starts_word,
            rows.may_choose,
            rows.lengths,
            epoch,
            samples,
            mask_probabilities,
        )
        return {
            "input_ids": masked,
            "input_type_ids": rows.in_b.astype(np.int64),
            "input_mask": rows.is_token.astype(np.int64),
            "output_ids": rows.ids,
            "output_mask": chosen.astype(np.float32),
            "labels": pairs.is_random.astype(np.int64),
        }

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """Sample `index` of the current epoch: as `batch`, without the first axis."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, np.ndarray]]:
        """Several samples of the current epoch, as `torch.utils.data.DataLoader` requests them."""
        batch = self.batch(self.epoch, indices)
        return [{name: values[row] for name, values in batch.items()} for row in range(len(indices))]

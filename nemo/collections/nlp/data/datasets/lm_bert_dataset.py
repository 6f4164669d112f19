"""Text -> batches of pairs with hidden tokens, ready to be trained on.

Shapes: B batch, T max_seq_length.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence

import numpy as np

from nemo.collections.nlp.data.descriptor import BERTPretrainingDataDesc
from nemo.collections.nlp.data.inputs import AUTO, TextOptions
from nemo.collections.nlp.data.samples.masking import Masking
from nemo.collections.nlp.data.samples.pairs import (
    NUM_SPECIALS,
    PairTable,
    make_pairs,
    warning_of_few_documents,
)
from nemo.collections.nlp.data.samples.sequences import MIN_SEQ_LENGTH, SequenceBuilder
from nemo.collections.nlp.data.store.token_store import Path_, open_or_build
from nemo.collections.nlp.data.tokenizers.base import TokenizerSpec
from nemo.utils.errors import UsageError
from nemo.utils.logging import LogMode, logging

__all__ = ["MAX_RANDOM_SHARE", "MIN_SEQ_LENGTH", "BERTPretrainingDataDesc", "BertPretrainingDataset"]

MAX_RANDOM_SHARE = 0.9  # of pairs, above which documents are too short for pairs; 0.54 is usual
_ROWS, _ORDER = 2, 3  # uses of randomness with the same seed and epoch; pairs.py has the first


class BertPretrainingDataset:
    """Pairs of sentences of a corpus, paired and masked anew in every epoch.

    Sample `i` of epoch `e` is a function of (corpus, tokenizer, options, seed, e, i) alone. Epoch 0
    is for evaluation too: its samples and masks are always the same.

    An epoch has as many samples as epoch 0 has pairs, so that it always has the same number of steps;
    where chance made more pairs, some at random are left out, where it made fewer, some come twice.

    Args:
        tokenizer: makes the token store, and names the special tokens.
        dataset_path: text, as `inputs.sources_of` takes it, or the folder of a token store.
        max_seq_length: T, at least 8.
        mask_probability: share of tokens to guess.
        short_seq_prob: share of documents whose pairs are of a random smaller length in an epoch.
        seed: 0 or more.
        masking: what is hidden together: "whole_word", "token" or "span", see `Masking`.
        text: how text is read.
        store_folder: where the token store is; default: see `token_store.open_or_build`.

    Raises:
        UsageError: a length or a share that cannot be, or a tokenizer without a special token.
        DataError: text that cannot be used, or too little of it.
    """

    def __init__(
        self,
        tokenizer: TokenizerSpec,
        dataset_path: Path_ | Iterable[Path_],
        max_seq_length: int,
        mask_probability: float = 0.15,
        short_seq_prob: float = 0.1,
        seed: int = 0,
        masking: str = "whole_word",
        text: TextOptions = AUTO,
        store_folder: Path_ | None = None,
    ):
        _check("max_seq_length", max_seq_length, max_seq_length >= MIN_SEQ_LENGTH, "at least 8")
        _check("mask_probability", mask_probability, 0 < mask_probability < 1, "0 < p < 1")
        _check("short_seq_prob", short_seq_prob, 0 <= short_seq_prob <= 1, "0 <= p <= 1")
        _check("seed", seed, 0 <= seed < 2**63, "a number from 0 up")
        self.tokenizer = tokenizer
        self.max_seq_length = max_seq_length
        self.short_seq_prob = short_seq_prob
        self.seed = seed
        self.epoch = 0
        self._builder = SequenceBuilder(tokenizer, max_seq_length)
        self.masking = Masking(mask_probability, tokenizer.mask_id, self._builder.replacements, masking, seed)
        self.store = open_or_build(dataset_path, tokenizer, store_folder, text)
        self._pairs = make_pairs(self.store, max_seq_length, short_seq_prob, seed, 0, dataset_path)
        self._pairs_epoch = 0
        self._length = len(self._pairs)
        self._report()

    def _report(self) -> None:
        random_share = np.mean(self._pairs.is_random)
        mean_length = np.mean(self._pairs.a_length + self._pairs.b_length) + NUM_SPECIALS
        logging.info(
            "%d pairs per epoch, %.0f %% of them random, %.0f %% padding at length %d",
            len(self),
            100 * random_share,
            100 * (1 - mean_length / self.max_seq_length),
            self.max_seq_length,
        )
        if few := warning_of_few_documents(len(self.store.document_offsets) - 1):
            logging.warning(f"{self.store.folder}: {few}", mode=LogMode.ONCE)
        if random_share > MAX_RANDOM_SHARE:
            logging.warning(
                "hardly a sentence is followed by another of its document, so the next-sentence task "
                "teaches nothing; check where documents end (text layout), or leave that loss out"
            )

    def __len__(self) -> int:
        return self._length

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all that decides the samples: tokens, lengths, shares and seed."""
        masking = self.masking
        decisive = {
            "arrays": {name: array["sha256"] for name, array in self.store.manifest["arrays"].items()},
            "tokenizer": self.tokenizer.fingerprint,
            "max_seq_length": self.max_seq_length,
            "short_seq_prob": self.short_seq_prob,
            "mask_probability": masking.probability,
            "masking": masking.kind,
            "seed": self.seed,
        }
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()

    def token_counts(self) -> np.ndarray:
        """How often each token is in the text, int64 [vocab_size]."""
        return np.bincount(self.store.tokens, minlength=self.tokenizer.vocab_size)

    def set_epoch(self, epoch: int) -> None:
        """Let `dataset[i]` be sample i of this epoch."""
        self.epoch = epoch

    def order(self, epoch: int) -> np.ndarray:
        """The samples of an epoch, shuffled: int64 [len(self)]."""
        return np.random.default_rng((self.seed, epoch, _ORDER)).permutation(len(self))

    def pairs(self, epoch: int) -> PairTable:
        """The pairs of an epoch, row i for sample i, in the order of the corpus."""
        if epoch != self._pairs_epoch:
            self.store.check_sizes()
            pairs = make_pairs(self.store, self.max_seq_length, self.short_seq_prob, self.seed, epoch)
            rng = np.random.default_rng((self.seed, epoch, _ROWS))
            rows = rng.permutation(max(len(self), len(pairs)))[: len(self)] % len(pairs)
            self._pairs, self._pairs_epoch = pairs[np.sort(rows)], epoch
        return self._pairs

    def lengths(self, epoch: int) -> np.ndarray:
        """Tokens of every sample of an epoch, special ones included and padding not, int32 [len(self)]."""
        pairs = self.pairs(epoch)
        return pairs.a_length + pairs.b_length + np.int32(NUM_SPECIALS)

    def batch(self, epoch: int, indices: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]:
        """Samples of an epoch.

        Returns:
            input_ids: (B, T) int64, `[CLS] A [SEP] B [SEP]` and padding, some tokens hidden.
            input_type_ids: (B, T) int64, 1 for B and its [SEP].
            input_mask: (B, T) int64, 1 for tokens, 0 for padding.
            output_ids: (B, T) int64, the tokens, none hidden.
            output_mask: (B, T) float32, 1 for tokens to guess.
            labels: (B) int64, 0 where B follows A in the corpus, 1 where it is random.
        """
        samples = np.asarray(indices, dtype=np.int64)
        pairs = self.pairs(epoch)[samples]
        rows = self._builder.build(self.store, pairs)
        masked, chosen = self.masking(
            rows.ids, rows.starts_word, rows.may_choose, rows.lengths, epoch, samples
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
        """Sample `index` of the epoch that was set: as `batch`, without the first axis."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, np.ndarray]]:
        """Several samples of the epoch that was set, as `torch.utils.data.DataLoader` asks for them."""
        batch = self.batch(self.epoch, indices)
        return [{name: values[row] for name, values in batch.items()} for row in range(len(indices))]


def _check(name: str, value: float, is_right: bool, expected: str) -> None:
    if not is_right:
        raise UsageError("a value that cannot be", where=name, found=value, expected=expected)

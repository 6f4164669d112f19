"""Data layers for BERT pretraining, from text and from shards.

Shapes: B batch, T tokens of a sample.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from itertools import pairwise
from numbers import Integral
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from nemo.backends.pytorch.nm import DataLayerNM
from nemo.collections.nlp.data.datasets import BertPretrainingDataset, BertPretrainingPreprocessedDataset
from nemo.collections.nlp.data.inputs import AUTO, TextOptions
from nemo.collections.nlp.data.samples.batching import (
    bounds_by_samples,
    bounds_by_tokens,
    check_tokens_per_batch,
)
from nemo.collections.nlp.data.samples.prefetch import prefetched
from nemo.collections.nlp.data.samples.sampling import Sampling
from nemo.collections.nlp.data.store.token_store import open_or_build
from nemo.collections.nlp.data.tokenizers import TokenizerSpec
from nemo.core import ChannelType, LabelsType, MaskType, NeuralType
from nemo.utils.errors import UsageError

PRETRAINING_BATCH = {
    "input_ids": NeuralType(("B", "T"), ChannelType()),  # the tokens, some masked
    "input_type_ids": NeuralType(("B", "T"), ChannelType()),  # 0 in sentence A, 1 in sentence B
    "input_mask": NeuralType(("B", "T"), ChannelType()),  # 1 for a token, 0 for padding
    "output_ids": NeuralType(("B", "T"), LabelsType()),  # the tokens, none masked
    "output_mask": NeuralType(("B", "T"), MaskType()),  # 1 where a token is to be predicted
    "labels": NeuralType(("B",), LabelsType()),  # 0 if B follows A in the corpus, 1 if it is random
}

# Tokens, including padding, of the samples built at once: with fewer, NumPy's overhead per call grows; more
# would not fit into the processor's cache.
POSITIONS_AT_ONCE = 1 << 14
PREFETCHED = 2  # batches


class PretrainingDataLayer(DataLayerNM):
    """The common part of both kinds of data: ports, batch numbers, and prefetching.

    Attributes:
        vocab_size: upper bound of token ids; None if unknown.
        num_segments: upper bound of segment ids.
        tokens_per_batch: maximum number of real tokens in a batch; None if a batch has `batch_size` samples.
        mask_schedule: returns the shares of tokens to predict, float (N), in batches of the epoch by number,
            int (N). None: a constant share.
        batches_ahead: maximum number of batches built while one is trained on.
    """

    output_ports = PRETRAINING_BATCH
    vocab_size: int | None = None
    num_segments = 2
    tokens_per_batch: int | None = None
    mask_schedule: Callable[[np.ndarray], np.ndarray] | None = None
    batches_ahead = PREFETCHED + 1
    items = "tokens"

    def bounds(self, epoch: int) -> np.ndarray:
        """Bounds of the batches of an epoch in its order: int64 [batches + 1]."""
        raise NotImplementedError

    def num_batches(self, epoch: int) -> int:
        """Batches in an epoch; with `tokens_per_batch`, the number varies a little."""
        return len(self.bounds(epoch)) - 1

    def items_in(self, batch: Sequence[Tensor]) -> int:
        """The number of real tokens in a batch, without padding."""
        return int(batch[list(self.output_ports).index("input_mask")].sum())

    def samples_before(self, batch: int) -> int | None:
        return super().samples_before(batch) if self.tokens_per_batch is None else None

    def samples_of(self, epoch: int, first: int, stop: int) -> list[int]:
        bounds = self.bounds(epoch)
        return self.order(epoch)[bounds[first] : bounds[stop]].tolist()

    def batches(self, epoch: int, first: int = 0, stride: int = 1) -> Generator[Sequence[Any], None, None]:
        """Every `stride`th batch of an epoch from number `first` on, built one ahead of its use."""
        made = self._arrays(epoch, first, stride)
        tensors = ([torch.from_numpy(batch[port]) for port in self.output_ports] for batch in made)
        with closing(prefetched(tensors, depth=PREFETCHED)) as ahead:
            yield from ahead

    def _arrays(self, epoch: int, first: int, stride: int) -> Generator[dict[str, np.ndarray], None, None]:
        """Every `stride`th batch of an epoch from number `first` on: port -> array (B, ...)."""
        raise NotImplementedError


class BertPretrainingDataLayer(PretrainingDataLayer):
    """Pairs of sentences cut from raw text, masked anew in every epoch.

    Sample `i` of epoch `e` depends on `seed`, `e` and `i` alone, so it is the same in every process and after
    a resume. Every evaluation sees the samples of epoch 0, in the order of the text unless `shuffle` is True.

    Args:
        tokenizer: the tokenizer of the text.
        dataset: a token store; or text, as `inputs.sources_of` takes it (a file, folder or address, or
            several), or the folder of a store, see `open_or_build`.
        max_seq_length: T, including `[CLS]` and both `[SEP]`.
        mask_probability: share of a sample's tokens to predict.
        short_seq_prob: share of documents cut into short sequences.
        batch_size: B.
        shuffle: a new order in every epoch. Default: only for training.
        seed: seed of order, pairs and masks.
        text: how the text is read.
        masking: the unit of masking: "whole_word", "token" or "span", see `Masking`.
        tokens_per_batch: maximum number of real tokens in a batch, instead of `batch_size`; at least T.
        only_mlm_loss: next-sentence prediction is not trained, so do not warn about it.

    Raises:
        UsageError: a size is out of range.
        DataError: there is no text, or too little for a pair.
    """

    def __init__(
        self,
        tokenizer: TokenizerSpec,
        dataset: str | Path | Sequence[str | Path],
        max_seq_length: int,
        mask_probability: float = 0.15,
        short_seq_prob: float = 0.1,
        batch_size: int = 64,
        shuffle: bool | None = None,
        seed: int = 0,
        text: TextOptions = AUTO,
        masking: str = "whole_word",
        tokens_per_batch: int | None = None,
        only_mlm_loss: bool = False,
    ):
        _check_sizes(batch_size, tokens_per_batch, max_seq_length)  # before the work
        sampling = Sampling(max_seq_length, masking, mask_probability, short_seq_prob, seed).of_text()
        store = open_or_build(dataset, tokenizer, options=text)
        data = BertPretrainingDataset(tokenizer, store, sampling, dataset, only_mlm_loss)
        self._take(data, batch_size, shuffle, tokens_per_batch)

    @classmethod
    def over(
        cls,
        dataset: BertPretrainingDataset,
        batch_size: int = 64,
        shuffle: bool | None = None,
        tokens_per_batch: int | None = None,
    ) -> Self:
        """The layer over an open dataset, which has the tokenizer and the sampling; the rest as above.

        Raises:
            UsageError: a size is out of range.
        """
        layer = cls.__new__(cls)
        layer._init_params = {"dataset": dataset}  # no file can have it: export_to_config says so
        layer._take(dataset, batch_size, shuffle, tokens_per_batch)
        return layer

    def _take(
        self,
        dataset: BertPretrainingDataset,
        batch_size: int,
        shuffle: bool | None,
        tokens_per_batch: int | None,
    ) -> None:
        _check_sizes(batch_size, tokens_per_batch, dataset.max_seq_length)
        self.dataset = dataset
        self.vocab_size = dataset.tokenizer.vocab_size
        self.batch_size = batch_size
        self.tokens_per_batch = tokens_per_batch
        self.shuffle = shuffle
        self.seed = dataset.sampling.seed

    def order(self, epoch: int) -> np.ndarray:
        """The samples of an epoch in the order they are seen: int64 [samples]."""
        return self.dataset.order(epoch) if self.shuffle else np.arange(len(self))

    def bounds(self, epoch: int) -> np.ndarray:
        if self.tokens_per_batch is None:
            return bounds_by_samples(len(self), self.batch_size)
        return bounds_by_tokens([self.dataset.lengths(epoch)[self.order(epoch)]], self.tokens_per_batch)

    def _arrays(self, epoch: int, first: int, stride: int) -> Generator[dict[str, np.ndarray], None, None]:
        order, bounds = self.order(epoch), self.bounds(epoch)
        batches = np.arange(first, len(bounds) - 1, stride)
        num_at_once = self._num_at_once(len(bounds) - 1)
        for start in range(0, len(batches), num_at_once):
            some = batches[start : start + num_at_once]
            samples = [order[bounds[batch] : bounds[batch + 1]] for batch in some]
            rates = None
            if self.mask_schedule is not None:
                rates = np.repeat(self.mask_schedule(some), list(map(len, samples)))
            made = self.dataset.batch(epoch, np.concatenate(samples), rates)
            ends = np.cumsum([0, *map(len, samples)])
            for begin, end in pairwise(ends):
                yield {port: values[begin:end] for port, values in made.items()}

    def _num_at_once(self, num_batches: int) -> int:
        """Number of batches to build together, for an epoch of `num_batches`."""
        samples_at_once = POSITIONS_AT_ONCE // self.dataset.max_seq_length
        return max(1, samples_at_once * num_batches // len(self))

    @property
    def batches_ahead(self) -> int:  # type: ignore[override]
        return PREFETCHED + 1 + self._num_at_once(self.num_batches(0))


class BertPretrainingPreprocessedDataLayer(PretrainingDataLayer):
    """Rows of HDF5 shards, from `nemo-bert prepare` or NVIDIA's scripts: pairs that are already masked.

    With `mode="train"` rows are shuffled, see `BertPretrainingPreprocessedDataset`; the order of epoch `e`
    depends on the shards, `seed` and `e` alone, and a resume skips what was already seen. In any other
    mode rows come in stored order. An epoch is one pass over all rows in either case.

    Args:
        dataset: a shard (`.hdf5`), or a folder of them. In a folder with both, training uses the shards
            named `training`, any other mode those named `test`.
        max_pred_length: targets in a row, or their maximum if masks are drawn; also called
            `max_predictions_per_seq`. Default: as in the shards, or as follows from `mask_probability`.
        mode: "train", "eval", "test" or "infer".
        batch_size: B. It may also come before `mode`, as in the tutorial.
        seed: seed of the order.
        tokenizer: the tokenizer that made the shards, which are checked against it.
        vocab_size: the model's vocabulary size, upper bound of the ids. Default: the tokenizer's.
        only_mlm_loss: accept shards without next_sentence_labels; `labels` are -1 then.
        max_seq_length: length for shards without padding, see `BertPretrainingPreprocessedDataset`.
        masking: "stored"; or "token", "whole_word" or "span": undo the masks and draw new ones in every
            epoch.
        mask_probability: share of tokens to predict if masks are drawn; default: 0.15.
        tokens_per_batch: maximum number of real tokens in a batch, instead of `batch_size`; at least the
            length of the rows.

    Raises:
        UsageError: an argument is invalid.
        DataError: the shards are not usable, or were made with a different tokenizer.
    """

    def __init__(
        self,
        dataset: str | Path,
        max_pred_length: int | None = None,
        mode: str | int = "train",
        batch_size: int | str = 64,
        seed: int = 0,
        tokenizer: TokenizerSpec | None = None,
        vocab_size: int | None = None,
        only_mlm_loss: bool = False,
        max_seq_length: int | None = None,
        max_predictions_per_seq: int | None = None,
        masking: str = "stored",
        mask_probability: float | None = None,
        tokens_per_batch: int | None = None,
    ):
        if isinstance(mode, Integral) and isinstance(batch_size, str):
            mode, batch_size = batch_size, mode
        if not isinstance(mode, str) or not isinstance(batch_size, Integral):
            raise UsageError(
                "mode is a name, batch_size a number", where=self, found=f"{mode!r} and {batch_size!r}"
            )
        given = [length for length in (max_pred_length, max_predictions_per_seq) if length is not None]
        if len(given) > 1:
            raise UsageError("give max_pred_length once", where=self, found=f"{len(given)} times")
        _check_sizes(batch_size)  # before the work
        data = BertPretrainingPreprocessedDataset(
            dataset,
            next(iter(given), None),
            mode,
            Sampling(max_seq_length, masking, mask_probability, seed=seed),
            tokenizer=tokenizer,
            vocab_size=vocab_size,
            only_mlm_loss=only_mlm_loss,
        )
        self._take(data, int(batch_size), tokens_per_batch)

    @classmethod
    def over(
        cls,
        dataset: BertPretrainingPreprocessedDataset,
        batch_size: int = 64,
        tokens_per_batch: int | None = None,
    ) -> Self:
        """The layer over an open dataset, which has the mode and the sampling; the rest as above.

        Raises:
            UsageError: a size is out of range.
        """
        layer = cls.__new__(cls)
        layer._init_params = {"dataset": dataset}  # no file can have it: export_to_config says so
        layer._take(dataset, batch_size, tokens_per_batch)
        return layer

    def _take(
        self, dataset: BertPretrainingPreprocessedDataset, batch_size: int, tokens_per_batch: int | None
    ) -> None:
        _check_sizes(batch_size, tokens_per_batch, dataset.max_seq_length)
        self.dataset = dataset
        self.vocab_size = dataset.vocab_size
        self.batch_size = batch_size
        self.tokens_per_batch = tokens_per_batch
        self.shuffle = dataset.mode == "train"
        self.seed = dataset.sampling.seed

    def order(self, epoch: int) -> np.ndarray:
        """The rows of an epoch in the order they are seen: int64 [rows]."""
        return self.dataset.order(epoch)

    def bounds(self, epoch: int) -> np.ndarray:
        return self.dataset.bounds(self.batch_size, epoch, self.tokens_per_batch)

    def _arrays(self, epoch: int, first: int, stride: int) -> Generator[dict[str, np.ndarray], None, None]:
        yield from self.dataset.batches(
            self.batch_size, epoch, first, stride, self.tokens_per_batch, self.mask_schedule
        )


def _check_sizes(batch_size: int, tokens_per_batch: int | None = None, max_seq_length: int = 0) -> None:
    if batch_size < 1:
        raise UsageError("out of range", where="batch_size", found=batch_size, expected="1 or more")
    check_tokens_per_batch(tokens_per_batch, max_seq_length)

"""Rows of HDF5 shards -> batches, ready to be trained on.

Shapes: B batch, L tokens of a row.
"""

import hashlib
import json
import os
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from nemo.collections.nlp.data.hdf5 import (
    LABELS,
    Limits,
    Rows,
    check_shard_tokenizer,
    lengths_by_name,
    longest_row,
    manifests_of,
    open_shard,
    read_checked,
    read_lengths,
    restored,
    row_blocks_of,
    shards_of,
    survey_of,
)
from nemo.collections.nlp.data.hdf5.remasking import Remasking
from nemo.collections.nlp.data.samples.batching import bounds_by_samples, bounds_by_tokens
from nemo.collections.nlp.data.samples.prefetch import prefetched
from nemo.collections.nlp.data.samples.randomness import Stream
from nemo.collections.nlp.data.samples.sampling import Sampling
from nemo.collections.nlp.data.tokenizers.base import TokenizerSpec
from nemo.collections.nlp.options.choices import STORED
from nemo.utils.errors import DataError, UsageError
from nemo.utils.files import names_of
from nemo.utils.logging import logging
from nemo.utils.lookup import choose

MODES = ("train", "eval", "test", "infer")
DEFAULT = Sampling(max_seq_length=None)
ROWS_CHECKED_AT_ONCE = 500_000
WINDOW_BYTES = 32 << 20  # of rows shuffled together in memory
_NUMBER = "number"  # number of a row in the dataset, beside the shards' fields


@dataclass(frozen=True)
class RowBlock:
    """Consecutive rows of a shard, read at once.

    Attributes:
        shard: number of the shard.
        start, stop: the rows in the shard.
        first: number of row `start` in the dataset.
    """

    shard: int
    start: int
    stop: int
    first: int

    def __len__(self) -> int:
        return self.stop - self.start


class BertPretrainingPreprocessedDataset:
    """The rows of HDF5 shards, in an order that is a function of (shards, seed, epoch) alone.

    For training, blocks of consecutive rows (4 MiB in memory: 2,500 rows of 128 tokens) come in random
    order, and the rows of successive blocks (32 MiB, the window) are shuffled together. At most three
    windows are in memory: one in use, one ready, one being read. Otherwise rows come in stored
    order, files sorted by name. Every row comes once in an epoch.

    The first shard is read and checked in full when the dataset is opened. So are the others if they have at
    most half a million rows (some seconds); otherwise blocks from all over them are checked, and every row
    again when it is read. If there is a manifest, every file that it lists must exist.

    Rows have stored masks, the same in every epoch. They can be undone, which restores the text's tokens, and
    new ones drawn in every epoch; the masks of an evaluation are always the same.

    Args:
        dataset_path: a shard, or a folder of them, see `hdf5.shards_of`.
        max_pred_length: targets per row with which the shards were made; default: the size of their
            arrays. For new masks, the maximum per row; default: as the sampling says.
        mode: "train"; or "eval", "test" or "infer", which mean the same.
        sampling: seed and masking, stored or new. Words are the tokenizer's; in Chinese and Japanese,
            rjieba's. Its length is for shards without padding; default: the longest row of the first shard.
            Arrays of all others have length L.
        tokenizer: the one the shards were made with, if available; they are checked against it.
        vocab_size: upper bound of the ids; default: `tokenizer.vocab_size`.
        only_mlm_loss: accept shards without next_sentence_labels; labels are -1 then.

    Attributes:
        shards: the headers of the shards.
        max_seq_length: L.
        vocab_size: the tokenizer's; without one, as given, or None.
        survey: statistics of the first shard.

    Raises:
        UsageError: an argument is invalid.
        DataError: the shards are not usable, do not match, or were made with a different tokenizer.
    """

    def __init__(
        self,
        dataset_path: str | os.PathLike[str],
        max_pred_length: int | None = None,
        mode: str = "train",
        sampling: Sampling = DEFAULT,
        tokenizer: TokenizerSpec | None = None,
        vocab_size: int | None = None,
        only_mlm_loss: bool = False,
    ):
        if max_pred_length is not None and max_pred_length < 1:
            raise UsageError(
                "out of range", where="max_pred_length", found=max_pred_length, expected="1 or more"
            )
        self.sampling = sampling = sampling.of_shards()
        self.mode = choose({name: name for name in MODES}, mode, what="mode")
        if vocab_size is None and tokenizer is not None:
            vocab_size = tokenizer.vocab_size
        self.vocab_size = vocab_size if tokenizer is None else tokenizer.vocab_size
        for manifest in manifests_of(Path(dataset_path)):
            manifest.check_files(Path(dataset_path))
            if tokenizer is not None:
                manifest.check_tokenizer(tokenizer)
        self.shards = [open_shard(path) for path in shards_of(dataset_path, mode)]
        first = self.shards[0]
        self.max_seq_length = first.seq_length or sampling.max_seq_length or longest_row(first)
        stored = max_pred_length if sampling.masking == STORED else None
        # Rows without padding store how many targets they have.
        most = stored or first.max_predictions or self.max_seq_length
        self._limits = Limits(self.max_seq_length, most, vocab_size)
        self._check_headers(only_mlm_loss)
        self.survey = survey_of(first, self._limits)
        if tokenizer is not None:
            check_shard_tokenizer(tokenizer, self.survey, first)
        self._remasking: Remasking | None = None
        if sampling.masking != STORED:
            self._remasking = Remasking(sampling, self.survey, tokenizer, vocab_size, max_pred_length)
        self._tokenizer = tokenizer
        self._blocks = self._cut()
        self._check_others()
        logging.info(
            "%s: %d shards for %s, %s rows of %d tokens, masks: %s; the first one: %s",
            dataset_path,
            len(self.shards),
            "training" if mode == "train" else "evaluation",
            f"{len(self):,}",
            self.max_seq_length,
            "as stored" if sampling.masking == STORED else f"new ones ({sampling.masking})",
            self.survey,
        )

    def _check_headers(self, only_mlm_loss: bool) -> None:
        first = self.shards[0]
        of_arrays = first.seq_length, first.max_predictions
        for said, found in zip(lengths_by_name(first.path.absolute()), of_arrays, strict=True):
            if None not in (said, found) and said != found:
                logging.warning(
                    "%s: its name says %d but its arrays have %d; using the arrays", first.path, said, found
                )
        for shard in self.shards:
            if shard.seq_length != first.seq_length:
                raise DataError(
                    "row length differs from the first shard",
                    where=shard.path,
                    found=shard.seq_length or "variable",
                    expected=f"{first.seq_length or 'variable'}, as in {first.path}",
                    fix="give a folder with shards of one length",
                )
            if shard.max_predictions not in (None, self._limits.max_predictions):
                raise DataError(
                    "wrong number of targets per row",
                    where=f"{shard.path} masked_lm_positions",
                    found=shard.max_predictions,
                    expected=self._limits.max_predictions,
                    fix=f"give --max_predictions_per_seq {shard.max_predictions}, or leave it out"
                    if shard == first
                    else "give a folder with shards of one kind",
                )
            if not shard.has_labels and not only_mlm_loss:
                raise DataError(
                    "no labels for next-sentence prediction",
                    where=shard.path,
                    expected=LABELS,
                    fix="train without it: --only_mlm_loss",
                )

    def _cut(self) -> list[RowBlock]:
        blocks: list[RowBlock] = []
        first = 0
        for number, shard in enumerate(self.shards):
            for start, stop in row_blocks_of(shard, self._limits):
                blocks.append(RowBlock(number, start, stop, first))
                first += stop - start
        return blocks

    def _check_others(self) -> None:
        """Check the rows of the other shards against the first one before training."""
        blocks = [block for block in self._blocks if block.shard > 0]
        step = -(-sum(map(len, blocks)) // ROWS_CHECKED_AT_ONCE) or 1
        for block in blocks[::step]:
            self._read(block)

    def _read(self, block: RowBlock) -> Rows:
        return read_checked(
            self.shards[block.shard], block.start, block.stop, self._limits, self.survey.frame
        )

    def __len__(self) -> int:
        return sum(shard.num_rows for shard in self.shards)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of names, sizes and shapes of all shards, the content of the first, masking and seed."""
        decisive = {
            "shards": [
                [name, shard.num_bytes, shard.num_rows]
                for name, shard in zip(names_of([s.path for s in self.shards]), self.shards, strict=True)
            ],
            "first": self.survey.sha256,
            "limits": [self.max_seq_length, self._limits.max_predictions],
            "mode": self.mode,
            "seed": self.sampling.seed,
            "masking": self.sampling.masking,
        }
        if self._remasking is not None:
            drawn = self._remasking.masking
            decisive["drawn"] = [drawn.probability, drawn.max_predictions]
            decisive["tokenizer"] = None if self._tokenizer is None else self._tokenizer.fingerprint
        return hashlib.sha256(json.dumps(decisive).encode()).hexdigest()

    # The order of an epoch: windows of blocks, and the rows in each.

    def _windows(self, epoch: int) -> Iterator[list[RowBlock]]:
        numbers = np.arange(len(self._blocks))
        if self.mode == "train":
            numbers = np.random.default_rng((self.sampling.seed, epoch, Stream.SHARD_BLOCKS)).permutation(
                numbers
            )
        most_rows = WINDOW_BYTES // self._limits.row_bytes
        window: list[RowBlock] = []
        for number in numbers:
            if window and sum(map(len, window)) + len(self._blocks[number]) > most_rows:
                yield window
                window = []
            window.append(self._blocks[number])
        yield window

    def _order_within(self, epoch: int, window: int, size: int) -> np.ndarray:
        if self.mode != "train":
            return np.arange(size)
        return np.random.default_rng((self.sampling.seed, epoch, Stream.SHARD_ROWS, window)).permutation(size)

    def order(self, epoch: int) -> np.ndarray:
        """The row numbers of an epoch in their order, counted over all shards: int64 [len(self)]."""
        return np.concatenate(list(self._orders(epoch)))

    def _orders(self, epoch: int) -> Iterator[np.ndarray]:
        """The row numbers of an epoch in their order, one int64 array per window."""
        for number, window in enumerate(self._windows(epoch)):
            rows = _numbers(window)
            yield rows[self._order_within(epoch, number, len(rows))]

    @cached_property
    def lengths(self) -> np.ndarray:
        """Number of tokens of each row, without padding: int32 [len(self)], counted over all shards.

        The input masks are read once for it, at about a million rows per second.
        """
        return np.concatenate([read_lengths(shard, self._limits) for shard in self.shards])

    def bounds(self, batch_size: int, epoch: int = 0, tokens_per_batch: int | None = None) -> np.ndarray:
        """Bounds of the batches of an epoch in its order: int64 [batches + 1]."""
        if tokens_per_batch is None:
            return bounds_by_samples(len(self), batch_size)
        return bounds_by_tokens((self.lengths[rows] for rows in self._orders(epoch)), tokens_per_batch)

    def batches(
        self,
        batch_size: int,
        epoch: int = 0,
        first: int = 0,
        stride: int = 1,
        tokens_per_batch: int | None = None,
        mask_schedule: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> Generator[dict[str, np.ndarray], None, None]:
        """Every `stride`th batch of an epoch from number `first` on, across shards.

        Only the last one may be short. Batches before `first` are not read.

        Args:
            batch_size: B; ignored with `tokens_per_batch`.
            tokens_per_batch: maximum number of tokens in a batch; at least L.
            mask_schedule: batch numbers -> shares of tokens to predict, instead of the sampling's.

        Yields:
            input_ids: (B, L) int64, some tokens masked.
            input_type_ids: (B, L) int64, 1 for B and its [SEP].
            input_mask: (B, L) int64, 1 for tokens, 0 for padding.
            output_ids: (B, L) int64, the tokens, none masked.
            output_mask: (B, L) float32, 1 for tokens to predict.
            labels: (B) int64, 0 where B follows A, 1 where it is random.

        Raises:
            DataError: a row is invalid, or a shard was damaged or changed since it was opened.
        """
        bounds = self.bounds(batch_size, epoch, tokens_per_batch)
        sizes = iter(np.diff(bounds)[first:].tolist())
        skipped = int(bounds[min(first, len(bounds) - 1)])
        blocks: list[Rows] = []
        missing, number = next(sizes, 0), first
        with closing(prefetched(self._read_windows(epoch, skipped), depth=1)) as windows:
            for rows, order in windows:
                while len(order):
                    chosen, order = order[:missing], order[missing:]
                    if (number - first) % stride == 0:
                        blocks.append({name: values[chosen] for name, values in rows.items()})
                    missing -= len(chosen)
                    if missing == 0:
                        if blocks:
                            rate = None if mask_schedule is None else mask_schedule(np.array([number]))
                            yield self._batch(blocks, epoch, rate)
                        blocks, missing, number = [], next(sizes, 0), number + 1

    def _read_windows(self, epoch: int, skipped: int) -> Generator[tuple[Rows, np.ndarray], None, None]:
        """The rows of every window and their order, without the first `skipped` samples of the epoch."""
        for number, window in enumerate(self._windows(epoch)):
            size = sum(map(len, window))
            if skipped < size:
                rows = {**_joined([self._read(block) for block in window]), _NUMBER: _numbers(window)}
                yield rows, self._order_within(epoch, number, size)[skipped:]
            skipped = max(0, skipped - size)

    def _batch(self, blocks: list[Rows], epoch: int, mask_rate: np.ndarray | None) -> dict[str, np.ndarray]:
        """A batch of rows, in the form of the data layer's ports."""
        rows = {name: values.astype(np.int64) for name, values in _joined(blocks).items()}
        originals = restored(rows)
        if self._remasking is None:
            shown = rows["input_ids"]
            chosen = np.zeros(shown.shape, dtype=bool)
            row, slot = rows["masked_lm_positions"].nonzero()
            chosen[row, rows["masked_lm_positions"][row, slot]] = True
        else:
            epoch = epoch if self.mode == "train" else 0
            rates = None if mask_rate is None else np.repeat(mask_rate, len(originals))
            shown, chosen = self._remasking(originals, rows["input_mask"] == 1, epoch, rows[_NUMBER], rates)
        return {
            "input_ids": shown,
            "input_type_ids": rows["segment_ids"],
            "input_mask": rows["input_mask"],
            "output_ids": originals,
            "output_mask": chosen.astype(np.float32),
            "labels": rows[LABELS],
        }


def _numbers(window: list[RowBlock]) -> np.ndarray:
    """The row numbers of blocks, counted over all shards: int64."""
    return np.concatenate([np.arange(block.first, block.first + len(block)) for block in window])


def _joined(blocks: list[Rows]) -> Rows:
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}

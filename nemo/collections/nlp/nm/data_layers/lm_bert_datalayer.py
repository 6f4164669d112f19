"""Batches for BERT pretraining: what is in one, and where they come from.

Shapes: B batch, T max_seq_length.
"""

import queue
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from nemo.backends.pytorch.nm import DataLayerNM
from nemo.collections.nlp.data.corpus import AUTO, TextOptions
from nemo.collections.nlp.data.datasets import BertPretrainingDataset
from nemo.collections.nlp.data.tokenizers import TokenizerSpec
from nemo.core import ChannelType, LabelsType, MaskType, NeuralType
from nemo.utils.errors import UsageError

T = TypeVar("T")

PRETRAINING_BATCH = {
    "input_ids": NeuralType(("B", "T"), ChannelType()),  # the tokens, some hidden behind [MASK]
    "input_type_ids": NeuralType(("B", "T"), ChannelType()),  # 0 in sentence A, 1 in sentence B
    "input_mask": NeuralType(("B", "T"), ChannelType()),  # 1 for a token, 0 for padding
    "output_ids": NeuralType(("B", "T"), LabelsType()),  # the tokens, none hidden
    "output_mask": NeuralType(("B", "T"), MaskType()),  # 1 where a token has to be guessed
    "labels": NeuralType(("B",), LabelsType()),  # 0 if B follows A in the corpus, 1 if it is random
}


class BertPretrainingDataLayer(DataLayerNM):
    """Pairs of sentences cut from raw text, masked afresh in every epoch.

    Sample `i` of epoch `e` depends on `seed`, `e` and `i` alone, so it is the same in every process and after
    a resume; without `shuffle` the samples of epoch 0 are those of every evaluation.

    Args:
        tokenizer: what the text is cut into tokens with.
        dataset: a text file, or a folder of `*.txt` files.
        max_seq_length: T, `[CLS]` and both `[SEP]` included.
        mask_probability: share of a sample's tokens that are to be guessed.
        short_seq_prob: share of documents cut into short sequences.
        batch_size: B.
        shuffle: another order in every epoch.
        seed: of order, pairs and masks.
        text: how the text is read.

    Raises:
        UsageError: a size out of range.
        DataError: no text, or none that makes a pair.
    """

    output_ports = PRETRAINING_BATCH
    items = "tokens"

    def __init__(
        self,
        tokenizer: TokenizerSpec,
        dataset: str | Path,
        max_seq_length: int,
        mask_probability: float = 0.15,
        short_seq_prob: float = 0.1,
        batch_size: int = 64,
        shuffle: bool = False,
        seed: int = 0,
        text: TextOptions = AUTO,
    ):
        if batch_size < 1:
            raise UsageError("out of range", where="batch_size", found=batch_size, expected="1 or more")
        self.dataset = BertPretrainingDataset(
            tokenizer,
            dataset,
            max_seq_length,
            mask_probability=mask_probability,
            short_seq_prob=short_seq_prob,
            seed=seed,
            text=text,
        )
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed

    def items_in(self, batch: Sequence[Tensor]) -> int:
        """Real tokens: padding does not count."""
        return int(batch[list(self.output_ports).index("input_mask")].sum())

    def batches(self, epoch: int, first: int = 0) -> Generator[Sequence[Any], None, None]:
        """The batches of an epoch from number `first` on; the next one is made while one is worked on."""
        order = self.dataset.order(epoch) if self.shuffle else np.arange(len(self))
        starts = range(first * self.batch_size, len(order), self.batch_size)
        made = (self.dataset.batch(epoch, order[s : s + self.batch_size]) for s in starts)
        tensors = ([torch.from_numpy(batch[port]) for port in self.output_ports] for batch in made)
        with closing(prefetched(tensors, depth=2)) as ahead:
            yield from ahead


def prefetched(items: Iterator[T], depth: int) -> Generator[T, None, None]:
    """`items`, made by a thread that runs up to `depth` of them ahead; its errors are raised here.

    The thread has ended when the generator is exhausted or closed: one that is still at work when the
    interpreter shuts down would abort the process.
    """
    ready: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(maxsize=depth)
    stopped = threading.Event()

    def put(item: T | None, problem: BaseException | None) -> None:
        while not stopped.is_set():
            try:
                ready.put((item, problem), timeout=0.1)
                return
            except queue.Full:
                continue

    def work() -> None:
        try:
            for item in items:
                put(item, None)
                if stopped.is_set():
                    return
            put(None, StopIteration())
        except BaseException as problem:
            put(None, problem)

    thread = threading.Thread(target=work, daemon=True, name="batches")
    thread.start()
    try:
        while True:
            item, problem = ready.get()
            if isinstance(problem, StopIteration):
                return
            if problem is not None:
                raise problem
            yield item  # type: ignore[misc]
    finally:
        stopped.set()
        thread.join()

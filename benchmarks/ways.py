"""Shared by the benchmarks of the training step: shapes, batches, and the loops to compare.

A *way* is one way to train the same BERT on the same batches: our graph through `NeuralModuleFactory.train`,
Hugging Face's Trainer, or a bare loop around `BertForPreTraining`. All minimize the masked-language-model and
next-sentence losses with AdamW and dropout, and clip the gradient norm to 1.

Shapes: B batch, T tokens.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import cycle
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

PAD, CLS, SEP, MASK, FIRST_WORD = 0, 101, 102, 103, 999  # as in bert-base-uncased
MASKED = 0.15
SHORT = 0.1
"""Of the sequences of a text of long documents, as BERT cuts it: 93 to 97% of the positions hold a token."""
VARIED_BATCHES = 256  # enough that consecutive batches rarely have the same number of tokens
LR, WEIGHT_DECAY, CLIP = 1e-4, 0.01, 1.0
FOREVER = 10**9  # steps; the tick function ends the training


@dataclass(frozen=True)
class Shape:
    """Sizes of a model and of its batches.

    Attributes:
        padding: share of padding among the B*T positions; each batch has at least one full sequence.
        short: without `padding`, the share of sequences with random lengths.
    """

    name: str
    num_layers: int
    hidden_size: int
    num_heads: int
    intermediate_size: int
    batch_size: int
    length: int
    padding: float = 0.0
    short: float = 0.0
    vocab_size: int = 30522
    dropout: float = 0.1

    @property
    def model(self) -> dict[str, Any]:
        """Arguments for `transformers.BertConfig` and our `BERT`."""
        return {
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "num_hidden_layers": self.num_layers,
            "num_attention_heads": self.num_heads,
            "intermediate_size": self.intermediate_size,
            "max_position_embeddings": max(512, self.length),
            "hidden_dropout_prob": self.dropout,
            "attention_probs_dropout_prob": self.dropout,
        }

    def flops(self, batch: "Batch") -> float:
        """Useful FLOPs of a step: for real tokens, and for masked rows in the vocabulary product."""
        width = self.hidden_size
        lengths = batch.input_mask.sum(1).astype(float)
        encoder = 6 * self.num_layers * (4 * width**2 + 2 * width * self.intermediate_size) * lengths.sum()
        attention = 12 * self.num_layers * width * (lengths**2).sum()
        head = 6 * (width * self.vocab_size + width**2) * batch.output_mask.sum()
        return float(encoder + attention + head)


class Batch(NamedTuple):
    """A batch in the order of our data layer's ports: int64 [B, T], labels [B]."""

    input_ids: np.ndarray
    input_type_ids: np.ndarray
    input_mask: np.ndarray
    output_ids: np.ndarray
    output_mask: np.ndarray
    labels: np.ndarray

    @property
    def tokens(self) -> int:
        """Number of real tokens."""
        return int(self.input_mask.sum())


def as_in_text(shape: Shape) -> Shape:
    """The shape with lengths that vary from batch to batch as in text; those of padded shapes do already."""
    return shape if shape.padding else replace(shape, short=SHORT)


def synthetic_batches(shape: Shape, number: int | None = None, seed: int = 0) -> list[Batch]:
    """Different batches with word frequencies as in text (Zipf) and BERT's masks (80/10/10)."""
    if number is None:
        number = VARIED_BATCHES if shape.padding or shape.short else 8
    return [_synthetic_batch(shape, np.random.default_rng((seed, i))) for i in range(number)]


def _synthetic_batch(shape: Shape, rng: np.random.Generator) -> Batch:
    size = (shape.batch_size, shape.length)
    positions = np.arange(shape.length)
    lengths = sequence_lengths(shape, rng)[:, None]
    middles = rng.integers(2, lengths - 2)  # where sentence A ends
    words = _words(shape.vocab_size, size, rng)
    is_special = (positions == 0) | (positions == middles) | (positions == lengths - 1)
    output_ids = np.where(positions == middles, SEP, np.where(positions == lengths - 1, SEP, words))
    output_ids[:, 0] = CLS
    is_token = positions < lengths
    output_ids[~is_token] = PAD

    # The first of a random order, specials and padding last: exactly 15% of every sequence.
    order = np.where(is_token & ~is_special, rng.random(size), 2).argsort(1).argsort(1)
    output_mask = order < np.maximum(1, np.round(MASKED * lengths))
    shown = rng.random(size)
    replaced = np.where(shown < 0.8, MASK, _words(shape.vocab_size, size, rng))
    input_ids = np.where(output_mask & (shown < 0.9), replaced, output_ids)
    types = is_token & (positions > middles)
    labels = rng.integers(0, 2, shape.batch_size)
    return Batch(*(a.astype(np.int64) for a in (input_ids, types, is_token, output_ids, output_mask, labels)))


def sequence_lengths(shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """Tokens of each sequence of a batch, int [B].

    At least one sequence is full, as a batch is padded to its longest. With `padding`, the others follow a
    broad beta distribution around their mean, as pairs of sentences do. Otherwise a share of them, `short`,
    has random lengths.
    """
    lengths = np.full(shape.batch_size, shape.length)
    if not shape.padding:
        is_short = rng.random(shape.batch_size) < shape.short
        is_short[rng.integers(shape.batch_size)] = False
        return np.where(is_short, rng.integers(8, shape.length + 1, shape.batch_size), lengths)
    mean = (shape.batch_size * (1 - shape.padding) - 1) / (shape.batch_size - 1)
    lengths = np.round(shape.length * rng.beta(3 * mean, 3 * (1 - mean), shape.batch_size)).astype(int)
    lengths[rng.integers(shape.batch_size)] = shape.length
    return np.clip(lengths, 8, shape.length)


def _words(vocab_size: int, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Ids with Zipf's distribution: the nth id occurs about 1/n times as often as the first."""
    num_words = vocab_size - FIRST_WORD
    return FIRST_WORD + ((num_words + 1) ** rng.random(size)).astype(np.int64) - 1


@dataclass(frozen=True)
class Way:
    """One way to train.

    Attributes:
        loop: "ours", "trainer" or "bare".
        level: precision of ours, O0 to O2.
        bf16, compiled, fused: autocast, `torch.compile` and fused AdamW, for the others.
        attention: attention of Hugging Face's model ("flash_attention_2" skips padding); None: its default.
        environment: environment variables of its process.
    """

    loop: str
    level: str = "O0"
    bf16: bool = False
    compiled: bool = False
    fused: bool = False
    attention: str | None = None
    environment: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """The name in tables."""
        if self.loop == "ours":
            return f"ours {self.level}"
        settings = {
            "bf16": self.bf16,
            "compile": self.compiled,
            "fused": self.fused,
            "allocator": self.environment,
        }
        names = [name for name, is_on in settings.items() if is_on]
        return " ".join([self.loop, *names, *([self.attention] if self.attention else [])])

    @property
    def dtype(self) -> str:
        """The type of its matrix products."""
        return "bfloat16" if self.bf16 or (self.loop == "ours" and self.level != "O0") else "float32"


Tick = Callable[[], None]


def train(way: Way, model: dict[str, Any], batches: Sequence[Batch], device: str, tick: Tick) -> None:
    """Train on `batches` repeatedly, in their order, until `tick` raises.

    Args:
        model: sizes, see `Shape.model`.
        device: "cpu" or "cuda".
        tick: called after each step.
    """
    torch.manual_seed(0)
    tensors = [[torch.from_numpy(array) for array in batch] for batch in batches]
    if device == "cuda":
        tensors = [[tensor.pin_memory() for tensor in batch] for batch in tensors]
    {"ours": _train_ours, "trainer": _train_trainer, "bare": _train_bare}[way.loop](
        way, model, tensors, device, tick
    )


def _train_ours(
    way: Way, model: dict[str, Any], batches: list[list[Tensor]], device: str, tick: Tick
) -> None:
    """The tutorial's pipeline, with default settings except the precision."""
    from nemo.backends.pytorch import DataLayerNM
    from nemo.collections.nlp.nm.data_layers import BertPretrainingDataLayer
    from nemo.collections.nlp.nm.pretraining_model import wire, with_heads
    from nemo.collections.nlp.nm.trainables.common.huggingface import BERT
    from nemo.core import ActionCallback, DeviceType, NeuralModuleFactory

    class ReadyBatches(DataLayerNM):
        output_ports = BertPretrainingDataLayer.output_ports
        data_iterator = _Endless(batches)
        items = "tokens"

        def items_in(self, batch: Sequence[Tensor]) -> int:
            return int(batch[2].sum())

    class Ticks(ActionCallback):
        def on_iteration_end(self) -> None:
            tick()

    factory = NeuralModuleFactory(
        optimization_level=way.level, placement=DeviceType.CPU if device == "cpu" else DeviceType.GPU
    )
    losses = wire(with_heads(BERT(**model)), ReadyBatches())
    factory.train(
        [losses.total],
        optimizer="adam_w",
        optimization_params={
            "lr": LR,
            "weight_decay": WEIGHT_DECAY,
            "grad_norm_clip": CLIP,
            "max_steps": FOREVER,
        },
        callbacks=[Ticks()],
    )


def _train_trainer(
    way: Way, model: dict[str, Any], batches: list[list[Tensor]], device: str, tick: Tick
) -> None:
    """`Trainer.train` with its defaults, except for ready batches and no output."""
    from torch.utils.data import DataLoader, IterableDataset
    from transformers import Trainer, TrainerCallback, TrainingArguments

    class ReadyBatches(IterableDataset):
        def __iter__(self) -> Iterator[dict[str, Tensor]]:
            return iter(_Endless([_as_huggingface(batch) for batch in batches]))

    class ReadyTrainer(Trainer):
        def get_train_dataloader(self) -> DataLoader:
            return DataLoader(ReadyBatches(), batch_size=None)

    class Ticks(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            tick()

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            max_steps=FOREVER,
            per_device_train_batch_size=len(batches[0][0]),
            learning_rate=LR,
            weight_decay=WEIGHT_DECAY,
            bf16=way.bf16,
            torch_compile=way.compiled,
            use_cpu=device == "cpu",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            seed=0,
        )
        trainer = ReadyTrainer(
            _huggingface_model(way, model),
            arguments,
            train_dataset=ReadyBatches(),
            callbacks=[Ticks()],
        )
        trainer.train()


def _train_bare(
    way: Way, model: dict[str, Any], batches: list[list[Tensor]], device: str, tick: Tick
) -> None:
    """A hand-written training loop."""
    bert = _huggingface_model(way, model)
    bert.to(device).train()
    optimizer = torch.optim.AdamW(
        bert.parameters(), lr=LR, weight_decay=WEIGHT_DECAY, fused=True if way.fused else None
    )
    run = torch.compile(bert) if way.compiled else bert
    for batch in _Endless([_as_huggingface(batch) for batch in batches]):
        on_device = {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
        with torch.autocast(device, torch.bfloat16) if way.bf16 else nullcontext():
            loss = run(**on_device).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(bert.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad()
        tick()


def _huggingface_model(way: Way, model: dict[str, Any]) -> Any:
    """`BertForPreTraining` with the attention of the way.

    With "flash_attention_2", Hugging Face's BERT skips padding in attention only. Its pooler reads the first
    token of each row of a batch, so a batch cannot be packed into one long row.
    """
    from transformers import BertConfig, BertForPreTraining

    return BertForPreTraining(BertConfig(**model, attn_implementation=way.attention))


def flash_attention() -> str | None:
    """Hugging Face's attention that skips padding; None if it is not installed."""
    from transformers.utils import is_flash_attn_2_available

    return "flash_attention_2" if is_flash_attn_2_available() else None


class _Endless:
    """Repeats things forever; each iteration starts from the first."""

    def __init__(self, things: Sequence[Any]):
        self._things = things

    def __iter__(self) -> Iterator[Any]:
        return cycle(self._things)


def _as_huggingface(batch: Sequence[Tensor]) -> dict[str, Tensor]:
    """A batch as arguments of `BertForPreTraining`."""
    input_ids, types, mask, output_ids, output_mask, labels = batch
    return {
        "input_ids": input_ids,
        "token_type_ids": types,
        "attention_mask": mask,
        "labels": torch.where(output_mask > 0, output_ids, -100),
        "next_sentence_label": labels,
    }

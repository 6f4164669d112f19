"""Writes HDF5 shards as NVIDIA's, Intel's and MLPerf's scripts do, and remembers what it wrote.

It shares no code with what reads them: rows are put together token by token, as the formats say.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

CLS, SEP, MASK = 2, 3, 4
FIRST_WORD = 5


@dataclass
class Row:
    """One pair of sentences.

    Attributes:
        tokens: `[CLS] A [SEP] B [SEP]`, nothing hidden.
        length_of_a: with `[CLS]` and `[SEP]`.
        hidden: position -> what stands there instead.
        is_random: whether B is.
    """

    tokens: list[int]
    length_of_a: int
    hidden: dict[int, int] = field(default_factory=dict)
    is_random: bool = False

    @property
    def shown(self) -> list[int]:
        return [self.hidden.get(i, token) for i, token in enumerate(self.tokens)]

    @property
    def segments(self) -> list[int]:
        return [int(i >= self.length_of_a) for i in range(len(self.tokens))]


def make_rows(
    number: int,
    length: int = 16,
    predictions: int = 3,
    vocab_size: int = 60,
    seed: int = 0,
    sentences: Sequence[Sequence[int]] | None = None,
    specials: tuple[int, int, int] = (CLS, SEP, MASK),
) -> list[Row]:
    """Pairs of random words, or of `sentences`; as many tokens hidden as fit, 80/10/10."""
    rng = random.Random(seed)
    cls_id, sep_id, mask_id = specials
    ids = [i for i in range(FIRST_WORD, vocab_size) if i not in specials]

    def sentence(most: int) -> list[int]:
        if sentences is not None:
            return list(rng.choice(sentences))[:most]
        return [rng.choice(ids) for _ in range(rng.randint(1, most))]

    rows = []
    for _ in range(number):
        a = sentence((length - 3) // 2)
        b = sentence(length - 3 - len(a))
        row = Row([cls_id, *a, sep_id, *b, sep_id], len(a) + 2, is_random=rng.random() < 0.5)
        words = [i for i, token in enumerate(row.tokens) if token not in (cls_id, sep_id)]
        for position in sorted(rng.sample(words, min(len(words), rng.randint(1, predictions)))):
            shown = [mask_id, row.tokens[position], rng.choice(ids)]
            row.hidden[position] = rng.choices(shown, [80, 10, 10])[0]
        rows.append(row)
    return rows


def write_shard(
    path: Path,
    rows: Sequence[Row],
    length: int = 16,
    predictions: int = 3,
    change: Callable[[dict[str, np.ndarray]], None] | None = None,
    labels: bool = True,
    **how,
) -> Path:
    """A shard of fixed shapes, gzip.

    Args:
        change: may alter the arrays before they are written.
        how: options of h5py's create_dataset.
    """

    def filled(lists: Sequence[Sequence[int]], width: int, dtype: str) -> np.ndarray:
        return np.array([[*values, *[0] * (width - len(values))] for values in lists], dtype)

    arrays = {
        "input_ids": filled([row.shown for row in rows], length, "i4"),
        "input_mask": filled([[1] * len(row.tokens) for row in rows], length, "i1"),
        "segment_ids": filled([row.segments for row in rows], length, "i1"),
        "masked_lm_positions": filled([sorted(row.hidden) for row in rows], predictions, "i4"),
        "masked_lm_ids": filled(
            [[row.tokens[i] for i in sorted(row.hidden)] for row in rows], predictions, "i4"
        ),
    }
    if labels:
        arrays["next_sentence_labels"] = np.array([row.is_random for row in rows], "i1")
    if change is not None:
        change(arrays)
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file.create_dataset(name, data=values, **{"compression": "gzip", **how})
    return path


def write_variable_shard(path: Path, rows: Sequence[Row]) -> Path:
    """A shard without padding, as MLPerf has them."""
    fields = {
        "input_ids": ([row.shown for row in rows], "i2"),
        "segment_ids": ([row.segments for row in rows], "i1"),
        "masked_lm_positions": ([sorted(row.hidden) for row in rows], "i2"),
        "masked_lm_ids": ([[row.tokens[i] for i in sorted(row.hidden)] for row in rows], "i2"),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, (lists, dtype) in fields.items():
            dataset = file.create_dataset(name, (len(rows),), h5py.vlen_dtype(np.dtype(dtype)))
            for i, values in enumerate(lists):
                dataset[i] = np.array(values, dtype)
        file.create_dataset("next_sentence_labels", data=np.array([row.is_random for row in rows], "i1"))
    return path


def batch_of(rows: Sequence[Row], length: int = 16) -> dict[str, np.ndarray]:
    """What a data layer has to make of these rows, by port."""
    size = len(rows)
    ports = {
        name: np.zeros((size, length), np.int64)
        for name in ("input_ids", "input_type_ids", "input_mask", "output_ids")
    }
    ports["output_mask"] = np.zeros((size, length), np.float32)
    ports["labels"] = np.zeros(size, np.int64)
    for i, row in enumerate(rows):
        for j, token in enumerate(row.tokens):
            ports["input_ids"][i, j] = row.hidden.get(j, token)
            ports["input_type_ids"][i, j] = 1 if j >= row.length_of_a else 0
            ports["input_mask"][i, j] = 1
            ports["output_ids"][i, j] = token
            ports["output_mask"][i, j] = 1 if j in row.hidden else 0
        ports["labels"][i] = 1 if row.is_random else 0
    return ports

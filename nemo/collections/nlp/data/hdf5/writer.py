"""Token store -> HDF5 shards with the names, types and compression of NVIDIA's scripts (fields: see
shard.py).

Differences from those scripts:
- A random B comes from the whole corpus, not from the documents of its own shard.
- Every shard and every pass over its documents has its own random numbers.
- Short pairs have the length drawn for them, and label 1 is never given to a true next sentence (pairs.py).
- Every dataset has checksums, and its chunks hold whole rows; theirs also split columns, so that reading a
row
  decompresses eight chunks.

Shapes: N rows, L tokens, P targets.
"""

import bisect
import hashlib
import io
import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from nemo.collections.nlp.data.hdf5.shard import LABELS, Rows
from nemo.collections.nlp.data.samples.masking import Masking
from nemo.collections.nlp.data.samples.pairs import PairTable, joined, make_pairs
from nemo.collections.nlp.data.samples.randomness import Stream
from nemo.collections.nlp.data.samples.sequences import MIN_SEQ_LENGTH, SequenceBuilder, Sequences
from nemo.collections.nlp.data.store.mapped import let_go
from nemo.collections.nlp.data.store.token_store import TokenStore
from nemo.collections.nlp.data.tokenizers.base import TokenizerSpec
from nemo.collections.nlp.options.choices import MASKINGS
from nemo.utils.errors import UsageError
from nemo.utils.files import replacing, storage_errors
from nemo.utils.lookup import choose

_WINDOW_POSITIONS = 1 << 18  # tokens and padding of the rows built at once
_CHUNK_POSITIONS = 1 << 17  # tokens and padding of the rows in a chunk
# Rows are shuffled within blocks of this size, which bounds memory: counted in tokens, plus some for each
# sentence, whose offsets also take memory.
_BLOCK_COST = 1 << 25
_TOKENS_PER_SENTENCE = 16
_GZIP_LEVEL = 4


@dataclass(frozen=True)
class ShardRecipe:
    """Settings for making shards from a token store.

    Attributes:
        seq_length, max_predictions: L and P.
        masked_lm_prob: share of tokens to predict, at most P per row.
        random_seed: 0 or more.
        dupe_factor: passes over the documents, each with its own pairs and masks.
        short_seq_prob: share of documents whose pairs have a random smaller length in a pass.
        masking: "token", "whole_word" or "span", see `Masking`.

    Raises:
        UsageError: a value is out of range.
    """

    seq_length: int
    max_predictions: int
    masked_lm_prob: float = 0.15
    random_seed: int = 12345
    dupe_factor: int = 5
    short_seq_prob: float = 0.1
    masking: str = "whole_word"

    def __post_init__(self) -> None:
        for name, is_right, expected in (
            ("seq_length", self.seq_length >= MIN_SEQ_LENGTH, f"{MIN_SEQ_LENGTH} or more"),
            (
                "max_predictions",
                0 < self.max_predictions < self.seq_length,
                "1 or more, and below seq_length",
            ),
            ("masked_lm_prob", 0 < self.masked_lm_prob < 1, "0 < p < 1"),
            ("random_seed", self.random_seed >= 0, "0 or more"),
            ("dupe_factor", self.dupe_factor >= 1, "1 or more"),
            ("short_seq_prob", 0 <= self.short_seq_prob <= 1, "0 <= p <= 1"),
        ):
            if not is_right:
                found = getattr(self, name)
                raise UsageError("out of range", where=name, found=found, expected=expected)
        choose({kind: kind for kind in MASKINGS}, self.masking, what="masking")

    def folder_name(self, lower_case: bool) -> str:
        """The folder name for such shards in NVIDIA's scripts and the tutorial."""
        return (
            f"hdf5_lower_case_{int(lower_case)}_seq_len_{self.seq_length}_max_pred_{self.max_predictions}"
            f"_masked_lm_prob_{self.masked_lm_prob}_random_seed_{self.random_seed}"
            f"_dupe_factor_{self.dupe_factor}"
        )


def document_ranges(store: TokenStore, num_shards: int) -> list[range]:
    """The documents of each shard: consecutive, with about the same number of tokens.

    Every shard has at least one document, so there are at most as many shards as documents.
    """
    num_documents = len(store.document_offsets) - 1
    num_shards = min(num_shards, num_documents)
    bounds = [0]
    for shard in range(1, num_shards):
        candidates = range(bounds[-1] + 1, num_documents - (num_shards - shard))
        wanted = len(store.tokens) * shard // num_shards
        nth = bisect.bisect_left(candidates, wanted, key=lambda document: _position_of(store, document)[0])
        bounds.append(candidates.start + nth)
        let_go(store.document_offsets, store.sentence_offsets)
    return [range(*bound) for bound in itertools.pairwise([*bounds, num_documents])]


def write_shard(
    store: TokenStore, tokenizer: TokenizerSpec, recipe: ShardRecipe, documents: range, path: Path
) -> dict[str, Any]:
    """Write the shard of these documents; its bytes are a function of the arguments alone.

    The file is written atomically, in bounded memory whatever its size.

    Args:
        tokenizer: the tokenizer that made the store.
        documents: one of `document_ranges`.

    Returns:
        rows: N; random_pairs: number of random pairs; padding: number of positions without a token;
        predictions: number of targets; bytes, sha256: of the file.

    Raises:
        DataError: the store is too small for a single pair.
        StorageError: the file cannot be written.
    """
    seed = _seed(store, recipe)
    builder = SequenceBuilder(tokenizer, recipe.seq_length)
    masking = Masking(
        recipe.masked_lm_prob,
        tokenizer.mask_id,
        builder.replacements,
        recipe.masking,
        seed,
        recipe.max_predictions,
    )
    counts: Counter[str] = Counter()
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as aside:
        with _datasets(aside, recipe) as append:
            for pairs, passes in _windows(store, recipe, documents, seed):
                sequences = builder.build(store, pairs)
                # Within a pass, no two pairs begin at the same token, even in different shards.
                samples = pairs.a_start * recipe.dupe_factor + passes
                masked, chosen = masking(
                    sequences.ids, sequences.starts_word, sequences.may_choose, sequences.lengths, 0, samples
                )
                rows = _rows(sequences, masked, chosen, pairs.is_random, recipe.max_predictions)
                append(rows)
                counts["rows"] += len(pairs)
                counts["random_pairs"] += int(pairs.is_random.sum())
                counts["padding"] += int((~sequences.is_token).sum())
                counts["predictions"] += int(chosen.sum())
                let_go(store.tokens, store.starts_word)
        with open(aside, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {**counts, "bytes": aside.stat().st_size, "sha256": digest}


def _seed(store: TokenStore, recipe: ShardRecipe) -> int:
    """A different seed for each store, because training and test documents are both numbered from 0."""
    key = f"{recipe.random_seed} {recipe.seq_length} {store.manifest['arrays']['tokens']['sha256']}"
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:7])


def _position_of(store: TokenStore, document: int) -> tuple[int, int]:
    """The first token and the first sentence of a document."""
    sentence = int(store.document_offsets[document])
    return int(store.sentence_offsets[sentence]), sentence


def _blocks(store: TokenStore, documents: range) -> Iterator[range]:
    """Blocks of consecutive documents that are shuffled together."""

    def cost(document: int) -> int:
        token, sentence = _position_of(store, document)
        return token + _TOKENS_PER_SENTENCE * sentence

    start = documents.start
    while start < documents.stop:
        candidates = range(start + 1, documents.stop)
        stop = start + 1 + bisect.bisect_left(candidates, cost(start) + _BLOCK_COST, key=cost)
        yield range(start, stop)
        start = stop


def _windows(
    store: TokenStore, recipe: ShardRecipe, documents: range, seed: int
) -> Iterator[tuple[PairTable, np.ndarray]]:
    """The pairs of all passes, shuffled, in batches, with the pass of each."""
    size = _WINDOW_POSITIONS // recipe.seq_length + 1
    for block in _blocks(store, documents):
        tables = [
            make_pairs(store, recipe.seq_length, recipe.short_seq_prob, seed, number, documents=block)
            for number in range(recipe.dupe_factor)
        ]
        pairs = joined(tables)
        passes = np.repeat(np.arange(recipe.dupe_factor), [len(table) for table in tables])
        order = np.random.default_rng((seed, Stream.SHARD_WRITING, block.start)).permutation(len(pairs))
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            yield pairs[rows], passes[rows]


def _rows(
    sequences: Sequences, masked: np.ndarray, chosen: np.ndarray, is_random: np.ndarray, max_predictions: int
) -> Rows:
    """Every field in its stored form."""
    row, position = np.divmod(np.flatnonzero(chosen), chosen.shape[1])
    slot = np.arange(len(row)) - np.searchsorted(row, row)
    positions, targets = np.zeros((2, len(chosen), max_predictions), np.int32)
    positions[row, slot] = position
    targets[row, slot] = sequences.ids[row, position]
    return {
        "input_ids": np.where(sequences.is_token, masked, 0),  # whatever the tokenizer's id of [PAD]
        "input_mask": sequences.is_token,
        "segment_ids": sequences.in_b,
        "masked_lm_positions": positions,
        "masked_lm_ids": targets,
        LABELS: is_random,
    }


@contextmanager
def _datasets(path: Path, recipe: ShardRecipe) -> Iterator[Callable[[Rows], None]]:
    """Create a file with the six datasets; yields a function that appends rows."""
    rows_per_chunk = max(1, _CHUNK_POSITIONS // recipe.seq_length)
    with _Output(path, "w+") as output:
        with h5py.File(output, "w") as file:
            # Keep them open: closing one compresses its unfinished chunk.
            datasets = {}
            for name, (dtype, *columns) in {
                "input_ids": ("int32", recipe.seq_length),
                "input_mask": ("int8", recipe.seq_length),
                "segment_ids": ("int8", recipe.seq_length),
                "masked_lm_positions": ("int32", recipe.max_predictions),
                "masked_lm_ids": ("int32", recipe.max_predictions),
                LABELS: ("int8",),
            }.items():
                datasets[name] = file.create_dataset(
                    name,
                    shape=(0, *columns),
                    maxshape=(None, *columns),
                    dtype=dtype,
                    chunks=(rows_per_chunk, *columns),
                    compression="gzip",
                    compression_opts=_GZIP_LEVEL,
                    fletcher32=True,
                )

            def append(rows: Rows) -> None:
                for name, values in rows.items():
                    dataset = datasets[name]
                    start = len(dataset)
                    dataset.resize(start + len(values), axis=0)
                    dataset[start:] = values
                output.check()

            yield append
        output.check()


class _Output(io.FileIO):
    """A file for HDF5, which cannot cope with a full disk: every write seems to succeed, and `check` raises.

    Otherwise every dataset fails again on closing, with a traceback that cannot be caught.
    """

    _problem: OSError | None = None

    def write(self, data: Any) -> int:
        left = memoryview(data)
        try:
            while left:
                left = left[super().write(left) :]
        except OSError as problem:
            self._problem = problem
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size)
        except OSError as problem:
            self._problem = problem
            return size or 0

    def check(self) -> None:
        """Raise the operating system's error after a failure."""
        if self._problem is not None:
            raise self._problem

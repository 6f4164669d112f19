"""One HDF5 shard in the format of NVIDIA's `create_pretraining_data.py`, opened as an untrusted file.

    input_ids             [N, L]  [CLS] A [SEP] B [SEP] and padding, some tokens masked
    input_mask            [N, L]  1 for a token, 0 for padding
    segment_ids           [N, L]  0 in [CLS] A [SEP] and padding, 1 in B [SEP]
    masked_lm_positions   [N, P]  positions of tokens to predict, ascending, then zeros
    masked_lm_ids         [N, P]  the original tokens there
    next_sentence_labels  [N]     0 if B follows A, 1 if it is random

N rows, L tokens, P targets; all integers. MLPerf's shards store no padding: each row has arrays of its
own length, and there is no input_mask. Intel's may lack next_sentence_labels.

Links and external files are not followed, and memory is allocated only as far as the file's size supports it,
because a header may declare anything. Messages count rows from 0.
"""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from nemo.collections.nlp.options.limits import LONGEST_SEQUENCE
from nemo.utils.errors import DataError, MissingFileError, reason
from nemo.utils.files import refuse_special

Rows = dict[str, np.ndarray]  # field -> array, one row after the other

TOKEN_FIELDS = ("input_ids", "input_mask", "segment_ids")
TARGET_FIELDS = ("masked_lm_positions", "masked_lm_ids")
LABELS = "next_sentence_labels"
FIELDS = (*TOKEN_FIELDS, *TARGET_FIELDS, LABELS)
NO_LABEL = -1

SIGNATURE = b"\x89HDF\r\n\x1a\n"
MAX_RATIO = 1100  # gzip's limit; a larger declared size cannot be in the file
MAX_CHUNK_BYTES = 1 << 28  # a chunk is decompressed as a whole
MAX_IDS = 1 << 31
MASKS_AT_A_TIME = 1 << 22  # positions of tokens and padding
VARIABLE_ROWS_AT_A_TIME = 64  # all may refer to one large object
_FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32, h5py.h5z.FILTER_LZF}


@dataclass(frozen=True)
class Shard:
    """The header of a shard.

    Attributes:
        num_rows: N.
        seq_length, max_predictions: L and P; None if rows vary in length.
        has_labels: whether there are next_sentence_labels.
        rows_per_chunk: number of consecutive rows compressed together; reading one decompresses all.
        num_bytes: size of the file.
    """

    path: Path
    num_rows: int
    seq_length: int | None
    max_predictions: int | None
    has_labels: bool
    rows_per_chunk: int
    num_bytes: int


@dataclass(frozen=True)
class Limits:
    """Limits that rows must not exceed.

    Attributes:
        seq_length, max_predictions: L and P of the rows that are read.
        vocab_size: upper bound of the ids; None if unknown.
    """

    seq_length: int
    max_predictions: int
    vocab_size: int | None = None

    @property
    def row_bytes(self) -> int:
        """Size of a row in memory, as int32."""
        return 4 * (len(TOKEN_FIELDS) * self.seq_length + len(TARGET_FIELDS) * self.max_predictions + 1)

    def range_of(self, field: str) -> tuple[int, int]:
        """The smallest and the largest value a field may have."""
        if field in ("input_ids", "masked_lm_ids"):
            return 0, (self.vocab_size or MAX_IDS) - 1
        return 0, self.seq_length - 1 if field == "masked_lm_positions" else 1


def open_shard(path: Path) -> Shard:
    """Read only the header of a shard.

    Raises:
        MissingFileError: there is no such file.
        DataError: it is not a shard, is truncated, or contains links, external data or implausible sizes.
    """
    with _opened(path) as file:
        return _header(file, path)


def read_rows(shard: Shard, start: int, stop: int, limits: Limits) -> Rows:
    """Rows `start` to `stop`, every field as int32, padded to the lengths of `limits`.

    Labels are `NO_LABEL` if the shard has none.

    Raises:
        DataError: the file is damaged, changed since it was opened, or has a value out of range.
    """
    rows = _read(shard, start, stop, limits, FIELDS)
    rows.setdefault(LABELS, np.full(stop - start, NO_LABEL, np.int32))
    return rows


def read_lengths(shard: Shard, limits: Limits) -> np.ndarray:
    """The number of tokens in every row, int32 [N]; in a shard with padding, only the masks are read.

    Raises:
        DataError: as `read_rows`.
    """
    lengths = np.empty(shard.num_rows, np.int32)
    step = max(1, MASKS_AT_A_TIME // limits.seq_length)
    for start in range(0, shard.num_rows, step):
        stop = min(start + step, shard.num_rows)
        masks = _read(shard, start, stop, limits, ("input_mask",))["input_mask"]
        lengths[start:stop] = masks.sum(1)
    return lengths


def _read(shard: Shard, start: int, stop: int, limits: Limits, fields: Sequence[str]) -> Rows:
    """The given fields, as far as the shard has them; the mask is always included."""
    with _opened(shard.path) as file:
        if _header(file, shard.path) != shard:
            raise DataError("the file changed while in use", where=shard.path)
        names = [name for name in fields if _has(file, name)]
        for name in names:
            _check_stored(file[name], start, stop)
        if shard.seq_length is None:
            # Without a mask, derive it from the lengths of the ids.
            names = names or ["input_ids"]
            stored = _variable_rows(file, names, shard, range(start, stop), limits)
        else:
            stored = {name: file[name][start:stop] for name in names}
    rows: Rows = {}
    for name, values in stored.items():
        low, high = limits.range_of(name)
        wrong = (values < low) | (values > high)
        if wrong.any():
            at = tuple(np.argwhere(wrong)[0])
            raise _out_of_range(f"{shard.path} row {start + at[0]} {name}", name, values[at], low, high)
        rows[name] = values.astype(np.int32)
    return rows


def _out_of_range(where: str, field: str, found: Any, low: int, high: int) -> DataError:
    is_unknown_id = field in ("input_ids", "masked_lm_ids") and found > high
    return DataError(
        "beyond the vocabulary" if is_unknown_id else "out of range",
        where=where,
        found=found,
        expected=f"{low} to {high}",
        fix="give the vocabulary of the shards (--tokenizer), or its size (--vocab_size)"
        if is_unknown_id
        else "",
    )


# Opening an untrusted file.


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    """The file, open for reading; any error from HDF5 becomes a `DataError`."""
    if not path.exists():
        raise MissingFileError("no such file", where=path)
    refuse_special(path)
    try:
        with path.open("rb") as raw:
            head = raw.read(1024)
        if not head.startswith(SIGNATURE):
            raise _not_hdf5(path, head)
        with _open(path) as file:
            yield file
    except DataError:
        raise
    # HDF5 has no exception class of its own: any error from damaged bytes ends here.
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError) as problem:
        raise DataError(
            "damaged or truncated", where=path, found=reason(problem).strip("'\""), fix="copy it again"
        ) from problem


def _open(path: Path) -> h5py.File:
    """Open without a lock, as some disks have none; or in the way this process has already opened it.

    Raises:
        DataError: it is already open in this process in an incompatible way.
    """
    for locking in (False, None, True):
        try:
            return h5py.File(path, "r", locking=locking)
        except OSError as problem:
            if "flag values don't match" not in str(problem):
                raise
    raise DataError(
        "already open in this process with different locking",
        where=path,
        fix="close it first, or open it with h5py.File(..., locking=False)",
    )


def _not_hdf5(path: Path, head: bytes) -> DataError:
    if not head:
        return DataError("an empty file", where=path)
    try:
        head.decode()
        is_text = b"\0" not in head
    except UnicodeDecodeError as problem:
        is_text = problem.start > len(head) - 4  # only a character cut where reading ended
    return DataError(
        "this is a text file" if is_text else "not an HDF5 file",
        where=path,
        expected="an HDF5 shard",
        fix="to train on text add data_text" if is_text else "",
    )


def _has(file: h5py.File, name: str) -> bool:
    return file.id.links.exists(name.encode())


def _header(file: h5py.File, path: Path) -> Shard:
    datasets = {name: _dataset(file, name, path) for name in FIELDS if _has(file, name)}
    is_variable = "input_ids" in datasets and h5py.check_vlen_dtype(datasets["input_ids"].dtype) is not None
    optional = {LABELS, "input_mask"} if is_variable else {LABELS}
    missing = [name for name in FIELDS if name not in datasets and name not in optional]
    if missing:
        raise DataError("missing field", where=path, expected=missing[0])
    for name, dataset in datasets.items():
        _check_dataset(dataset, f"{path} {name}", is_variable and name != LABELS)
    _check_shapes(datasets, is_variable, path)
    ids = datasets["input_ids"]
    if len(ids) == 0:
        raise DataError("the shard has no rows", where=path)
    return Shard(
        path,
        num_rows=len(ids),
        seq_length=None if is_variable else ids.shape[1],
        max_predictions=None if is_variable else datasets["masked_lm_positions"].shape[1],
        has_labels=LABELS in datasets,
        rows_per_chunk=ids.chunks[0] if ids.chunks else 1,
        num_bytes=path.stat().st_size,
    )


def _dataset(file: h5py.File, name: str, path: Path) -> h5py.Dataset:
    """A dataset stored in this file itself."""
    where = f"{path} {name}"
    if file.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
        raise DataError("a link to elsewhere", where=where, expected="the data itself")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset):
        raise DataError("a group", where=where, expected="a dataset")
    properties = dataset.id.get_create_plist()
    if properties.get_layout() == h5py.h5d.VIRTUAL or properties.get_external_count():
        raise DataError("data stored in another file", where=where, expected="the data itself")
    for index in range(properties.get_nfilters()):
        if properties.get_filter(index)[0] not in _FILTERS:
            found = f"filter {properties.get_filter(index)[0]}"
            raise DataError("unsupported compression", where=where, found=found, expected="gzip or lzf")
    return dataset


def _check_dataset(dataset: h5py.Dataset, where: str, is_variable: bool) -> None:
    """Check that it has integers, and no more than the file can contain."""
    dtype = h5py.check_vlen_dtype(dataset.dtype) if is_variable else dataset.dtype
    if dtype is None or not isinstance(dtype, np.dtype) or dtype.kind not in "iub":
        expected = "integers" if not is_variable else "integers, a row as long as it needs"
        raise DataError("wrong type", where=where, found=dataset.dtype, expected=expected)
    if dataset.size is None or dataset.nbytes > MAX_RATIO * dataset.id.get_storage_size():
        raise DataError(
            "declares more than it stores",
            where=where,
            found=f"{dataset.shape} in {dataset.id.get_storage_size()} bytes",
        )
    if dataset.chunks and np.prod(dataset.chunks, dtype=float) * dataset.dtype.itemsize > MAX_CHUNK_BYTES:
        expected = f"{MAX_CHUNK_BYTES >> 20} MiB or less"
        raise DataError(
            "chunks too large to decompress", where=where, found=dataset.chunks, expected=expected
        )


def _check_stored(dataset: h5py.Dataset, start: int, stop: int) -> None:
    """Raise a RuntimeError if chunks of these rows are not stored: HDF5 would read zeros instead."""
    if not dataset.chunks:
        return
    rows, *columns = dataset.chunks
    starts = [range(0, whole, size) for whole, size in zip(dataset.shape[1:], columns, strict=True)]
    for offset in itertools.product(range(start // rows * rows, stop, rows), *starts):
        dataset.id.read_direct_chunk(offset)


def _check_shapes(datasets: dict[str, h5py.Dataset], is_variable: bool, path: Path) -> None:
    """Check that all fields have N rows, token fields L columns, and target fields P columns."""
    for fields in (TOKEN_FIELDS, TARGET_FIELDS, (LABELS,)):
        has_columns = not is_variable and fields != (LABELS,)
        present = [name for name in fields if name in datasets]
        for name in present:
            found = datasets[name].shape
            if len(found) != 1 + has_columns or (has_columns and found[1] == 0):
                needed = "rows and columns" if has_columns else "one value for each row"
                raise DataError("wrong shape", where=f"{path} {name}", found=found, expected=needed)
            if has_columns and found[1] > LONGEST_SEQUENCE:
                raise _too_long(f"{path} {name}", found[1])
            expected = (*datasets["input_ids"].shape[:1], *datasets[present[0]].shape[1:])
            if found != expected:
                raise DataError(
                    "shape does not match the other fields",
                    where=f"{path} {name}",
                    found=found,
                    expected=expected,
                )


# Rows of variable length.


def longest_row(shard: Shard) -> int:
    """The maximum number of tokens in a row of a shard without padding."""
    with _opened(shard.path) as file:
        ids = _dataset(file, "input_ids", shard.path)
        longest = 0
        for start in range(0, len(ids), VARIABLE_ROWS_AT_A_TIME):
            longest = max(longest, *map(len, ids[start : start + VARIABLE_ROWS_AT_A_TIME]))
            if longest > LONGEST_SEQUENCE:
                raise _too_long(f"{shard.path} rows from {start} on input_ids", longest)
        return longest


def _too_long(where: str, found: int) -> DataError:
    expected = f"{LONGEST_SEQUENCE:,} tokens or fewer"
    return DataError("too long for a sequence", where=where, found=f"{found:,}", expected=expected)


def _variable_rows(
    file: h5py.File, names: list[str], shard: Shard, rows: range, limits: Limits
) -> dict[str, np.ndarray]:
    """Rows with padding, read a few at a time, because their lengths are known only after reading."""
    blocks = []
    for start in rows[::VARIABLE_ROWS_AT_A_TIME]:
        stop = min(start + VARIABLE_ROWS_AT_A_TIME, rows.stop)
        blocks.append(_padded({name: file[name][start:stop] for name in names}, shard, start, limits))
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def _padded(stored: dict[str, np.ndarray], shard: Shard, start: int, limits: Limits) -> dict[str, np.ndarray]:
    """Rows without padding -> arrays with padding and the mask."""
    lengths = {
        name: np.fromiter(map(len, values), np.int64, len(values))
        for name, values in stored.items()
        if name != LABELS
    }
    for fields, limit, option in (
        (TOKEN_FIELDS, limits.seq_length, "max_seq_length"),
        (TARGET_FIELDS, limits.max_predictions, "max_predictions_per_seq"),
    ):
        present = [name for name in fields if name in lengths]
        for name in present:
            first = lengths[present[0]]
            wrong = np.flatnonzero((lengths[name] > limit) | (lengths[name] != first))
            if wrong.size:
                row = int(wrong[0])
                is_long = lengths[name][row] > limit
                raise DataError(
                    f"longer than {option}" if is_long else f"length differs from {present[0]}",
                    where=f"{shard.path} row {start + row} {name}",
                    found=int(lengths[name][row]),
                    expected=limit if is_long else int(first[row]),
                    fix=f"give --{option} {lengths[name][row]} or more" if is_long else "",
                )
    padded = {LABELS: stored[LABELS]} if LABELS in stored else {}
    for name, values in stored.items():
        if name != LABELS:
            width = limits.seq_length if name in TOKEN_FIELDS else limits.max_predictions
            is_there = np.arange(width) < lengths[name][:, None]
            padded[name] = np.zeros(is_there.shape, values[0].dtype)
            padded[name][is_there] = np.concatenate(values)
    if "input_mask" not in padded:
        padded["input_mask"] = np.arange(limits.seq_length) < lengths["input_ids"][:, None]
    return padded

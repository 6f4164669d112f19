"""Checks the structure of rows: `[CLS] A [SEP] B [SEP]` and padding, with targets inside.

Shapes: N rows, L tokens, P targets.
"""

from dataclasses import dataclass

import numpy as np

from nemo.collections.nlp.data.hdf5.shard import Limits, Rows, Shard, read_rows
from nemo.utils.errors import DataError


@dataclass(frozen=True)
class Frame:
    """The ids of the special tokens that frame the sentences of a row."""

    cls_id: int
    sep_id: int


def restored(rows: Rows) -> np.ndarray:
    """The tokens before masking, [N, L]."""
    row, slot = rows["masked_lm_positions"].nonzero()
    ids = rows["input_ids"].copy()
    ids[row, rows["masked_lm_positions"][row, slot]] = rows["masked_lm_ids"][row, slot]
    return ids


def frame_of(rows: Rows) -> Frame:
    """The special tokens that frame the first row."""
    first = restored({name: values[:1] for name, values in rows.items()})[0]
    return Frame(int(first[0]), int(first[max(rows["input_mask"][0].sum() - 1, 0)]))


def read_checked(shard: Shard, start: int, stop: int, limits: Limits, frame: Frame | None = None) -> Rows:
    """`read_rows`, with the structure of every row checked.

    Args:
        frame: the expected special tokens; None: those of the first row.

    Raises:
        DataError: as `read_rows`, or a row has another structure; names file, row and field.
    """
    rows = read_rows(shard, start, stop, limits)
    for field, wrong, expected in _faults(rows, frame or frame_of(rows), shard.has_labels):
        if wrong.any():
            row = start + int(wrong.argmax())
            raise DataError(
                "not a row of [CLS] A [SEP] B [SEP]",
                where=f"{shard.path} row {row} {field}",
                expected=expected,
            )
    return rows


def _faults(rows: Rows, frame: Frame, is_pair: bool) -> list[tuple[str, np.ndarray, str]]:
    """(field, rows with an error in it [N], what was expected); only pairs need a sentence B."""
    mask, segments, positions = (rows[name] for name in ("input_mask", "segment_ids", "masked_lm_positions"))
    ids, every, position = restored(rows), np.arange(len(mask)), np.arange(mask.shape[1])
    length = mask.sum(1)
    count = (positions > 0).sum(1)
    is_used = np.arange(positions.shape[1]) < count[:, None]
    has_b = (segments == 1).any(1)
    b_starts = np.where(has_b, (segments == 1).argmax(1), length)

    mask_has_gaps = (mask != (position < length[:, None])).any(1)
    is_unordered = ((np.diff(positions) <= 0) & is_used[:, 1:]).any(1)
    has_gaps = ((positions > 0) != is_used).any(1)
    is_not_in_b = (segments != ((position >= b_starts[:, None]) & (mask == 1))).any(1)
    no_sep_before_b = has_b & (ids[every, b_starts - 1] != frame.sep_id)
    return [
        ("input_mask", mask_has_gaps, "1 for every token, 0 after the last"),
        ("input_mask", length < 2, "two tokens or more"),
        ("masked_lm_positions", has_gaps | is_unordered, "ascending positions, 0 after the last"),
        ("masked_lm_positions", (positions >= length[:, None]).any(1), "positions of tokens, not of padding"),
        ("input_ids", ids[:, 0] != frame.cls_id, f"[CLS] first: {frame.cls_id}, as in row 0"),
        ("input_ids", ids[every, length - 1] != frame.sep_id, f"[SEP] last: {frame.sep_id}, as in row 0"),
        (
            "segment_ids",
            is_not_in_b | (segments[:, 0] == 1),
            "0 in [CLS] A [SEP], 1 in B [SEP], 0 in padding",
        ),
        ("segment_ids", ~has_b & is_pair, "a sentence B, as there are next_sentence_labels"),
        ("segment_ids", no_sep_before_b, f"1 from the token after the first [SEP] ({frame.sep_id}) on"),
    ]

"""Batches of the benchmarks, what is counted in them, and the loops that train on them."""

from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
from measure import about
from step import SHAPES
from ways import CLS, MASK, PAD, SEP, Shape, Way, as_in_text, synthetic_batches, train

TINY = SHAPES["tiny"]
PADDED = replace(TINY, batch_size=8, length=64, padding=0.4)


def test_a_batch_is_cls_a_sep_b_sep_and_padding():
    for batch in synthetic_batches(PADDED):
        lengths = batch.input_mask.sum(1)
        rows = np.arange(len(lengths))
        assert all(array.dtype == np.int64 for array in batch)
        assert (batch.input_mask == (np.arange(64) < lengths[:, None])).all()
        assert (batch.output_ids[:, 0] == CLS).all() and (batch.output_ids[rows, lengths - 1] == SEP).all()
        assert ((batch.output_ids == SEP).sum(1) == 2).all()
        assert (batch.output_ids[batch.input_mask == 0] == PAD).all()
        assert batch.output_ids.max() < PADDED.vocab_size
        first_sep = (batch.output_ids == SEP).argmax(1)[:, None]
        assert (batch.input_type_ids == (batch.input_mask & (np.arange(64) > first_sep))).all()
        assert set(batch.labels) <= {0, 1}


def test_fifteen_percent_of_a_sequence_are_masked_and_specials_never():
    batches = synthetic_batches(PADDED, number=40)
    hidden = other = 0
    for batch in batches:
        expected = np.maximum(1, np.round(0.15 * batch.input_mask.sum(1)))
        assert (batch.output_mask.sum(1) == expected).all()
        assert not np.isin(batch.output_ids[batch.output_mask == 1], [PAD, CLS, SEP]).any()
        assert (batch.input_ids == batch.output_ids)[batch.output_mask == 0].all()
        guessed = batch.input_ids[batch.output_mask == 1]
        hidden += (guessed == MASK).sum()
        other += len(guessed)
    assert 0.75 < hidden / other < 0.85


def test_padding_has_the_requested_share_and_one_sequence_is_full():
    batches = synthetic_batches(PADDED, number=60)
    assert all(batch.input_mask.sum(1).max() == 64 for batch in batches)
    assert abs(about(PADDED, batches)["padding_counted"] - 0.4) < 0.04
    assert about(TINY, synthetic_batches(replace(TINY, padding=0.0)))["padding_counted"] == 0


def test_lengths_as_in_text_vary_from_batch_to_batch():
    shape = as_in_text(Shape("text", 2, 32, 2, 64, batch_size=32, length=128, vocab_size=1200))
    batches = synthetic_batches(shape)
    tokens = [batch.tokens for batch in batches]
    assert len(set(tokens)) > 100 and 0.03 < about(shape, batches)["padding_counted"] < 0.06
    assert all(batch.input_mask.sum(1).max() == 128 for batch in batches)
    assert as_in_text(PADDED) == PADDED  # which vary already


def test_batches_are_a_function_of_their_number():
    once, again = synthetic_batches(PADDED), synthetic_batches(PADDED)
    assert all(
        np.array_equal(a, b) for pair in zip(once, again, strict=True) for a, b in zip(*pair, strict=True)
    )
    assert (once[0].input_ids != once[1].input_ids).any()


def test_useful_operations_are_those_of_real_tokens_and_masked_rows():
    shape = Shape("by hand", 2, 4, 2, 8, batch_size=2, length=16, vocab_size=1000)
    batch = synthetic_batches(shape, 1)[0]
    batch.input_mask[0, 10:] = 0  # 10 and 16 tokens
    masked = batch.output_mask.sum()
    encoder = 6 * 2 * (4 * 16 + 2 * 4 * 8) * 26
    attention = 12 * 2 * 4 * (10**2 + 16**2)
    assert shape.flops(batch) == encoder + attention + 6 * (4 * 1000 + 16) * masked
    assert batch.tokens == 26


class Done(Exception):
    """Enough steps."""


@pytest.mark.parametrize(
    "way",
    [
        Way("ours"),
        Way("ours", "O1"),
        Way("bare"),
        Way("bare", bf16=True, fused=True, attention="sdpa"),
        pytest.param(
            Way("trainer"), marks=pytest.mark.skipif(find_spec("accelerate") is None, reason="no Trainer")
        ),
    ],
    ids=lambda way: way.name,
)
def test_every_loop_reports_once_per_step(way):
    ticks = []

    def tick():
        ticks.append(None)
        if len(ticks) == 3:
            raise Done

    with pytest.raises(Done):
        train(way, TINY.model, synthetic_batches(TINY, 2), "cpu", tick)
    assert len(ticks) == 3

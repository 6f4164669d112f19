"""Batches take samples in their order until the next would be too much."""

import numpy as np
import pytest

from nemo.collections.nlp.data.samples.batching import (
    bounds_by_samples,
    bounds_by_tokens,
    check_tokens_per_batch,
)
from nemo.utils.errors import UsageError


def one_by_one(lengths, most) -> list[int]:
    bounds, tokens = [0], 0
    for i, length in enumerate(lengths):
        if tokens + length > most:
            bounds.append(i)
            tokens = 0
        tokens += length
    return [*bounds, len(lengths)]


def test_a_worked_example():
    assert bounds_by_samples(5, 2).tolist() == [0, 2, 4, 5]
    assert bounds_by_samples(4, 2).tolist() == [0, 2, 4]
    assert bounds_by_tokens([np.array([4, 6, 1, 5, 5])], 10).tolist() == [0, 2, 4, 5]
    assert bounds_by_tokens([np.array([10, 10])], 10).tolist() == [0, 1, 2]


@pytest.mark.parametrize("most", [16, 17, 64, 1000, 10**9])
@pytest.mark.parametrize("part", [1, 7, 500])
def test_bounds_are_those_of_going_through_the_samples_one_by_one(most, part):
    lengths = np.random.default_rng(most).integers(2, 17, 500, dtype=np.int32)
    parts = (lengths[start : start + part] for start in range(0, 500, part))
    assert bounds_by_tokens(parts, most).tolist() == one_by_one(lengths.tolist(), most)


def test_tokens_that_no_32_bits_can_count():
    lengths = np.full(100_000, 1 << 16, dtype=np.int32)
    assert bounds_by_tokens([lengths], 1 << 20).tolist() == list(range(0, 100_001, 16))


def test_a_batch_has_room_for_the_longest_sample():
    check_tokens_per_batch(None, 128)
    check_tokens_per_batch(128, 128)
    message = "tokens_per_batch: less than the longest sequence; found 127, expected 128 or more"
    with pytest.raises(UsageError, match=message):
        check_tokens_per_batch(127, 128)

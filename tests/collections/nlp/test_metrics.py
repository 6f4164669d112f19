"""Figures over a whole evaluation."""

import math

import pytest
import torch

from nemo.collections.nlp.metrics import RunningSums, entropy, perplexity


def pair(total, count):
    return torch.tensor(float(total)), torch.tensor(float(count))


def test_a_mean_over_batches_weighs_every_item_equally():
    sums = RunningSums()
    sums.add({"a": {"loss": pair(6, 2)}})
    sums.add({"a": {"loss": pair(0, 4)}})
    assert sums.quotients() == {"a": {"loss": 1.0}}  # (6 + 0) / (2 + 4), not (3 + 0) / 2


def test_nothing_counted_is_zero_not_nan():
    sums = RunningSums()
    sums.add({"a": {"loss": pair(0, 0)}})
    assert sums.quotients() == {"a": {"loss": 0.0}}


def test_entropy_of_known_distributions():
    assert entropy(torch.tensor([0.25, 0.25, 0.5, 0.0])) == pytest.approx(1.5 * math.log(2))
    assert entropy(torch.tensor([1.0, 0.0])) == 0


def test_perplexity_does_not_overflow():
    assert perplexity(math.log(3)) == pytest.approx(3)
    assert perplexity(1e6) == math.inf

"""Figures over a whole evaluation."""

import math

import pytest
import torch

from nemo.backends.pytorch import STATISTICS
from nemo.collections.nlp.callbacks.lm_bert_callback import (
    eval_epochs_done_callback,
    eval_iter_callback,
    figures,
)
from nemo.collections.nlp.metrics import RunningSums, entropy, perplexity


def pair(total, count):
    return torch.tensor(float(total)), torch.tensor(float(count))


def test_a_mean_over_batches_weighs_every_item_alike():
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


def test_masked_and_next_sentence_figures_come_apart(capsys):
    mlm = {
        "loss": pair(8, 4),
        "accuracy": pair(1, 4),
        "target_counts": (torch.tensor([1.0, 1.0, 2.0]), torch.tensor(4.0)),
    }
    state = {}
    batch = {
        "loss~~~LossAggregatorNM~~~7": [torch.tensor(9.0)],
        STATISTICS: {
            "loss~~~SmoothedCrossEntropyLoss~~~5": mlm,
            "loss~~~CrossEntropyLossNM~~~6": {"loss": pair(2, 4), "accuracy": pair(3, 4)},
        },
    }
    eval_iter_callback(batch, state)
    found = figures(state)
    assert found == {
        "mlm_loss": 2.0,
        "mlm_accuracy": 0.25,
        "mlm_perplexity": pytest.approx(math.exp(2)),
        "unigram_entropy": pytest.approx(1.5 * math.log(2)),
        "nsp_loss": 0.5,
        "nsp_accuracy": 0.75,
        "loss": 2.5,
    }
    scalars = eval_epochs_done_callback(state)
    assert scalars["Dev MLM loss"] == 2.0
    assert scalars["Dev NSP accuracy"] == 0.75
    assert "Dev NSP perplexity" not in scalars
    assert "Dev MLM loss: 2.0000" in capsys.readouterr().out

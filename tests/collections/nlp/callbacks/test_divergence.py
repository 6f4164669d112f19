"""When a loss counts as led astray, and what is named as the cause."""

import math

import pytest

from nemo.collections.nlp.callbacks.divergence import Divergence

LN_V = math.log(120)  # 4.79


def causes(*losses, rate=10.0):
    divergence = Divergence(120)
    return [divergence.cause(loss, rate) for loss in losses]


@pytest.mark.parametrize("losses", [[LN_V] * 3, [LN_V + 0.7, LN_V + 1.9, 2.0], [8.0 - 2, 6.5, 4.0]])
def test_a_loss_near_that_of_chance_is_not_divergence(losses):
    assert causes(*losses) == [None] * 3


def test_a_loss_far_above_chance_blames_the_learning_rate():
    first, second, third = causes(5.5, 3673.0, 8468.0)
    assert first is None
    assert "learning rate (10) is probably too high" in second and "learning rate" in third


def test_a_loss_that_began_far_away_has_another_cause():
    began, still, worse = causes(12.0, 11.0, 15.0)
    assert "it started that way" in began and "it started that way" in still
    assert "learning rate" in worse


def test_a_loss_that_recovers_is_not_divergence():
    assert causes(5.0, 9.0, 4.0)[2] is None

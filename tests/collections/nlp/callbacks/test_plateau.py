"""When a loss counts as standing still at the unigram entropy."""

import pytest

from nemo.collections.nlp.callbacks.plateau import Plateau

ENTROPY = 6.0


def first_step(losses, total_steps=1000, every=25):
    """The step after which the plateau is seen; None if it never is."""
    plateau = Plateau()
    steps = (every * (i + 1) for i in range(len(losses)))
    told = zip(steps, losses, strict=False)
    return next((s for s, loss in told if plateau.is_on(s, total_steps, loss, ENTROPY)), None)


@pytest.mark.parametrize(("loss", "step"), [(6.0, 225), (5.95, 225), (9.0, 225), (5.85, None)])
def test_only_a_constant_loss_at_or_above_the_entropy_is_a_plateau(loss, step):
    assert first_step([loss] * 40) == step


def test_a_falling_loss_is_not_a_plateau():
    falling = [9.0 - 0.1 * i for i in range(31)]  # to 6.0 at step 775
    assert first_step(falling) is None
    assert 775 < first_step([*falling, *[6.0] * 20]) <= 975


def test_a_long_run_waits_longer():
    assert first_step([6.0] * 100, total_steps=10_000) == 1025
    assert first_step([6.0] * 100, total_steps=1_000_000) == 2025


def test_a_few_losses_are_not_a_plateau():
    assert first_step([6.0] * 3, every=500) is None
    assert first_step([6.0] * 9, every=500) == 2000
    assert first_step([6.0] * 4, every=100) == 400


def test_a_noisy_plateau_is_recognized():
    assert first_step([6.0 + 0.08 * (-1) ** i for i in range(40)]) == 225

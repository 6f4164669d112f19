"""The plan: every number of a run is checked when it is made."""

import pytest

from nemo.core import TrainingPlan
from nemo.core.plan import optimizer_params
from nemo.utils.errors import UsageError


def test_the_tutorials_optimization_params_make_a_plan_and_an_optimizer():
    params = {"batch_size": 64, "num_epochs": 2, "lr": 0.01, "betas": (0.95, 0.25), "weight_decay": 0}
    plan = TrainingPlan.from_params(params)
    assert (plan.num_epochs, plan.max_steps, plan.batches_per_step) == (2, None, 1)
    assert optimizer_params(params) == {"lr": 0.01, "betas": (0.95, 0.25), "weight_decay": 0}
    assert plan.lr_at(0.01, step=7, epoch=0) == 0.01


def test_a_policy_is_given_the_rate_the_optimizer_began_with():
    plan = TrainingPlan(max_steps=9, lr_policy=lambda lr, step, epoch: lr * 10 + step + epoch / 10)
    assert plan.lr_at(2.0, step=3, epoch=4) == pytest.approx(23.4)


def test_the_end_is_whichever_comes_first():
    plan = TrainingPlan(num_epochs=3, max_steps=10)
    assert not plan.is_done(step=9, epoch=2)
    assert plan.is_done(step=10, epoch=0)
    assert plan.is_done(step=0, epoch=3)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"lr": 1}, "training has no end"),
        ({"lr": 1, "num_epoch": 1}, "did you mean 'num_epochs'"),
        ({"lr": 1, "max_steps": 0}, "max_steps: out of range; found 0"),
    ],
)
def test_an_invalid_plan_is_refused(params, message):
    with pytest.raises(UsageError, match=message):
        TrainingPlan.from_params(params)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"num_epochs": 1}, "has no lr"),
        ({"lr": 0}, "lr: out of range"),
        ({"lr": float("nan")}, "lr: out of range"),
        ({"lr": 1, "weight_decoy": 0}, "did you mean 'weight_decay'"),
    ],
)
def test_invalid_optimizer_options_are_refused(params, message):
    with pytest.raises(UsageError, match=message):
        optimizer_params(params)

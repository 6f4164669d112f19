"""The plan: every number of a run is checked when it is made."""

import pytest

from nemo.core import TrainingPlan
from nemo.utils.errors import UsageError


def test_the_tutorials_optimization_params_make_a_plan():
    plan = TrainingPlan.from_params(
        "novograd",
        {"batch_size": 64, "num_epochs": 2, "lr": 0.01, "betas": (0.95, 0.25), "weight_decay": 0},
    )
    assert (plan.num_epochs, plan.lr, plan.batches_per_step) == (2, 0.01, 1)
    assert plan.optimizer_options == {"betas": (0.95, 0.25), "weight_decay": 0}
    assert plan.lr_at(step=7, epoch=0) == 0.01


def test_the_end_is_whichever_comes_first():
    plan = TrainingPlan("sgd", lr=1, num_epochs=3, max_steps=10)
    assert not plan.is_done(step=9, epoch=2)
    assert plan.is_done(step=10, epoch=0)
    assert plan.is_done(step=0, epoch=3)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"lr": 1}, "training has no end"),
        ({"num_epochs": 1}, "has no lr"),
        ({"lr": 1, "num_epoch": 1}, "did you mean 'num_epochs'"),
        ({"lr": 0, "num_epochs": 1}, "lr: out of range"),
        ({"lr": float("nan"), "num_epochs": 1}, "lr: out of range"),
        ({"lr": 1, "max_steps": 0}, "max_steps: out of range; found 0"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(params, message):
    with pytest.raises(UsageError, match=message):
        TrainingPlan.from_params("sgd", params)

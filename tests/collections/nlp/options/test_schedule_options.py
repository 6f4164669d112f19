"""Options that reach the numbers of a learning-rate schedule."""

import pytest

from nemo.collections.nlp.options import PretrainingOptions
from nemo.collections.nlp.pretraining.duration import lr_policy
from nemo.utils.errors import UsageError
from nemo.utils.step_plan import StepPlan


def rates(steps, **options):
    """The rate of each step of a run, from a peak of 1."""
    chosen = PretrainingOptions(train_data="text", lr=1.0, **options)
    policy = lr_policy(chosen, StepPlan.of(steps))
    return [policy(1.0, step, 0) for step in range(steps)]


def test_hold_power_and_least_rate_of_a_polynomial():
    found = rates(
        8,
        lr_policy="PolynomialHoldDecayAnnealing",
        lr_warmup_proportion=0.0,
        lr_hold=0.5,
        lr_power=2.0,
        lr_min=0.2,
    )

    # Four steps at the peak, then 0.2 + 0.8 (1 - p)^2 for p = 0, 1/4, 1/2, 3/4.
    assert found == pytest.approx([1, 1, 1, 1, 1, 0.65, 0.4, 0.25])


def test_the_least_rate_of_a_cosine():
    assert rates(4, lr_policy="CosineAnnealing", lr_warmup_proportion=0.0, lr_min=0.5)[2] == pytest.approx(
        0.75
    )


@pytest.mark.parametrize(
    "number, policy, expected",
    [
        ("lr_power", "CosineAnnealing", "PolynomialDecayAnnealing, PolynomialHoldDecayAnnealing"),
        ("lr_hold", "SquareAnnealing", "WarmupHoldPolicy, PolynomialHoldDecayAnnealing"),
        ("lr_min", None, "WarmupHoldPolicy, SquareAnnealing"),
    ],
)
def test_a_number_that_the_schedule_has_no_use_for_is_refused(number, policy, expected):
    with pytest.raises(UsageError, match=f"--{number}: the schedule has no such parameter") as problem:
        PretrainingOptions(train_data="text", lr_policy=policy, **{number: 0.5})

    assert expected in str(problem.value)

"""The steps of a run as they were planned, and as text."""

import pytest

from nemo.utils.errors import UsageError
from nemo.utils.step_plan import StepPlan


def test_each_step_has_the_plan_that_was_in_force():
    plan = StepPlan.of(1000).changed(2, 80).changed(40, 120)
    assert [plan.at(step) for step in (0, 1, 2, 39, 40, 500)] == [1000, 1000, 80, 80, 120, 120]
    assert plan.total == 120 and plan.is_settled and not StepPlan.of(5).is_settled


def test_a_plan_is_read_as_it_is_written():
    plan = StepPlan.of(1000).changed(2, 80)
    assert str(plan) == "0:1000,2:80" and StepPlan.parse(str(plan)) == plan


@pytest.mark.parametrize(
    "text", ["", "5", "1:5", "0:5,3", "0:5,3:x", "0:9,3:8,3:7", "0:9,4:3", "0:0", "0:5:6"]
)
def test_text_that_is_not_a_plan_is_refused(text):
    with pytest.raises(UsageError, match="not a step plan"):
        StepPlan.parse(text)

"""The learning rate that a run goes on with."""

import re
from dataclasses import replace

import pytest

from nemo.collections.nlp.options import PretrainingOptions
from nemo.collections.nlp.pretraining.rate_change import PEAKS, RateChange, rate_at
from nemo.utils.arguments import names_deciding
from nemo.utils.step_plan import StepPlan

POLYNOMIAL = PretrainingOptions(
    mode="data_text",
    train_data="text",
    lr=1e-3,
    lr_policy="PolynomialDecayAnnealing",
    lr_warmup_proportion=0.0,
    num_iters=100,
)
HOLDING = replace(POLYNOMIAL, lr_policy="PolynomialHoldDecayAnnealing")
CONSTANT = replace(POLYNOMIAL, lr_policy=None)


class At:
    """An action that has come to a step."""

    def __init__(self, step):
        self.step, self.global_rank = step, 0


def told(capsys, before, step, **changes):
    """The one line on the way from `before` to the same with changes; "" without."""
    now = replace(before, **changes)
    callback = RateChange(before, now, StepPlan.of(now.num_iters))
    callback.action = At(step)
    callback.on_action_start()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) <= 1
    return lines[0] if lines else ""


def test_the_rate_after_some_steps_is_that_of_the_next_step():
    assert rate_at(CONSTANT, StepPlan.of(100), 99) == 1e-3
    assert rate_at(POLYNOMIAL, StepPlan.of(100), 50) == pytest.approx(5e-4)


@pytest.mark.parametrize(
    ("before", "step", "changes", "line"),
    [
        (POLYNOMIAL, 100, {"num_iters": 200}, "step 101, from 1e-05 to 0.0005 (--num_iters 100 -> 200)"),
        (POLYNOMIAL, 50, {"lr": 2e-3}, "step 51, from 0.00051 to 0.001 (--lr 0.001 -> 0.002)"),
        (POLYNOMIAL, 90, {"lr_policy": None}, "(--lr_policy PolynomialDecayAnnealing -> None)"),
        (CONSTANT, 10, {"lr": 1e-4}, "from 0.001 to 0.0001 (--lr 0.001 -> 0.0001)"),
        (POLYNOMIAL, 50, {"lr_power": 3.0}, "from 0.00051 to 0.00013 (--lr_power None -> 3.0)"),
        (POLYNOMIAL, 90, {"lr_min": 5e-4}, "(--lr_min None -> 0.0005)"),
        (POLYNOMIAL, 10, {"lr_warmup_proportion": 0.9}, "(--lr_warmup_proportion 0.0 -> 0.9)"),
        (HOLDING, 80, {"lr_hold": 0.9}, "(--lr_hold None -> 0.9)"),
        (
            CONSTANT,
            10,
            {"lr_embeddings": 1e-4},
            "rate of the embeddings jumps at step 11, from 0.001 to 0.0001 (",
        ),
        (
            CONSTANT,
            10,
            {"lr_head": 1e-2},
            "rate of the heads jumps at step 11, from 0.001 to 0.01 (--lr_head",
        ),
        (CONSTANT, 10, {"num_iters": 200}, None),
        (POLYNOMIAL, 50, {}, None),
        (POLYNOMIAL, 5, {"num_iters": 101}, None),  # hardly another rate
        (POLYNOMIAL, 0, {"lr": 2e-3}, None),  # nothing has been trained yet
    ],
)
def test_a_rate_that_jumps_is_named(capsys, before, step, changes, line):
    found = told(capsys, before, step, **changes)
    assert re.search(re.escape(line), found) if line else found == ""


def test_a_run_whose_steps_were_not_settled_has_no_rate_to_compare(capsys):
    assert told(capsys, replace(POLYNOMIAL, num_iters=-1, minutes=1.0), 5, num_iters=50) == ""


def test_the_steps_of_a_resumed_plan_are_no_change(capsys):
    before = replace(POLYNOMIAL, num_iters=100, minutes=1.0, step_plan="0:1000,2:100")
    now = replace(before, num_iters=-1, step_plan=None, lr=2e-3)
    callback = RateChange(before, now, StepPlan.parse(before.step_plan))
    callback.action = At(50)

    callback.on_action_start()

    assert capsys.readouterr().err.endswith("(--lr 0.001 -> 0.002)\n")


def test_every_option_that_the_rate_follows_from_is_declared_so():
    read = set()

    class Reader:
        def __getattr__(self, name):
            read.add(name)
            return getattr(HOLDING, name)

    for peak in PEAKS:
        rate_at(Reader(), StepPlan.of(100), 50, peak)

    assert {"lr", "lr_head", "lr_power"} < read <= set(names_deciding(PretrainingOptions, "rate"))

"""Every policy against numbers worked out by hand: T = 100, w = 20, lr = 1 unless said otherwise."""

import math

import pytest

from nemo.utils.errors import UsageError
from nemo.utils.lr_policies import LR_POLICIES, get_lr_policy

NEEDS_TOTAL_STEPS = [name for name, policy in LR_POLICIES.items() if policy.needs_total_steps]


def rates(name, steps, lr=1.0, **options):
    policy = get_lr_policy(name, **options)
    return [policy(lr, step, 0) for step in steps]


# Steps 20, 60, 84 and 100 are the progress 0, 1/2, 4/5 and 1.
@pytest.mark.parametrize(
    ("name", "at_20", "at_60", "at_84", "at_100", "at_101"),
    [
        ("WarmupPolicy", 1, 1, 1, 1, 0),
        ("WarmupHoldPolicy", 1, 1, 1, 1, 0),
        ("SquareAnnealing", 1, 0.25, 0.04, 1e-5, 0),
        ("SquareRootAnnealing", 1, math.sqrt(0.5), math.sqrt(0.2), 0, 0),
        ("CosineAnnealing", 1, 0.5, (1 - math.cos(math.pi / 5)) / 2, 0, 0),
        ("WarmupAnnealing", 1, 0.5, 0.2, 0, 0),
        ("InverseSquareRootAnnealing", 1, (21 / 61) ** 0.5, (21 / 85) ** 0.5, (21 / 101) ** 0.5, 0),
        ("PolynomialDecayAnnealing", 1, 0.5, 0.2, 0, 0),
        ("PolynomialHoldDecayAnnealing", 1, 0.5, 0.2, 0, 0),
    ],
)
def test_curve_after_the_warmup(name, at_20, at_60, at_84, at_100, at_101):
    found = rates(name, (20, 60, 84, 100, 101), total_steps=100, warmup_steps=20)
    assert found == pytest.approx([at_20, at_60, at_84, at_100, at_101])


@pytest.mark.parametrize("name", LR_POLICIES)
def test_warmup_climbs_in_equal_steps(name):
    found = rates(name, (0, 1, 2, 3), lr=10.0, total_steps=40, warmup_steps=4)
    assert found == pytest.approx([2, 4, 6, 8])
    assert found == rates(name, (0, 1, 2, 3), lr=10.0, total_steps=40, warmup_ratio=0.1)


@pytest.mark.parametrize("name", LR_POLICIES)
def test_no_jump_where_the_warmup_ends(name):
    before, after = rates(name, (49, 50), total_steps=100, warmup_steps=50)
    assert before == pytest.approx(50 / 51)
    assert after == pytest.approx(1)


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("SquareAnnealing", {"min_lr": 0.3}, [1, 0.3, 0.3, 0]),
        ("SquareRootAnnealing", {"min_lr": 0.75}, [1, 0.75, 0.75, 0]),
        ("CosineAnnealing", {"min_lr": 0.2}, [1, 0.6, 0.2, 0]),
        ("WarmupAnnealing", {"min_lr": 0.1}, [1, 0.5, 0.1, 0]),
        ("PolynomialDecayAnnealing", {"min_lr": 0.2, "power": 2}, [1, 0.4, 0.2, 0]),
        ("PolynomialHoldDecayAnnealing", {"min_lr": 0.2, "power": 2}, [1, 0.4, 0.2, 0.2]),
        ("WarmupHoldPolicy", {"min_lr": 0.2}, [1, 1, 1, 0.2]),
    ],
)
def test_min_lr_and_power(name, options, expected):
    """At the progress 0, 1/2, 1 and one step later; after it the hold policies keep `min_lr`."""
    found = rates(name, (0, 50, 100, 101), total_steps=100, **options)
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("hold", [{"hold_steps": 30}, {"hold_ratio": 0.3}])
def test_hold_comes_between_warmup_and_decay(hold):
    """Warm-up to 20, hold to 50, then a straight line over the other 50."""
    found = rates(
        "PolynomialHoldDecayAnnealing",
        (19, 20, 49, 50, 75, 100),
        total_steps=100,
        warmup_steps=20,
        **hold,
    )
    assert found == pytest.approx([20 / 21, 1, 1, 1, 0.5, 0])


@pytest.mark.parametrize("name", ["PolynomialDecayAnnealing", "PolynomialHoldDecayAnnealing"])
def test_cycle_stretches_the_period_after_the_end(name):
    """At 125 of 100 the way is 200 long: 3/8 are left. At 225 it is 300 long: 1/4 is left."""
    found = rates(name, (50, 100, 125, 200, 225), total_steps=100, cycle=True)
    assert found == pytest.approx([0.5, 0, 0.375, 0, 0.25])


def test_arguments_of_a_call_may_be_named():
    policy = get_lr_policy("WarmupAnnealing", total_steps=4)
    assert policy(initial_lr=8.0, step=1, epoch=7) == pytest.approx(6)


@pytest.mark.parametrize("name", ["WarmupPolicy", "WarmupHoldPolicy", "InverseSquareRootAnnealing"])
def test_a_run_without_end_needs_no_total_steps(name):
    expected = 0.1 if name == "InverseSquareRootAnnealing" else 1
    assert rates(name, (99,)) == pytest.approx([expected])


@pytest.mark.parametrize("name", NEEDS_TOTAL_STEPS)
def test_total_steps_that_are_needed_and_missing(name):
    with pytest.raises(UsageError, match=f"{name} needs total_steps"):
        get_lr_policy(name, warmup_steps=3)


@pytest.mark.parametrize("name", LR_POLICIES)
@pytest.mark.parametrize("total_steps", [0, -1])
def test_total_steps_below_one(name, total_steps):
    with pytest.raises(UsageError, match=f"total_steps: .*found {total_steps}"):
        get_lr_policy(name, total_steps=total_steps)


@pytest.mark.parametrize(
    "options",
    [
        {"warmup_steps": 5, "warmup_ratio": 0.1},
        {"hold_steps": 5, "hold_ratio": 0.1},
        {"warmup_steps": -1},
        {"warmup_ratio": 1.5},
        {"hold_ratio": float("nan")},
        {"min_lr": -1.0},
        {"power": -1.0},
    ],
)
def test_numbers_that_make_no_sense(options):
    with pytest.raises(UsageError, match=next(iter(options))):
        get_lr_policy("PolynomialHoldDecayAnnealing", total_steps=100, **options)


def test_a_ratio_needs_total_steps():
    with pytest.raises(UsageError, match="warmup_ratio is a fraction of total_steps"):
        get_lr_policy("WarmupPolicy", warmup_ratio=0.1)


def test_cosine_cannot_rise():
    policy = get_lr_policy("CosineAnnealing", total_steps=10, min_lr=0.5)
    with pytest.raises(ValueError, match="min_lr: CosineAnnealing needs room to fall"):
        policy(0.1, 3, 0)


@pytest.mark.parametrize("name", LR_POLICIES)
@pytest.mark.parametrize("warmup_steps", [10, 11])
def test_a_warmup_that_fills_the_run(name, warmup_steps):
    policy = get_lr_policy(name, total_steps=10, warmup_steps=warmup_steps)
    assert policy(1.0, 9, 0) == pytest.approx(10 / (warmup_steps + 1))
    assert 0 <= policy(1.0, 10, 0) <= 1


def test_unknown_name_says_the_closest():
    with pytest.raises(UsageError, match="did you mean 'CosineAnnealing'"):
        get_lr_policy("CosinAnnealing", total_steps=10)

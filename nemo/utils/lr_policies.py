"""Learning rate policies: `policy(initial_lr, step, epoch)` is the learning rate of a step.

Every policy warms up linearly, follows a curve, and stops after `total_steps`. In the formulas lr
is `initial_lr`, w the number of warm-up steps, T `total_steps`, and p = (step - w) / (T - w) the
progress since the warm-up: 0 at its end, 1 at the end of training.
"""

import inspect
import math
from typing import Any

from nemo.utils.errors import UsageError
from nemo.utils.logging import logging
from nemo.utils.lookup import choose


class WarmupPolicy:
    """lr (step + 1) / (w + 1) in the warm-up, then lr up to T, then 0. The base class of all policies.

    Args:
        total_steps: steps in the whole run; None means without end, if the curve does not need it.
        warmup_steps: steps of the warm-up; default: none.
        warmup_ratio: the same as a fraction of `total_steps`.

    Raises:
        UsageError: a number is out of range, `total_steps` is needed but missing, or both steps and ratio
            are given.
    """

    needs_total_steps = False
    goes_on_after_end = False
    lr_after_end = 0.0

    def __init__(
        self,
        total_steps: int | None = None,
        *,
        warmup_steps: int | None = None,
        warmup_ratio: float | None = None,
    ):
        if total_steps is None and self.needs_total_steps:
            raise UsageError(f"{type(self).__name__} needs total_steps")
        if total_steps is not None and total_steps <= 0:
            raise UsageError(
                "no steps to train",
                where="total_steps",
                found=total_steps,
                expected="1 or more",
                fix="the data has too few batches: use a smaller batch size or more epochs",
            )
        self.total_steps = total_steps
        self.warmup_steps = _number_of_steps("warmup", warmup_steps, warmup_ratio, total_steps)
        if total_steps is not None and self.warmup_steps > total_steps:
            logging.warning(
                f"the warm-up ({self.warmup_steps} steps) is longer than the run ({total_steps}): "
                "the learning rate will not reach its peak"
            )

    def __call__(self, initial_lr: float, step: int, epoch: int = 0) -> float:
        """The learning rate after `step` steps. The policies here ignore the epoch; yours may use it."""
        if step < self.warmup_steps:
            return initial_lr * (step + 1) / (self.warmup_steps + 1)
        if self.total_steps is not None and step > self.total_steps and not self.goes_on_after_end:
            return self.lr_after_end
        return self._curve(initial_lr, step)

    def _curve(self, lr: float, step: int) -> float:
        """The rate after the warm-up."""
        return lr

    def _progress(self, step: int, since: int | None = None) -> float:
        """The fraction of the way from `since` (default: the end of the warm-up) to T."""
        start = self.warmup_steps if since is None else since
        assert self.total_steps is not None
        return (step - start) / (self.total_steps - start) if start < self.total_steps else 1.0


class WarmupHoldPolicy(WarmupPolicy):
    """lr after the warm-up, `min_lr` after T.

    Args:
        hold_steps: steps at the full rate between the warm-up and the curve.
        hold_ratio: the same as a fraction of `total_steps`.
        min_lr: the lowest rate.
    """

    def __init__(
        self,
        total_steps: int | None = None,
        *,
        hold_steps: int | None = None,
        hold_ratio: float | None = None,
        min_lr: float = 0.0,
        **warmup: Any,
    ):
        super().__init__(total_steps, **warmup)
        hold = _number_of_steps("hold", hold_steps, hold_ratio, total_steps)
        self.hold_end = self.warmup_steps + hold
        self.min_lr = self.lr_after_end = _in_range("min_lr", min_lr, low=0)


class _Annealing(WarmupPolicy):
    """Base class of curves that fall to `min_lr` at T."""

    needs_total_steps = True

    def __init__(self, total_steps: int | None = None, min_lr: float = 0.0, **warmup: Any):
        super().__init__(total_steps, **warmup)
        self.min_lr = _in_range("min_lr", min_lr, low=0)


class SquareAnnealing(_Annealing):
    """max(lr (1 - p)^2, min_lr)."""

    def __init__(self, total_steps: int | None = None, min_lr: float = 1e-5, **warmup: Any):
        super().__init__(total_steps, min_lr, **warmup)

    def _curve(self, lr: float, step: int) -> float:
        return max(lr * (1 - self._progress(step)) ** 2, self.min_lr)


class SquareRootAnnealing(_Annealing):
    """max(lr sqrt(1 - p), min_lr).

    NeMo 0.10 used p = step / T, so the rate dropped sharply at the end of a warm-up; here the curve is
    continuous. Without a warm-up, both agree.
    """

    def _curve(self, lr: float, step: int) -> float:
        return max(lr * math.sqrt(1 - self._progress(step)), self.min_lr)


class CosineAnnealing(_Annealing):
    """min_lr + (lr - min_lr) (1 + cos(pi p)) / 2; a UsageError when lr is below `min_lr`."""

    def _curve(self, lr: float, step: int) -> float:
        if lr < self.min_lr:
            raise UsageError(
                "CosineAnnealing needs room to fall",
                where="min_lr",
                found=self.min_lr,
                expected=f"no more than the initial learning rate {lr}",
            )
        return self.min_lr + (lr - self.min_lr) * (1 + math.cos(math.pi * self._progress(step))) / 2


class WarmupAnnealing(_Annealing):
    """max(lr (1 - p), min_lr)."""

    def _curve(self, lr: float, step: int) -> float:
        return max(lr * (1 - self._progress(step)), self.min_lr)


class InverseSquareRootAnnealing(WarmupPolicy):
    """lr / sqrt((step + 1) / (w + 1))."""

    def _curve(self, lr: float, step: int) -> float:
        return lr / math.sqrt((step + 1) / (self.warmup_steps + 1))


class PolynomialDecayAnnealing(_Annealing):
    """min_lr + (lr - min_lr) (1 - p)^power.

    Args:
        power: exponent; 1 is a straight line.
        cycle: continue after T. Each time the curve reaches its end, its period grows by T - w: the base of
            the power is 1 - p / 2 from T on, 1 - p / 3 one period later.
    """

    def __init__(
        self,
        total_steps: int | None = None,
        min_lr: float = 0.0,
        power: float = 1.0,
        cycle: bool = False,
        **warmup: Any,
    ):
        super().__init__(total_steps, min_lr, **warmup)
        self.power = _in_range("power", power, low=0)
        self.goes_on_after_end = cycle

    def _curve(self, lr: float, step: int) -> float:
        return _polynomial(lr, self._progress(step), self.min_lr, self.power)


class PolynomialHoldDecayAnnealing(WarmupHoldPolicy):
    """lr for `hold_steps`, then `PolynomialDecayAnnealing` with p = 0 at the end of the hold."""

    needs_total_steps = True

    def __init__(
        self,
        total_steps: int | None = None,
        min_lr: float = 0.0,
        power: float = 1.0,
        cycle: bool = False,
        **warmup_and_hold: Any,
    ):
        super().__init__(total_steps, min_lr=min_lr, **warmup_and_hold)
        self.power = _in_range("power", power, low=0)
        self.goes_on_after_end = cycle

    def _curve(self, lr: float, step: int) -> float:
        if step < self.hold_end:
            return lr
        return _polynomial(lr, self._progress(step, self.hold_end), self.min_lr, self.power)


def _polynomial(lr: float, progress: float, min_lr: float, power: float) -> float:
    periods = max(math.ceil(progress), 1)
    return min_lr + (lr - min_lr) * math.pow(1 - progress / periods, power)


def _number_of_steps(phase: str, steps: int | None, ratio: float | None, total_steps: int | None) -> int:
    """Steps of a phase, given as a number, as a fraction of all steps, or not at all (0)."""
    if steps is not None and ratio is not None:
        raise UsageError(f"{phase}_steps and {phase}_ratio say the same thing", fix="give one")
    if ratio is None:
        return int(_in_range(f"{phase}_steps", steps or 0, low=0))
    if total_steps is None:
        raise UsageError(f"{phase}_ratio is a fraction of total_steps, which is not given")
    return int(_in_range(f"{phase}_ratio", ratio, low=0, high=1) * total_steps)


def _in_range(name: str, value: float, low: float, high: float = math.inf) -> float:
    if low <= value <= high:
        return value
    expected = f"at least {low}" if high == math.inf else f"{low} to {high}"
    raise UsageError("out of range", where=name, found=value, expected=expected)


LR_POLICIES: dict[str, type[WarmupPolicy]] = {
    policy.__name__: policy
    for policy in (
        WarmupPolicy,
        WarmupHoldPolicy,
        SquareAnnealing,
        SquareRootAnnealing,
        CosineAnnealing,
        WarmupAnnealing,
        InverseSquareRootAnnealing,
        PolynomialDecayAnnealing,
        PolynomialHoldDecayAnnealing,
    )
}


def parameters_of(lr_policy: str) -> set[str]:
    """Names of the parameters of the policy with this name."""
    return {
        name
        for cls in LR_POLICIES[lr_policy].__mro__
        if "__init__" in vars(cls)
        for name in inspect.signature(vars(cls)["__init__"]).parameters
    }


def get_lr_policy(lr_policy: str, **kwargs: Any) -> WarmupPolicy:
    """Create the policy with this class name from `kwargs`.

    Raises:
        UsageError: there is no such policy, or `kwargs` are invalid.
    """
    return choose(LR_POLICIES, lr_policy, what="learning rate policy")(**kwargs)

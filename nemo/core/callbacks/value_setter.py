"""A number that follows a schedule, such as the probability of a dropout."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from nemo.core.callbacks.action import ActionCallback
from nemo.utils.errors import UsageError
from nemo.utils.lookup import closest


@dataclass(frozen=True)
class _Const:
    """The same `value` at every step."""

    value: Any

    def __call__(self, step: int, total_steps: int) -> Any:
        return self.value


@dataclass(frozen=True)
class _Linear:
    """From `a` at the first step to `b` at the last one."""

    a: float
    b: float

    def __call__(self, step: int, total_steps: int) -> float:
        return self.a + step / max(1, total_steps - 1) * (self.b - self.a)


class _Policy(NamedTuple):
    """`method(step - start, end - start)` is the value from step `start` up to, but without, `end`.

    Steps are counted from 0. A float is a share of all steps, so 1 is the first step and 1.0 the end.
    """

    method: Callable[[int, int], Any]
    start: int | float
    end: int | float


class ValueSetterCallback(ActionCallback):
    """Sets an attribute before every step, by the number of steps that are finished.

    So a resumed run continues with the values it would have had. Beyond the last policy its last value
    stays.

        ValueSetterCallback(
            encoder.dropout,
            "p",
            [Policy(Method.Const(0.1), 0.0, 0.5), Policy(Method.Linear(0.1, 0.0), 0.5, 1.0)],
            total_steps=1000,
        )

    Args:
        module: any object.
        arg_name: its attribute.
        policies: what to set and when, one after the other from step 0 to `total_steps`; None keeps the value
            that is there.
        total_steps: steps in all; None means up to the end of the last policy.
        tb_writer: where `param/<class>.<arg_name>` goes; None takes the factory's.

    Raises:
        UsageError: there is no such attribute, policies that leave steps out or overlap, or shares of an
            unknown number of steps.
    """

    Policy = _Policy

    class Method:
        """Ways from one value to another; any `(step, total_steps) -> value` will do."""

        Const = _Const
        Linear = _Linear

    def __init__(
        self,
        module: Any,
        arg_name: str,
        policies: Sequence[_Policy] | None = None,
        total_steps: int | None = None,
        tb_writer: Any = None,
    ):
        if not hasattr(module, arg_name):
            near = closest(arg_name, dir(module))
            raise UsageError(
                "no such attribute to set",
                where=f"{type(module).__name__}.{arg_name}",
                fix=f"did you mean {near!r}?" if near else "",
            )
        if policies is None:
            policies = [_Policy(_Const(getattr(module, arg_name)), 0, total_steps or 1)]
        self.module = module
        self.arg_name = arg_name
        self.policies = _in_steps(policies, total_steps)
        self.tb_writer = tb_writer

    def on_iteration_start(self) -> None:
        step = min(self.step, self.policies[-1].end - 1)
        policy = next(policy for policy in self.policies if step < policy.end)
        value = policy.method(int(step - policy.start), int(policy.end - policy.start))
        setattr(self.module, self.arg_name, value)
        writer = self._writer()
        if writer and self.global_rank == 0 and isinstance(value, int | float):
            name = f"param/{type(self.module).__name__}.{self.arg_name}"
            writer.add_scalar(name, value, self.step + 1)  # the number of the update it is for


def _in_steps(policies: Sequence[_Policy], total_steps: int | None) -> list[_Policy]:
    """The policies with whole steps for shares.

    Raises:
        UsageError: they do not follow one another from 0 to the end, or a share is of an unknown number.
    """

    def as_step(border: int | float) -> int:
        if not isinstance(border, float):
            return border
        if total_steps is None:
            raise UsageError(
                "a fraction of an unknown number of steps",
                where="policies",
                found=border,
                expected="total_steps",
            )
        return int(border * total_steps)

    in_steps = []
    reached = 0
    for method, first, last in policies:
        start, end = as_step(first), as_step(last)
        if start != reached or end < start:
            raise UsageError(
                "the policies leave a gap or overlap",
                where="policies",
                found=f"one from step {start} to {end}",
                expected=f"one that starts at step {reached}",
            )
        in_steps.append(_Policy(method, start, end))
        reached = end
    if reached == 0 or reached != (total_steps or reached):
        raise UsageError(
            "the policies do not end at the last step",
            where="policies",
            found=f"step {reached}",
            expected=f"step {total_steps}" if total_steps else "a later one",
        )
    return in_steps

"""Setting a value by a schedule, such as a dropout probability."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from nemo.core.callbacks.action import ActionCallback
from nemo.utils.errors import UsageError
from nemo.utils.lookup import closest


@dataclass(frozen=True)
class _Const:
    """`value` at every step."""

    value: Any

    def __call__(self, step: int, total_steps: int) -> Any:
        return self.value


@dataclass(frozen=True)
class _Linear:
    """From `a` at the first step to `b` at the last."""

    a: float
    b: float

    def __call__(self, step: int, total_steps: int) -> float:
        return self.a + step / max(1, total_steps - 1) * (self.b - self.a)


class _Policy(NamedTuple):
    """The value at a step in [start, end) is `method(step - start, end - start)`.

    Steps count from 0. An int is a step and a float a fraction of all steps: 1 is step 1, 1.0 the end.
    """

    method: Callable[[int, int], Any]
    start: int | float
    end: int | float


class ValueSetterCallback(ActionCallback):
    """Sets an attribute before every step, depending on the number of finished steps only.

    So a resumed run has the values of an uninterrupted one. After the last policy, its last value stays.

        ValueSetterCallback(
            encoder.dropout,
            "p",
            [Policy(Method.Const(0.1), 0.0, 0.5), Policy(Method.Linear(0.1, 0.0), 0.5, 1.0)],
            total_steps=1000,
        )

    Args:
        module: any object.
        arg_name: name of the attribute.
        policies: consecutive policies from step 0 to `total_steps`; None keeps the present value.
        total_steps: total number of steps; None means up to the end of the last policy.
        tb_writer: TensorBoard writer for `param/<class>.<arg_name>`; None takes the factory's.

    Raises:
        UsageError: there is no such attribute; the policies leave a gap or overlap; or they use fractions
            without `total_steps`.
    """

    Policy = _Policy

    class Method:
        """Ready-made methods; any `(step, total_steps) -> value` will do."""

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
            writer.add_scalar(name, value, self.step + 1)  # the step that it is used in


def _in_steps(policies: Sequence[_Policy], total_steps: int | None) -> list[_Policy]:
    """The policies with fractions turned into steps.

    Raises:
        UsageError: they are not consecutive from step 0 to the end, or use fractions without `total_steps`.
    """

    def as_step(border: int | float) -> int:
        if not isinstance(border, float):
            return border
        if total_steps is None:
            raise UsageError(
                "a fractional border needs total_steps",
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
                found=f"a policy from step {start} to {end}",
                expected=f"a policy that starts at step {reached}",
            )
        in_steps.append(_Policy(method, start, end))
        reached = end
    if reached == 0 or reached != (total_steps or reached):
        raise UsageError(
            "the policies do not end at the last step",
            where="policies",
            found=f"step {reached}",
            expected=f"step {total_steps}" if total_steps else "a later step",
        )
    return in_steps

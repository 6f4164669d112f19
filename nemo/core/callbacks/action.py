"""What every callback is, and how their arguments are read."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from nemo.core.actions import Actions, BadStep
from nemo.core.graph import NmTensor
from nemo.utils.errors import UsageError
from nemo.utils.logging import Logger, logging


class ActionCallback:
    """Base class of callbacks: hooks into a run, which do nothing until overridden.

    An exception in a hook ends the run.

    Attributes:
        action: what is running; set when it starts.
        tensors: what must be computed for this callback, at the steps that `reads_at` names.
        saves_on_stop: `on_stop` saves the run, so a signal may end it; see `nemo.utils.stopping`.
        tb_writer: where it writes TensorBoard events; None means the factory's writer, if there is one.
    """

    action: Actions
    tensors: Sequence[NmTensor] = ()
    saves_on_stop: bool = False
    tb_writer: Any = None

    def reads_at(self, step: int) -> bool:
        """Whether `tensors` are read after step `step`; tensors that are never read are not computed."""
        return True

    def on_restore(self) -> None:
        """The graph and the optimizer are made; the time to load what an earlier run saved."""

    def on_action_start(self) -> None:
        """The state is restored; no step has been taken yet."""

    def on_epoch_start(self) -> None:
        """Before the first step of an epoch, or of what a resume left of it."""

    def on_iteration_start(self) -> None:
        """Before a step."""

    def on_iteration_end(self) -> None:
        """After a step; `step` counts it."""

    def on_bad_step(self, bad: BadStep) -> None:
        """After a step that was not taken, before training stops, skips or rewinds."""

    def on_epoch_end(self) -> None:
        """After an epoch (`epoch_num` counts it), or where `max_steps` cut it short."""

    def on_stop(self) -> None:
        """Instead of what else would come: a signal asked training to stop; only where it can be resumed."""

    def on_action_end(self) -> None:
        """After the last step."""

    @property
    def step(self) -> int:
        """Finished steps."""
        return self.action.step

    @property
    def epoch_num(self) -> int:
        """Finished epochs."""
        return self.action.epoch_num

    @property
    def learning_rate(self) -> float:
        """Of the latest step."""
        return self.action.learning_rate

    @property
    def global_rank(self) -> int:
        """0 where there is one process."""
        return self.action.global_rank

    @property
    def local_rank(self) -> int | None:
        """None where there is one process."""
        return self.action.local_rank

    @property
    def logger(self) -> Logger:
        """The one logger."""
        return logging

    @property
    def registered_tensors(self) -> dict[str, Any]:
        """Values of `tensors` in the latest step, by unique name; empty where `reads_at` said no."""
        if not self.reads_at(self.step):
            return {}
        return {tensor.unique_name: self.action.value_of(tensor) for tensor in self.tensors}

    def _writer(self) -> Any:
        return self.tb_writer or self.action.tb_writer


def as_frequency(value: int | None, name: str) -> int | None:
    """`value`, or None for "never" (None, -1).

    Raises:
        UsageError: 0, or below -1.
    """
    if value is None or value == -1:
        return None
    if value < 1:
        raise UsageError("out of range", where=name, found=value, expected="1 or more, or -1 for never")
    return value


def as_tensors(given: NmTensor | Sequence[NmTensor], name: str) -> list[NmTensor]:
    """One tensor, or several, as a list.

    Raises:
        UsageError: anything else, or none at all.
    """
    tensors = [given] if isinstance(given, NmTensor) else list(given)
    strangers = [tensor for tensor in tensors if not isinstance(tensor, NmTensor)]
    if strangers or not tensors:
        raise UsageError(
            "not a tensor of a graph" if strangers else "no tensor was given",
            where=name,
            found=repr(strangers[0]) if strangers else None,
            expected="what calling a module returns, one or a list of them",
        )
    return tensors


def names_of(tensors: Sequence[NmTensor]) -> list[str]:
    """`<class>/<port>` of each, from the second one of a name on `<class>_2/<port>`."""
    seen: Counter[tuple[str, str]] = Counter()
    names = []
    for tensor in tensors:
        key = (str(tensor.producer), tensor.name)
        seen[key] += 1
        number = f"_{seen[key]}" if seen[key] > 1 else ""
        names.append(f"{tensor.producer}{number}/{tensor.name}")
    return names

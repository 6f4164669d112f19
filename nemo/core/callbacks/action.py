"""The base class of callbacks, and checks of their arguments."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from nemo.core.actions import Actions, BadStep
from nemo.core.graph import NmTensor
from nemo.utils.errors import UsageError
from nemo.utils.logging import Logger, logging


class ActionCallback:
    """Base class of callbacks. Its hooks do nothing until overridden.

    An exception in a hook ends the run.

    Attributes:
        action: the running action; set when it starts.
        tensors: tensors to compute for this callback, at the steps for which `reads_at` is True.
        saves_on_stop: whether `on_stop` saves the run, so that a signal may stop it; see
            `nemo.utils.stopping`.
        tb_writer: TensorBoard writer; None takes the factory's, if any.
    """

    action: Actions
    tensors: Sequence[NmTensor] = ()
    saves_on_stop: bool = False
    tb_writer: Any = None

    def reads_at(self, step: int) -> bool:
        """Whether `tensors` are read after step `step`; if not, they are not computed."""
        return True

    def on_restore(self) -> None:
        """After the graph and the optimizer are created: load the state of an earlier run here."""

    def on_action_start(self) -> None:
        """After the state is restored, before the first step."""

    def on_epoch_start(self) -> None:
        """Before the first step of an epoch, or of the rest of an epoch after a resume."""

    def on_iteration_start(self) -> None:
        """Before a step."""

    def on_iteration_end(self) -> None:
        """After a step; `step` includes it."""

    def on_bad_step(self, bad: BadStep) -> None:
        """After a step that was not taken, before training stops, skips or rewinds."""

    def on_epoch_end(self) -> None:
        """After an epoch (`epoch_num` includes it), or when `max_steps` ends it early."""

    def on_stop(self) -> None:
        """After a signal stopped training, in place of the hooks that follow; only if it can be resumed."""

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
        """Learning rate of the latest step."""
        return self.action.learning_rate

    @property
    def global_rank(self) -> int:
        """Rank among all processes; 0 in a single process."""
        return self.action.global_rank

    @property
    def local_rank(self) -> int | None:
        """Rank on this machine; None in a single process."""
        return self.action.local_rank

    @property
    def logger(self) -> Logger:
        """The same as `nemo.logging`."""
        return logging

    @property
    def registered_tensors(self) -> dict[str, Any]:
        """Values of `tensors` in the latest step, by unique name; empty if `reads_at` is False for it."""
        if not self.reads_at(self.step):
            return {}
        return {tensor.unique_name: self.action.value_of(tensor) for tensor in self.tensors}

    def _writer(self) -> Any:
        return self.tb_writer or self.action.tb_writer


def as_frequency(value: int | None, name: str) -> int | None:
    """`value`, with None for "never" (None or -1).

    Raises:
        UsageError: the value is 0 or below -1.
    """
    if value is None or value == -1:
        return None
    if value < 1:
        raise UsageError("out of range", where=name, found=value, expected="1 or more, or -1 for never")
    return value


def as_tensors(given: NmTensor | Sequence[NmTensor], name: str) -> list[NmTensor]:
    """One tensor or several, as a list.

    Raises:
        UsageError: not a tensor of a graph, or an empty list.
    """
    tensors = [given] if isinstance(given, NmTensor) else list(given)
    strangers = [tensor for tensor in tensors if not isinstance(tensor, NmTensor)]
    if strangers or not tensors:
        raise UsageError(
            "not a tensor of a graph" if strangers else "no tensor given",
            where=name,
            found=repr(strangers[0]) if strangers else None,
            expected="the output of a module, or a list of outputs",
        )
    return tensors


def names_of(tensors: Sequence[NmTensor]) -> list[str]:
    """`<class>/<port>` of each tensor; a repeated name becomes `<class>_2/<port>`, and so on."""
    seen: Counter[tuple[str, str]] = Counter()
    names = []
    for tensor in tensors:
        key = (str(tensor.producer), tensor.name)
        seen[key] += 1
        number = f"_{seen[key]}" if seen[key] > 1 else ""
        names.append(f"{tensor.producer}{number}/{tensor.name}")
    return names

"""What a backend must be able to do. The factory and the callbacks know no more of it than this."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from nemo.core.graph import NmTensor
from nemo.core.plan import TrainingPlan


class Hooks(Protocol):
    """The moments of a run that a callback is told of."""

    action: "Actions"
    tensors: Sequence[NmTensor]

    def on_restore(self) -> None: ...
    def on_action_start(self) -> None: ...
    def on_epoch_start(self) -> None: ...
    def on_iteration_start(self) -> None: ...
    def on_iteration_end(self) -> None: ...
    def on_epoch_end(self) -> None: ...
    def on_action_end(self) -> None: ...


class Actions(Protocol):
    """Train, evaluate, infer, save and restore.

    Attributes:
        step: finished updates.
        epoch_num: finished epochs.
        items_seen: items (tokens, samples) trained on so far.
        learning_rate: of the latest update.
        grad_norm: of the latest update, before clipping.
        local_rank, global_rank: None and 0 when there is one process.
    """

    step: int
    epoch_num: int
    items_seen: int
    learning_rate: float
    grad_norm: float
    local_rank: int | None
    global_rank: int

    def train(self, losses: Sequence[NmTensor], plan: TrainingPlan, callbacks: Iterable[Hooks]) -> None:
        """Make the sum of `losses` small."""

    def value_of(self, tensor: NmTensor) -> Any:
        """A tensor in the latest update: a loss over all of it, anything else of its last batch."""

    def evaluate(self, tensors: Sequence[NmTensor]) -> Iterable[dict[str, list[Any]]]:
        """Values by unique name for each batch of one pass over the evaluation data."""

    def infer(self, tensors: Sequence[NmTensor]) -> list[list[Any]]:
        """For each tensor its value in every batch."""

    def save(
        self,
        folder: str | Path,
        keep: int,
        extra_files: Mapping[str, Any],
        extra_state: Mapping[str, Any],
    ) -> Path:
        """Write a checkpoint below `folder`, then delete superseded ones but the newest `keep`."""

    def restore(self, folder: str | Path, identity: Mapping[str, Any]) -> bool:
        """Continue from the newest good checkpoint below `folder`; False when there is none."""

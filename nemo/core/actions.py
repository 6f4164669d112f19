"""What callbacks, the factory and a backend know of each other."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from nemo.core.graph import NmTensor
from nemo.core.plan import LrPolicy, TrainingPlan


class Hooks(Protocol):
    """The hooks of a run that a callback can implement."""

    action: "Actions"
    tensors: Sequence[NmTensor]
    saves_on_stop: bool

    def reads_at(self, step: int) -> bool: ...
    def on_restore(self) -> None: ...
    def on_action_start(self) -> None: ...
    def on_epoch_start(self) -> None: ...
    def on_iteration_start(self) -> None: ...
    def on_iteration_end(self) -> None: ...
    def on_bad_step(self, bad: "BadStep") -> None: ...
    def on_epoch_end(self) -> None: ...
    def on_stop(self) -> None: ...
    def on_action_end(self) -> None: ...


@dataclass(frozen=True)
class BadStep:
    """A step that was not made, as a number in it is not finite.

    Attributes:
        step: its number, from 1.
        epoch: from 0.
        batches: the first batch of the epoch that it was of, and the first one it was not of.
        samples: the indices of their samples in the data; None if unknown.
        loss, grad_norm: of all batches together.
        weights: names of those whose gradient is not finite.
    """

    step: int
    epoch: int
    batches: tuple[int, int]
    samples: list[int] | None
    loss: float
    grad_norm: float
    weights: list[str]


class EvaluatedBatch(dict[str, Any]):
    """What one batch of an evaluation gives: unique name -> [value], as NeMo 0.10 hands it to callbacks.

    `IS_FROM_DIST_EVAL` says whether the lists hold one value for each process.

    Attributes:
        tensors: what was asked for.
        statistics: for every loss of the graph its sums and counts by name; see `LossNM.statistics`.
    """

    def __init__(self, values: Mapping[NmTensor, Any], statistics: Mapping[NmTensor, Mapping[str, Any]]):
        super().__init__({tensor.unique_name: [value] for tensor, value in values.items()})
        self["IS_FROM_DIST_EVAL"] = False
        self.tensors = tuple(values)
        self.statistics = statistics


class Actions(Protocol):
    """A running action, as its callbacks see it.

    Attributes:
        step: finished steps.
        epoch_num: finished epochs.
        items_seen: items (tokens, samples) trained on so far.
        plan: how long to train, and with which learning rates; a callback may replace it after any step, in
            all processes alike.
        learning_rate: of the latest step.
        grad_norm: of the latest step, before clipping.
        local_rank, global_rank: None and 0 when there is one process.
        tb_writer: the factory's TensorBoard writer, or None.
        is_sharded: weights are shared out among processes, so that all must take part in `evaluate` and
            `save`.
    """

    step: int
    epoch_num: int
    items_seen: int
    plan: TrainingPlan
    learning_rate: float
    grad_norm: float
    local_rank: int | None
    global_rank: int
    tb_writer: Any

    @property
    def is_sharded(self) -> bool: ...

    def value_of(self, tensor: NmTensor) -> Any:
        """A tensor in the latest step: a loss over all of it, anything else of its last micro-batch.

        Raises:
            UsageError: it was not computed in that step.
        """

    def evaluate(self, tensors: Sequence[NmTensor]) -> Iterable[EvaluatedBatch]:
        """Values of `tensors` for each batch of one pass over their data, dropout off."""

    def save(
        self,
        folder: str | Path,
        keep: int,
        extra_files: Mapping[str, Any],
        extra_state: Mapping[str, Any],
        wait: bool = True,
        spared: int | None = None,
    ) -> None:
        """Write `folder/STEP-<n>`, then delete older checkpoints but for the newest `keep`.

        Where weights are sharded, all processes must call it, and process 0 writes.

        Args:
            wait: until it is on the disk; else, within `train`, what is saved is copied and written while
                training continues, and `is_saved` tells when it is done.
            spared: a step whose checkpoint stays, too.

        Raises:
            StorageError: it, or the one before, cannot be written.
        """

    def is_saved(self, wait: bool = True) -> bool:
        """Is no checkpoint being written (any more)?

        Raises:
            StorageError: the latest could not be written; raised once.
        """

    def restore(
        self, folder: str | Path, identity: Mapping[str, Any], stream: Mapping[str, Any] | None = None
    ) -> bool:
        """Continue from the newest good checkpoint in `folder`; False when there is none.

        Args:
            folder: what `save` was given; or a work folder with it, or one checkpoint in it.
            identity: what the checkpoint's state must hold, name by name, for the run to be the same one.
            stream: what determines the batches, by name; if it differs, the epoch restarts.

        Raises:
            CheckpointError: there are checkpoints, but none is good, or it is of another model or run.
        """


class BackendActions(Actions, Protocol):
    """What a factory asks of its backend; `NeuralModuleFactory` documents methods of the same name."""

    def create_optimizer(
        self, optimizer: Any, things_to_optimize: Any, optimizer_params: Mapping[str, Any]
    ) -> Any: ...

    def train(
        self,
        tensors_to_optimize: NmTensor | Sequence[NmTensor] | Sequence[tuple[Any, Sequence[NmTensor]]],
        optimizer: Any = None,
        optimization_params: Mapping[str, Any] | None = None,
        callbacks: Iterable[Hooks] | None = None,
        lr_policy: LrPolicy | None = None,
        batches_per_step: int | None = None,
        when_not_finite: str = "stop",
        amp_max_loss_scale: float = 2.0**24,
    ) -> None: ...

    def infer(self, tensors: NmTensor | Sequence[NmTensor], **options: Any) -> list[list[Any]]: ...

    def clear_cache(self) -> None: ...

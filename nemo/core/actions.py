"""The interfaces between callbacks, the factory and a backend."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypedDict, Unpack

from nemo.core.graph import NmTensor
from nemo.core.plan import LrPolicy, TrainingPlan
from nemo.core.settings import DeviceType, Optimization

NmTensors = NmTensor | Sequence[NmTensor]


class Hooks(Protocol):
    """The hooks that a callback can implement."""

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
    """A step that was not taken because its loss or gradient is not finite.

    Attributes:
        step: the step's number, from 1.
        epoch: the epoch's number, from 0.
        batches: `(first, end)`: the range of the epoch's batches in the step, without `end`.
        samples: indices of the step's samples in the data; None if unknown.
        loss, grad_norm: over the whole step.
        weights: names of the weights whose gradient is not finite.
    """

    step: int
    epoch: int
    batches: tuple[int, int]
    samples: list[int] | None
    loss: float
    grad_norm: float
    weights: list[str]


class EvaluatedBatch(dict[str, Any]):
    """The results of one evaluation batch: unique name -> [value], in the form NeMo 0.10's callbacks take.

    `IS_FROM_DIST_EVAL` tells whether the lists hold one value per process.

    Attributes:
        tensors: the requested tensors.
        statistics: the sums and counts of each loss in the graph, by name; see `LossNM.statistics`.
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
        batch_in_epoch: finished micro-batches of the current epoch, over all processes.
        steps_undone: steps of the current epoch that rewinds have undone.
        items_seen: items (tokens, samples) trained on so far.
        plan: length of the training and its learning rates; a callback may replace it after any step, if it
            does so in all processes.
        learning_rate: learning rate of the latest step.
        grad_norm: gradient norm of the latest step, before clipping.
        local_rank, global_rank: None and 0 in a single process.
        tb_writer: the factory's TensorBoard writer, or None.
        is_sharded: whether the weights are sharded; if so, all processes must call `evaluate` and `save`.
    """

    step: int
    epoch_num: int
    batch_in_epoch: int
    steps_undone: int
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
        """The value of `tensor` in the latest step; except for losses, that of the last micro-batch only.

        Raises:
            UsageError: the tensor was not computed in that step.
        """

    def evaluate(self, tensors: Sequence[NmTensor]) -> Iterable[EvaluatedBatch]:
        """The values of `tensors` for each batch of one pass over their data, with dropout off."""

    def save(
        self,
        folder: str | Path,
        keep: int,
        extra_files: Mapping[str, Any],
        extra_state: Mapping[str, Any],
        wait: bool = True,
        spared: int | None = None,
    ) -> None:
        """Write `folder/STEP-<n>`, then delete all but the newest `keep` checkpoints.

        With sharded weights, all processes must call this, and rank 0 writes.

        Args:
            wait: return when the checkpoint is on disk. False, within `train`: copy the state, write it in
                the background, and let `is_saved` report when it is done.
            spared: a step whose checkpoint is kept as well.

        Raises:
            StorageError: this checkpoint or the one before cannot be written.
        """

    def is_saved(self, wait: bool = True) -> bool:
        """Whether no checkpoint is being written.

        Raises:
            StorageError: the latest checkpoint could not be written; raised once.
        """

    def restore(
        self, folder: str | Path, identity: Mapping[str, Any], stream: Mapping[str, Any] | None = None
    ) -> bool:
        """Resume from the newest intact checkpoint in `folder`; return False if there is none.

        Args:
            folder: the folder passed to `save`, a work folder that contains it, or a single checkpoint.
            identity: values, by name, that must equal those in the checkpoint for the run to be the same.
            stream: for a checkpoint in another run's folder, values, by name, that determine the batches; if
                they differ, the epoch restarts. A run's own folder has them in `identity`.

        Raises:
            CheckpointError: there are checkpoints, but none is intact, or they are of another model or run.
        """


class InferenceOptions(TypedDict, total=False):
    """The options of `infer`; `NeuralModuleFactory.infer` documents them."""

    checkpoint_dir: str | Path | None
    ckpt_pattern: str
    verbose: bool
    cache: bool
    use_cache: bool
    offload_to_cpu: bool
    modules_to_restore: Collection[Any] | None


class BackendActions(Actions, Protocol):
    """The methods a factory calls on its backend; `NeuralModuleFactory` documents them."""

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

    def infer(self, tensors: NmTensors, **options: Unpack[InferenceOptions]) -> list[list[Any]]: ...

    def clear_cache(self) -> None: ...


class MakeActions(Protocol):
    """Makes a backend's actions from what a factory holds; `NeuralModuleFactory` documents the arguments."""

    def __call__(
        self,
        *,
        local_rank: int | None,
        global_rank: int,
        tb_writer: Any,
        optimization_level: Optimization,
        device: Any,
        seed: int,
        world: Any,
        gradient_dtype: str | None,
        shard: bool,
    ) -> BackendActions: ...


class BackendPackage(Protocol):
    """What a factory calls in the package of a backend, such as `nemo.backends.pytorch`."""

    @property
    def make_actions(self) -> MakeActions: ...

    def device_for(self, placement: DeviceType | None, local_rank: int | None = None) -> Any: ...
    def join(self, device: Any) -> Any: ...
    def num_failed(self, world: Any, is_fine: bool) -> int: ...
    def seed_everything(self, seed: int) -> None: ...
    def set_kernel_benchmark(self, on: bool) -> None: ...
    def make_tb_writer(self, folder: Any) -> Any: ...

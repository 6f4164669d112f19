"""`PtActions`: the facade for the factory and callbacks; the work is done in `training/` and `inference`."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

import torch
from torch.optim import Optimizer

from nemo.backends.pytorch.distributed.world import World
from nemo.backends.pytorch.environment import device_for, keep_freed_memory
from nemo.backends.pytorch.graph.graph_module import GraphModule
from nemo.backends.pytorch.inference import Inference, checked
from nemo.backends.pytorch.optim.optimizer_file import load_optimizers, save_optimizers
from nemo.backends.pytorch.training.loop import Training
from nemo.backends.pytorch.training.objectives import optimizer_for, tasks_of
from nemo.backends.pytorch.training.progress import Progress
from nemo.backends.pytorch.training.replicas import Replicas, refuse_sharding_at
from nemo.core.actions import EvaluatedBatch, Hooks, InferenceOptions, NmTensors
from nemo.core.graph import NmTensor
from nemo.core.plan import LrPolicy, TrainingPlan
from nemo.core.settings import Optimization
from nemo.utils.errors import UsageError


class PtActions(Progress):
    """Runs graphs on one device; its counters are the progress of its training.

    Args:
        local_rank, global_rank: None and 0 in a single process.
        tb_writer: TensorBoard writer for callbacks.
        optimization_level: see `precision`.
        device: None takes a GPU if there is one, else the CPU.
        seed: the dropout of a step depends only on this seed, the step and the rank.
        world: the processes that train together; None means this one alone.
        gradient_dtype: type in which gradients are sent: "bfloat16", or None for their own.
        shard: while `train` runs, shard weights across the processes of `world`.

    Raises:
        UsageError: the optimization level does not support sharding, or the gradient type is unsupported.
    """

    def __init__(
        self,
        local_rank: int | None = None,
        global_rank: int = 0,
        tb_writer: Any = None,
        optimization_level: Optimization | str = Optimization.mxprO0,
        device: torch.device | str | None = None,
        seed: int = 0,
        world: World | None = None,
        gradient_dtype: str | None = None,
        shard: bool = False,
    ):
        super().__init__()
        self.world = world or World()
        self.local_rank = local_rank
        self.global_rank = global_rank
        self.tb_writer = tb_writer
        self.level = Optimization.parse(optimization_level)
        self.device = torch.device(device or device_for(None))
        if shard:
            refuse_sharding_at(self.level, self.device)
        if self.device.type == "cpu":
            keep_freed_memory()
        self.seed = seed
        self.optimizers: list[Optimizer] = []  # all optimizers, whether created here or passed in
        self.replicas = Replicas(self.world, self.device, shard, gradient_dtype)
        self._inference = Inference(self.device, self.level, self.replicas)
        self._training: Training | None = None

    @property
    def training(self) -> Training:
        """The present or latest training. Raises a UsageError if there was none."""
        if self._training is None:
            raise UsageError("nothing has been trained", fix="call train first")
        return self._training

    @property
    def graph(self) -> GraphModule:
        """The graph that `train` computes."""
        return self.training.graph

    @property
    def plan(self) -> TrainingPlan:
        """Length of the training and its learning rates; may be replaced after any step."""
        return self.training.plan

    @plan.setter
    def plan(self, plan: TrainingPlan) -> None:
        self.training.plan = plan

    @property
    def items(self) -> str:
        """The unit of `items_seen`: "tokens" or "samples"."""
        return self.graph.source.items

    @property
    def is_sharded(self) -> bool:
        """Whether the weights are sharded; if so, all processes must call `evaluate` and `save`."""
        return self.replicas.is_sharded

    def create_optimizer(
        self, optimizer: str | Optimizer, things_to_optimize: Any, optimizer_params: Mapping[str, Any]
    ) -> Optimizer:
        """As `NeuralModuleFactory.create_optimizer` specifies; a ready optimizer is returned unchanged."""
        made = optimizer_for(optimizer, things_to_optimize, optimizer_params)
        self.optimizers.append(made)
        return made

    def train(
        self,
        tensors_to_optimize: NmTensor | Sequence[NmTensor] | Sequence[tuple[Optimizer, Sequence[NmTensor]]],
        optimizer: str | Optimizer | None = None,
        optimization_params: Mapping[str, Any] | None = None,
        callbacks: Iterable[Hooks] | None = None,
        lr_policy: LrPolicy | None = None,
        batches_per_step: int | None = None,
        when_not_finite: str = "stop",
        amp_max_loss_scale: float = 2.0**24,
    ) -> None:
        """Minimize the losses; `NeuralModuleFactory.train` has the arguments and errors."""
        if self._training is not None and not self._training.may_retry:
            raise UsageError("this factory has trained already", fix="pass reset=True to start over")
        params = optimization_params or {}
        plan = TrainingPlan.from_params(
            params,
            batches_per_step=batches_per_step or 1,
            lr_policy=lr_policy,
            when_not_finite=when_not_finite,
            max_loss_scale=amp_max_loss_scale,
        )
        training = Training(
            plan,
            tasks_of(tensors_to_optimize, optimizer),
            params,
            list(callbacks or ()),
            progress=self,
            level=self.level,
            device=self.device,
            seed=self.seed,
            replicas=self.replicas,
        )
        self._training = training
        optimizers = [objective.optimizer for objective in training.objectives]
        self.optimizers.extend(made for made in optimizers if made not in self.optimizers)
        training.run(self)

    def value_of(self, tensor: NmTensor) -> Any:
        """The value of `tensor` in the latest step; see `Actions.value_of`."""
        return self.training.values.of(tensor)

    def evaluate(self, tensors: Sequence[NmTensor]) -> Iterator[EvaluatedBatch]:
        """The values of `tensors` for each batch of one pass over their data, with dropout off."""
        return self._inference.evaluate(tensors)

    def infer(self, tensors: NmTensors, **options: Unpack[InferenceOptions]) -> list[list[Any]]:
        """Compute `tensors` over their data, see `NeuralModuleFactory.infer`. UsageError: unknown option."""
        return self._inference.infer(tensors, **checked(options))

    def clear_cache(self) -> None:
        """Forget what `infer` cached."""
        self._inference.clear_cache()

    def save(
        self,
        folder: str | Path,
        keep: int = 4,
        extra_files: Mapping[str, Any] | None = None,
        extra_state: Mapping[str, Any] | None = None,
        wait: bool = True,
        spared: int | None = None,
    ) -> None:
        """Write a checkpoint, see `Actions.save`. Raises a UsageError if a sharded training is over."""
        self.training.state.save(Path(folder), keep, extra_files or {}, extra_state or {}, wait, spared)

    def is_saved(self, wait: bool = True) -> bool:
        """Whether no checkpoint is being written; see `Actions.is_saved`."""
        return self.training.state.is_saved(wait)

    def restore(
        self,
        folder: str | Path,
        identity: Mapping[str, Any] | None = None,
        stream: Mapping[str, Any] | None = None,
    ) -> bool:
        """Resume from the newest intact checkpoint; see `Actions.restore`."""
        return self.training.state.restore(Path(folder), identity or {}, stream or {})

    def save_state_to(self, path: str | Path) -> None:
        """Write counters and optimizers. Raises a StorageError, or a UsageError for sharded weights."""
        self.replicas.refuse_if_sharding("save_state_to")
        save_optimizers(path, self.optimizers, {"step": self.step, "epoch_num": self.epoch_num})

    def restore_state_from(self, path: str | Path) -> None:
        """Read what `save_state_to` wrote. Raises a MissingFileError, CheckpointError or UsageError."""
        self.replicas.refuse_if_sharding("restore_state_from")
        numbers = load_optimizers(path, self.optimizers)
        self.step, self.epoch_num = numbers["step"], numbers["epoch_num"]

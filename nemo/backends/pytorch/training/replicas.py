"""The copies of one model in several processes: placed, kept equal, or sharded across them."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from nemo.backends.pytorch.checkpoints.module_state import parameters_by_name
from nemo.backends.pytorch.distributed.gradient_sum import GradientSum
from nemo.backends.pytorch.distributed.world import Tensors, World
from nemo.backends.pytorch.graph.graph_module import GraphModule
from nemo.backends.pytorch.ops.hardware import has_bf16_units
from nemo.backends.pytorch.training.objectives import Objective
from nemo.core.settings import Optimization
from nemo.utils.errors import UsageError

if TYPE_CHECKING:  # its import takes a second
    from nemo.backends.pytorch.distributed.sharded_weights import ShardedWeights

T = TypeVar("T")

_GRADIENT_DTYPES = {None: None, "bfloat16": torch.bfloat16}


class Replicas:
    """The communication of a training with other processes; does nothing with a single process.

    Args:
        world: the processes that train together.
        device: device of this process.
        shard: shard weights, gradients and optimizer state across the processes.
        gradient_dtype: type in which gradients are sent: "bfloat16", or None for their own.

    Attributes:
        is_sharded: whether weights are sharded now; if so, all processes must take part in their use.

    Raises:
        UsageError: an unknown gradient_dtype.
    """

    def __init__(self, world: World, device: torch.device, shard: bool, gradient_dtype: str | None):
        if gradient_dtype not in _GRADIENT_DTYPES:
            raise UsageError(
                "unsupported gradient type",
                where="gradient_dtype",
                found=repr(gradient_dtype),
                expected="'bfloat16' or None",
            )
        self.world, self._device = world, device
        self._shard = shard and world.size > 1
        self._gradient_dtype = _GRADIENT_DTYPES[gradient_dtype]
        self._sharded: ShardedWeights | None = None
        self._sharded_modules: list[nn.Module] = []
        self._sums: dict[Optimizer, GradientSum | ShardedWeights] = {}

    @property
    def is_sharded(self) -> bool:
        return self._sharded is not None

    def distribute(self, graph: GraphModule) -> None:
        """Put the weights of rank 0, or this process's shard of them, on the device.

        Raises:
            DistributedError: another process has a different model.
            UsageError: these weights cannot be sharded.
        """
        if not self._shard:
            graph.to(self._device)
        if self.world.size > 1:
            shapes = {name: list(p.shape) for name, p in parameters_by_name(graph.neural_modules).items()}
            self.world.check_same(weights=shapes)
            self.world.broadcast([*graph.parameters(), *graph.buffers()])
        if self._shard:
            from nemo.backends.pytorch.distributed.sharded_weights import ShardedWeights

            self._sharded = ShardedWeights(
                graph.neural_modules, self._device, self.world, self._gradient_dtype
            )
            self._sharded_modules = list(graph.neural_modules.values())

    def move(self, graph: GraphModule) -> None:
        """Move unsharded weights to the device; shards are already there."""
        for module in graph.neural_modules.values():
            if module not in self._sharded_modules:
                module.to(self._device)

    def adopt(self, objectives: list[Objective]) -> list[Objective]:
        """The objectives with this process's parameters, whose gradients `sync` sums from now on.

        Raises:
            UsageError: an optimizer cannot update sharded weights.
        """
        if self._sharded is not None:
            objectives = [
                replace(objective, parameters=self._sharded.adopt(objective.optimizer, objective.parameters))
                for objective in objectives
            ]
        if self.world.size > 1:
            self._sums = {
                objective.optimizer: self._sharded
                or GradientSum(self.world, objective.parameters.values(), self._gradient_dtype)
                for objective in objectives
            }
        return objectives

    def sync(self, optimizer: Optimizer) -> "AbstractContextManager[GradientSum | ShardedWeights | None]":
        """A context for the backward passes of a step, on whose exit gradients are sums over all processes.

        It yields an object whose `enable_sync()` must be called before the last pass; None with one process.
        """
        return self._sums.get(optimizer) or nullcontext()

    def sum_squares(self) -> Callable[[Tensor], Tensor] | None:
        """Extends a sum of squares over this process's shard to all weights; None if there are no shards."""
        return None if self._sharded is None else self._sharded.add_up

    def run(self, compute: Callable[[], T]) -> T:
        """Return `compute()`, run with whole weights."""
        return compute() if self._sharded is None else self._sharded.run(compute)

    def filled_up(
        self, batches: Sequence[Sequence[Any]], num_batches: int, graph: GraphModule, epoch: int
    ) -> Sequence[Sequence[Any]]:
        """The micro-batches of this process; with sharded weights, as many as rank 0 has.

        All processes must then take part in every pass, so one without a batch repeats another batch.
        """
        num_missing = -(-num_batches // self.world.size) - len(batches)
        if not self.is_sharded or num_missing == 0:
            return batches
        with closing(graph.source.batches(epoch)) as others:
            return [*batches, *[next(others)] * num_missing]

    def gathered(self, tensors: Tensors) -> Tensors:
        """Whole tensors from this process's; with sharded weights, in rank 0 only."""
        return tensors if self._sharded is None else self._sharded.whole(tensors)

    def scattered(self, tensors: Tensors) -> Tensors:
        """This process's rows of whole tensors."""
        return tensors if self._sharded is None else self._sharded.rows(tensors)

    def release(self) -> None:
        """Make sharded weights whole again; the optimizer's state is lost."""
        if self._sharded is not None:
            self._sharded.put_together()
            self._sharded, self._sharded_modules = None, []

    def refuse_if_sharding(self, what: str) -> None:
        """Refuse operations on whole weights and optimizers that are sharded during training.

        Raises:
            UsageError: training is sharded.
        """
        if self._shard:
            raise UsageError(
                "weights and optimizers are sharded across processes",
                where=what,
                fix="save with CheckpointCallback, while training",
            )


def refuse_sharding_at(level: Optimization, device: torch.device) -> None:
    """Refuse to shard weights at an optimization level that does not support it.

    Raises:
        UsageError: the level does not support sharding.
    """
    needs_scaler = level is Optimization.mxprO1 and device.type == "cuda" and not has_bf16_units(device)
    if level not in (Optimization.mxprO0, Optimization.mxprO1) or needs_scaler:
        raise UsageError(
            "sharded weights cannot be trained at this level",
            where="optimization_level",
            found=f"{level.name}{' on a GPU without bf16' if needs_scaler else ''}",
            expected="O0, or O1 with bf16",
            fix="use O0" if needs_scaler else "use O1, or train without shard",
        )

"""One step: its micro-batches with their divisors, and the values it computes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nemo.backends.pytorch.distributed.world import World
from nemo.backends.pytorch.graph.graph_module import GraphModule
from nemo.backends.pytorch.training.objectives import Objective
from nemo.core.actions import Hooks
from nemo.core.graph import NmTensor
from nemo.core.neural_types import LossType
from nemo.utils.errors import UsageError


@dataclass(frozen=True)
class StepInputs:
    """The inputs of a step in this process.

    Attributes:
        objective: the losses and the optimizer of this step.
        graph: computes the losses and the tensors that callbacks read after the step.
        batches: the micro-batches of this process.
        divisors: divisors of the losses, [losses]: the number of items in all micro-batches of all processes.
        num_batches, num_items: totals over all processes.
    """

    objective: Objective
    graph: GraphModule
    batches: Sequence[Sequence[Any]]
    divisors: Tensor
    num_batches: int
    num_items: int


class StepGraphs:
    """A cache of graphs, one for each set of tensors that a step computes."""

    def __init__(self) -> None:
        self._graphs: dict[tuple[NmTensor, ...], GraphModule] = {}

    def graph_for(self, objective: Objective, callbacks: Sequence[Hooks], step: int) -> GraphModule:
        """The graph for step number `step`: the losses, and the tensors that callbacks read after it."""
        graph = self.graph_of(objective.losses)
        read = [tensor for c in callbacks if c.reads_at(step) for tensor in c.tensors]
        more = tuple(tensor for tensor in dict.fromkeys(read) if tensor not in graph.given)
        return self.graph_of((*objective.losses, *more)) if more else graph

    def graph_of(self, tensors: tuple[NmTensor, ...]) -> GraphModule:
        """The graph that computes these tensors."""
        if tensors not in self._graphs:
            self._graphs[tensors] = GraphModule(tensors)
        return self._graphs[tensors]


class StepValues:
    """The tensors of the latest step: losses over the whole step, others of its last micro-batch."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._values: dict[NmTensor, Any] = {}

    def clear(self) -> None:
        """Start a new step."""
        self._values = {}

    def add(self, values: Mapping[NmTensor, Any]) -> None:
        """Add the values of one more micro-batch."""
        for tensor, value in values.items():
            value = value.detach() if isinstance(value, Tensor) else value
            adds_up = _is_loss(tensor) and tensor in self._values
            self._values[tensor] = self._values[tensor] + value if adds_up else value

    def sum_losses(self, graph: GraphModule, world: World) -> None:
        """Sum the losses of a graph over all processes; other tensors stay those of this process.

        Args:
            graph: must be the same in all processes, whatever their callbacks read.
        """
        if world.size > 1:
            losses = [tensor for tensor in graph.given if _is_loss(tensor)]
            # At the end of an epoch, a process may have no micro-batch.
            own = [self._values.get(loss, torch.zeros((), device=self._device)).float() for loss in losses]
            self._values.update(zip(losses, world.all_reduce(torch.stack(own), "losses"), strict=True))

    def of(self, tensor: NmTensor) -> Any:
        """The value of `tensor`.

        Raises:
            UsageError: the latest step did not compute it.
        """
        if tensor not in self._values:
            raise UsageError(
                "not computed in this step",
                where=f"{tensor.producer}.{tensor.name}",
                fix="add it to the callback's `tensors`, and return True from `reads_at`",
            )
        return self._values[tensor]


def _is_loss(tensor: NmTensor) -> bool:
    return isinstance(tensor.elements_type, LossType)

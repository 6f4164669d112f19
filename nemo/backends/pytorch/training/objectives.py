"""The arguments of `train`, checked and paired: losses, each with its optimizer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.optim import Optimizer

from nemo.backends.pytorch.checkpoints.module_state import parameters_by_name
from nemo.backends.pytorch.graph.graph_module import modules_by_name
from nemo.backends.pytorch.optim.optimizers import make_optimizer, parameters_of
from nemo.core.graph import NmTensor, calls_leading_to
from nemo.core.plan import optimizer_params
from nemo.utils.errors import UsageError

Task = tuple[str | Optimizer, Sequence[NmTensor]]


@dataclass(frozen=True)
class Objective:
    """Losses, and the optimizer that minimizes their sum by updating `parameters`."""

    losses: tuple[NmTensor, ...]
    optimizer: Optimizer
    parameters: Mapping[str, nn.Parameter]


def tasks_of(tensors_to_optimize: Any, optimizer: str | Optimizer | None) -> list[Task]:
    """Pairs of an optimizer, or its name, and its losses.

    Args:
        tensors_to_optimize: one loss, several, or pairs (optimizer, losses).
        optimizer: optimizer of the losses; pairs have their own.

    Raises:
        UsageError: anything else.
    """
    given: list[Any] = [tensors_to_optimize]
    if not isinstance(tensors_to_optimize, NmTensor):
        given = list(tensors_to_optimize or ())
    if given and all(isinstance(item, NmTensor) for item in given):
        if not isinstance(optimizer, str | Optimizer):
            raise UsageError(
                "train needs an optimizer",
                found=repr(optimizer),
                expected="a name such as 'adam_w', or a torch optimizer",
            )
        return [(optimizer, given)]
    if given and all(_is_pair(item) for item in given):
        return given
    raise UsageError(
        "not losses",
        where="tensors_to_optimize",
        found=", ".join(type(item).__name__ for item in given) or "nothing",
        expected="losses, or pairs (optimizer from create_optimizer, list of losses)",
    )


def make_objectives(
    tasks: Sequence[Task], parameters: Mapping[str, nn.Parameter], optimization_params: Mapping[str, Any]
) -> list[Objective]:
    """The objectives of a graph with these parameters; creates optimizers that are given by name.

    Raises:
        UsageError: an optimizer cannot be created, or has parameters that are not in the graph.
    """
    objectives = []
    for optimizer, losses in tasks:
        if isinstance(optimizer, str):
            optimizer = make_optimizer(optimizer, parameters, **optimizer_params(optimization_params))
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        objectives.append(Objective(tuple(losses), optimizer, parameters_of(optimizer, parameters)))
    return objectives


def optimizer_for(
    optimizer: str | Optimizer, things_to_optimize: Any, optimization_params: Mapping[str, Any]
) -> Optimizer:
    """An optimizer for the weights of modules; a ready one is returned unchanged.

    Args:
        optimizer: a name from `optimizers`.
        things_to_optimize: one module or several; or tensors, which mean all modules that compute them.
        optimization_params: `lr` and others; see `nemo.core.plan`.

    Raises:
        UsageError: there are no weights, or the optimizer cannot be created.
    """
    if isinstance(optimizer, Optimizer):
        return optimizer
    things = things_to_optimize if isinstance(things_to_optimize, Sequence) else [things_to_optimize]
    modules = [thing for thing in things if not isinstance(thing, NmTensor)]
    modules += [call.module for call in calls_leading_to(t for t in things if isinstance(t, NmTensor))]
    trained = nn.ModuleDict(modules_by_name(module for module in modules if isinstance(module, nn.Module)))
    return make_optimizer(optimizer, parameters_by_name(trained), **optimizer_params(optimization_params))


def _is_pair(item: Any) -> bool:
    return (
        isinstance(item, tuple)
        and len(item) == 2
        and isinstance(item[0], Optimizer)
        and isinstance(item[1], Sequence)
        and all(isinstance(loss, NmTensor) for loss in item[1])
    )

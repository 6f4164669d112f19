"""The weights of a graph's modules by name, as saved in and loaded from checkpoints."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nemo.backends.pytorch.checkpoints import checkpoint
from nemo.backends.pytorch.checkpoints.fit import check_fit
from nemo.utils.errors import CheckpointError

Modules = Mapping[str, nn.Module] | nn.ModuleDict


def parameters_by_name(modules: nn.Module) -> dict[str, nn.Parameter]:
    """Every parameter once, as `<module>.<name>`; frozen ones included."""
    return dict(modules.named_parameters())


def weights_by_module(modules: Modules) -> dict[str, dict[str, Tensor]]:
    """State dict of every module with weights; a tied weight belongs to the first module that has it."""
    seen: dict[int, Tensor] = {}
    weights: dict[str, dict[str, Tensor]] = {}
    for unique, module in modules.items():
        own = {n: t for n, t in module.state_dict(keep_vars=True).items() if id(t) not in seen}
        seen |= {id(tensor): tensor for tensor in own.values()}
        if own:
            weights[unique] = {name: tensor.detach() for name, tensor in own.items()}
    return weights


def load_weights_by_module(
    modules: Modules, tensors: Mapping[str, Mapping[str, Tensor]], source: Path
) -> None:
    """Copy a checkpoint's weights into the modules, all or none.

    Raises:
        CheckpointError: modules, names, shapes or types differ.
    """
    saved = _flat(tensors)
    own = _flat(weights_by_module(modules))
    check_fit(f"the model in {source}", own, saved)
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(saved[name])


def restore_weights(
    modules: nn.ModuleDict,
    folder: str | Path,
    pattern: str = "",
    only: Collection[Any] | None = None,
) -> None:
    """Copy the weights of the newest intact checkpoint in `folder` into `modules`.

    Other modules of the checkpoint are ignored.

    Args:
        pattern: consider only checkpoints with this text in their name, such as "STEP-500".
        only: restore only these modules; None means all.

    Raises:
        CheckpointError: there is no checkpoint, it is damaged, or its weights do not match.
    """
    newest = checkpoint.find(Path(folder), pattern)
    if newest is None:
        raise CheckpointError(
            "no checkpoint", where=folder, expected=f"a folder with {pattern or 'STEP-<n>'} folders"
        )
    tensors, _ = checkpoint.load(newest)
    chosen = {name: module for name, module in modules.items() if only is None or module in only}
    wanted = weights_by_module(chosen)
    load_weights_by_module(chosen, {name: t for name, t in tensors.items() if name in wanted}, newest)


def _flat(weights: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {f"{module}.{name}": tensor for module, named in weights.items() for name, tensor in named.items()}


def load_weights(module: nn.Module, tensors: Mapping[str, Tensor], source: Any) -> None:
    """Copy `tensors` into `module`, all of them or none.

    Raises:
        CheckpointError: names are missing or unexpected, or a shape differs; names the first.
    """
    own = module.state_dict()
    missing = [name for name in own if name not in tensors]
    unexpected = [name for name in tensors if name not in own]
    if missing or unexpected:
        raise CheckpointError(
            f"not the weights of {module}",
            where=source,
            found=f"{len(missing)} missing {missing[:1]}, {len(unexpected)} unexpected {unexpected[:1]}",
            expected=f"the {len(own)} names of this module",
        )
    for name, tensor in own.items():
        if tensor.shape != tensors[name].shape:
            raise CheckpointError(
                f"{name} has a different shape",
                where=source,
                found=tuple(tensors[name].shape),
                expected=tuple(tensor.shape),
                fix="build the model with the sizes it was trained with",
            )
    module.load_state_dict(dict(tensors))

"""The weights of a graph's parts, by name: what a checkpoint holds of a model, and the way back."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nemo.backends.pytorch.checkpoints import checkpoint
from nemo.backends.pytorch.checkpoints.fit import check_fit
from nemo.utils.errors import CheckpointError

Parts = Mapping[str, nn.Module] | nn.ModuleDict


def parameters_by_name(parts: nn.Module) -> dict[str, nn.Parameter]:
    """Every parameter once, as `<part>.<name>`; those that are frozen now, too."""
    return dict(parts.named_parameters())


def weights_by_part(parts: Parts) -> dict[str, dict[str, Tensor]]:
    """State dict of every part that has weights; a tied weight only with the first part that holds it."""
    seen: dict[int, Tensor] = {}
    weights: dict[str, dict[str, Tensor]] = {}
    for part, module in parts.items():
        own = {n: t for n, t in module.state_dict(keep_vars=True).items() if id(t) not in seen}
        seen |= {id(tensor): tensor for tensor in own.values()}
        if own:
            weights[part] = {name: tensor.detach() for name, tensor in own.items()}
    return weights


def load_weights_by_part(parts: Parts, tensors: Mapping[str, Mapping[str, Tensor]], source: Path) -> None:
    """Copy a checkpoint's weights into the parts: all or none.

    Raises:
        CheckpointError: the checkpoint has other modules, names, shapes or types.
    """
    saved = _flat(tensors)
    own = _flat(weights_by_part(parts))
    check_fit(f"the model in {source}", own, saved)
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(saved[name])


def restore_weights(
    parts: nn.ModuleDict,
    folder: str | Path,
    pattern: str = "",
    modules: Collection[Any] | None = None,
) -> None:
    """Copy the weights of the newest good checkpoint in `folder` into `parts`.

    Parts of the checkpoint that are not among them are left out.

    Args:
        pattern: only checkpoints with this in their name; "STEP-500", for example.
        modules: only these modules; None means all.

    Raises:
        CheckpointError: there is none, it is damaged, or its weights do not fit.
    """
    newest = checkpoint.find(Path(folder), pattern)
    if newest is None:
        raise CheckpointError(
            "no checkpoint", where=folder, expected=f"a folder with {pattern or 'STEP-<n>'} folders"
        )
    tensors, _ = checkpoint.load(newest)
    chosen = {name: part for name, part in parts.items() if modules is None or part in modules}
    wanted = weights_by_part(chosen)
    load_weights_by_part(chosen, {p: t for p, t in tensors.items() if p in wanted}, newest)


def _flat(parts: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {f"{part}.{name}": tensor for part, named in parts.items() for name, tensor in named.items()}


def load_weights(module: nn.Module, tensors: Mapping[str, Tensor], source: Any) -> None:
    """Copy `tensors` into `module`, all of them or none.

    Raises:
        CheckpointError: a name is missing or unexpected, or a shape differs; names the first of each.
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
                f"{name} has another shape",
                where=source,
                found=tuple(tensors[name].shape),
                expected=tuple(tensor.shape),
                fix="build the model with the sizes it was trained with",
            )
    module.load_state_dict(dict(tensors))

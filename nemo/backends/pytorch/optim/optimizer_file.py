"""Optimizer states in one safetensors file: numbers in the header, tensors in the body, no pickle."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.optim import Optimizer

from nemo.utils.errors import CheckpointError, MissingFileError
from nemo.utils.files import replacing


def save_optimizers(path: str | Path, optimizers: Sequence[Optimizer], numbers: dict[str, Any]) -> None:
    """Write the states of `optimizers` and `numbers`.

    The tensors of `state_dict()` are named `<optimizer>.<parameter>.<key>`; optimizers and parameters are
    numbered from 0.
    """
    states = [optimizer.state_dict() for optimizer in optimizers]
    tensors = {
        f"{i}.{parameter}.{key}": value.contiguous()
        for i, state in enumerate(states)
        for parameter, memory in state["state"].items()
        for key, value in memory.items()
        if isinstance(value, Tensor)
    }
    groups = [state["param_groups"] for state in states]
    metadata = {"numbers": json.dumps(numbers), "groups": json.dumps(groups)}
    with replacing(Path(path)) as aside:
        save_file(tensors, aside, metadata=metadata)


def load_optimizers(path: str | Path, optimizers: Sequence[Optimizer]) -> dict[str, Any]:
    """Restore `optimizers` from a file written by `save_optimizers`; return its numbers.

    Raises:
        MissingFileError: there is no such file.
        CheckpointError: the file has a different format, or does not match these optimizers.
    """
    if not Path(path).is_file():
        raise MissingFileError("no such file", where=path)
    states: list[dict[int, dict[str, Tensor]]] = [{} for _ in optimizers]
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata()
            numbers, groups = json.loads(header["numbers"]), json.loads(header["groups"])
            if len(groups) != len(optimizers):
                raise CheckpointError(
                    "saved by a different number of optimizers",
                    where=path,
                    found=len(groups),
                    expected=len(optimizers),
                )
            for name in file.keys():  # noqa: SIM118 - not a dict
                i, parameter, key = name.split(".", 2)
                states[int(i)].setdefault(int(parameter), {})[key] = file.get_tensor(name)
        for optimizer, state, saved_groups in zip(optimizers, states, groups, strict=True):
            optimizer.load_state_dict({"state": state, "param_groups": saved_groups})
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError("not the state of these optimizers", where=path, found=error) from error
    return numbers

"""Weights that others wrote: the `.pt` files of NeMo 0.10."""

import os

import torch
from torch import Tensor

from nemo.utils.errors import CheckpointError


def load_torch_file(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The state dict in a file of `torch.save`, on the CPU.

    Only tensors and plain containers are unpickled, so nothing in the file is executed.

    Raises:
        CheckpointError: missing, damaged, or with anything but tensors by name in it.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle may fail in any way
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"cannot be read as weights: {reason}", where=path) from error
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()
    ):
        raise CheckpointError(
            "not the weights of a module",
            where=path,
            expected="tensors by name, as `save_to` writes",
        )
    return dict(content)

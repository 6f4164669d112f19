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
    except OSError as error:
        raise CheckpointError(f"cannot be read: {error.strerror}", where=path) from error
    except Exception as error:  # a damaged pickle may fail in any way
        # torch's own text advises to load unsafely, which is never the answer.
        raise CheckpointError(
            "cannot be read as weights",
            where=path,
            found=f"{type(error).__name__} while reading",
            expected="a file of tensors, with nothing else pickled in it",
        ) from error
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()
    ):
        raise CheckpointError(
            "not the weights of a module",
            where=path,
            expected="tensors by name, as `save_to` writes",
        )
    return dict(content)

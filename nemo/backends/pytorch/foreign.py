"""Weights in one file: safetensors, or the `.pt` and `.bin` files that `torch.save` wrote for others."""

import os
import warnings
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from nemo.backends.pytorch.checkpoint import check_finite
from nemo.utils.errors import CheckpointError, MissingFileError


def read_weights(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The tensors of a file by name, on the CPU.

    Only tensors and plain containers are unpickled, so nothing in the file is executed.

    Raises:
        MissingFileError: there is no such file.
        CheckpointError: it is damaged, or has anything but tensors by name in it, or numbers that are not
            finite.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError("no such file", where=path)
    try:
        is_safetensors = _begins_as_safetensors(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of another pickle protocol, just before it is refused
            content = load_file(path) if is_safetensors else torch.load(path, "cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"cannot be read: {error.strerror}", where=path) from error
    except SafetensorError as error:
        raise CheckpointError(f"cannot be read as weights: {error}", where=path) from error
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
    check_finite(content, path)
    return dict(content)


def _begins_as_safetensors(path: Path) -> bool:
    """Does the file begin with 8 bytes of length, then a JSON object?"""
    with path.open("rb") as file:
        return file.read(9)[8:9] == b"{"

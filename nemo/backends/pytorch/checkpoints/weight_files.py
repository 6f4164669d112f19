"""Weight files: safetensors, and `.pt` and `.bin` files written by `torch.save`."""

import os
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from nemo.backends.pytorch.checkpoints.fit import check_finite
from nemo.utils.errors import CheckpointError, MissingFileError
from nemo.utils.files import stand_in

WEIGHT_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
"""Suffixes of weight files."""
_WRAPPED_IN = ("model", "state_dict", "model_state_dict", "module")
"""Names under which training scripts save a module beside its optimizer; the last is DeepSpeed's."""


def read_weights(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read the tensors of a file by name, on the CPU.

    The weights may be nested in a dictionary beside an optimizer's state; see `_WRAPPED_IN`. Only tensors and
    plain containers are unpickled, so nothing in the file is executed.

    Raises:
        MissingFileError: there is no such file.
        CheckpointError: the file is damaged, holds anything but tensors by name, or has numbers that are not
            finite.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError("no such file", where=path)
    refuse_stand_in(path)
    try:
        is_safetensors = _begins_as_safetensors(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of other pickle protocols before it refuses them
            content = load_file(path) if is_safetensors else torch.load(path, "cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"cannot be read: {error.strerror}", where=path) from error
    except SafetensorError as error:
        raise CheckpointError(f"cannot be read as weights: damaged, {error}", where=path) from error
    except Exception as error:  # a damaged pickle may fail in any way
        # Do not quote torch, which advises to load the file unsafely.
        raise CheckpointError(
            "cannot be read as weights: damaged, or more than weights",
            where=path,
            found=f"{type(error).__name__} while reading",
            expected="a file that contains only tensors",
        ) from error
    content = _unwrapped(content)
    if not _are_tensors_by_name(content):
        raise CheckpointError(
            "not the weights of a module",
            where=path,
            found=_outline(content),
            expected="tensors by name, as `save_to` writes them, or nested under one of "
            + ", ".join(_WRAPPED_IN),
        )
    check_finite(content, path)
    return dict(content)


def refuse_stand_in(path: Path) -> None:
    """Raise a CheckpointError for a Git LFS pointer or a web page in place of weights."""
    with suppress(OSError):
        if found := stand_in(path):
            what, fix = found
            raise CheckpointError(what, where=path, expected="weights", fix=fix)


def _are_tensors_by_name(content: Any) -> bool:
    return isinstance(content, Mapping) and all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()
    )


def _unwrapped(content: Any) -> Any:
    """Unwrap nested dictionaries under known names, down to the module's weights."""
    while isinstance(content, Mapping) and not _are_tensors_by_name(content):
        inner = next((content[name] for name in _WRAPPED_IN if isinstance(content.get(name), Mapping)), None)
        if inner is None:
            break
        content = inner
    return content


def _outline(content: Any) -> str:
    if not isinstance(content, Mapping):
        return type(content).__name__
    return ", ".join(f"{name} ({type(value).__name__})" for name, value in list(content.items())[:5])


def _begins_as_safetensors(path: Path) -> bool:
    """Whether the file begins with an 8-byte length and a JSON object."""
    with path.open("rb") as file:
        return file.read(9)[8:9] == b"{"

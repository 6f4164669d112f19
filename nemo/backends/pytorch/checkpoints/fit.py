"""Checks that a checkpoint matches the run, the model or the optimizer that loads it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from nemo.utils.errors import CheckpointError


def refuse_other_run(
    saved: Mapping[str, Any], identity: Mapping[str, Any], source: Path, *, is_loaded: bool = False
) -> None:
    """Check that a checkpoint's run is the same as this one.

    Args:
        is_loaded: the checkpoint is in another run's folder, as with `--load_dir`; for the error.

    Raises:
        CheckpointError: it is not; the message names the first difference.
    """
    fix = "use the same options, or another --work_dir"
    if is_loaded:
        fix = "use the same options, or --bert_checkpoint in place of --load_dir for the weights alone"
    for name, value in identity.items():
        if name in saved and saved[name] != value:
            raise CheckpointError(
                f"the checkpoint comes from a run with a different {name}",
                where=source,
                found=saved[name],
                expected=value,
                fix=fix,
            )


def check_fit(what: str, expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Check that `found` has the names, shapes and dtypes of `expected`, no more and no fewer.

    Raises:
        CheckpointError: it does not; the message names the first mismatch and counts each kind.
    """
    missing = [name for name in expected if name not in found]
    unexpected = [name for name in found if name not in expected]
    different = [
        name
        for name, tensor in found.items()
        if name in expected and _describe(tensor) != _describe(expected[name])
    ]
    misfits = missing + unexpected + different
    if misfits:
        raise CheckpointError(
            f"{what} does not match: {len(missing)} missing, {len(unexpected)} unexpected, "
            f"{len(different)} with a different shape or type",
            where=misfits[0],
            found=_describe(found.get(misfits[0])),
            expected=_describe(expected.get(misfits[0])),
        )


def check_finite(tensors: Mapping[str, Tensor], source: Any) -> None:
    """Raise a CheckpointError that names the first tensor with a number that is not finite."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            count = int((~tensor.isfinite()).sum())
            raise CheckpointError(
                "weights are not finite",
                where=f"{source} {name}",
                found=f"{count:,} of {tensor.numel():,}",
                fix="use an earlier checkpoint, or other weights",
            )


def _describe(tensor: Tensor | None) -> str:
    return "nothing" if tensor is None else f"{tensor.dtype} {list(tensor.shape)}"

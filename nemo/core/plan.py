"""The settings of a training run, checked on creation."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from nemo.utils.errors import UsageError
from nemo.utils.lookup import closest

LrPolicy = Callable[[float, int, int], float]

# Keys of `optimization_params`: those of the optimizer, and those of the run.
OPTIMIZER_PARAMS = (
    "lr",
    "lr_embeddings",
    "lr_head",
    "betas",
    "eps",
    "weight_decay",
    "momentum",
    "luc",
    "luc_eta",
    "larc",
    "larc_eta",
    "decay_bias_and_norm",
)
RUN_PARAMS = ("num_epochs", "max_steps", "grad_norm_clip", "amp_min_loss_scale", "batch_size")

WHEN_NOT_FINITE = ("stop", "skip", "rewind")


def optimizer_params(optimization_params: Mapping[str, Any]) -> dict[str, Any]:
    """The optimizer's share of `optimization_params`: `lr`, and others that are not None.

    Raises:
        UsageError: an unknown key (the closest one is named), or an `lr` that is missing or invalid.
    """
    _check_keys(optimization_params)
    if "lr" not in optimization_params:
        raise UsageError("optimization_params has no lr", expected="a number above 0")
    lr = optimization_params["lr"]
    if not (math.isfinite(lr) and lr > 0):
        raise UsageError("out of range", where="lr", found=lr, expected="a number above 0")
    return {
        key: optimization_params[key] for key in OPTIMIZER_PARAMS if optimization_params.get(key) is not None
    }


@dataclass(frozen=True)
class TrainingPlan:
    """How long to train, with which steps, and what to do when numbers are not finite.

    Args:
        num_epochs, max_steps: training ends at whichever comes first; at least one is required.
        batches_per_step: number of micro-batches per step (gradient accumulation).
        lr_policy: `(lr, step, epoch) -> lr`; None keeps the optimizer's own rate.
        grad_norm_clip: maximum norm of the whole gradient; None or a value <= 0 turns clipping off.
        when_not_finite: what to do when a loss or gradient is not finite. Its step is never taken. "stop"
            raises; "skip" continues with the next batches; "rewind" continues with them from the weights of
            the newest checkpoint, as training may have diverged earlier.
        max_loss_scale, min_loss_scale: bounds of the loss scale (fp16 only).

    Raises:
        UsageError: a number is out of range, or training has no end.
    """

    num_epochs: int | None = None
    max_steps: int | None = None
    batches_per_step: int = 1
    lr_policy: LrPolicy | None = None
    grad_norm_clip: float | None = None
    when_not_finite: str = "stop"
    max_loss_scale: float = 2.0**24
    min_loss_scale: float | None = None

    def __post_init__(self) -> None:
        if self.num_epochs is None and self.max_steps is None:
            raise UsageError("training has no end", expected="num_epochs or max_steps in optimization_params")
        for name in ("num_epochs", "max_steps", "batches_per_step"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError("out of range", where=name, found=value, expected="1 or more")
        if self.when_not_finite not in WHEN_NOT_FINITE:
            raise UsageError(
                "not one of the choices",
                where="when_not_finite",
                found=repr(self.when_not_finite),
                expected=", ".join(WHEN_NOT_FINITE),
            )

    @classmethod
    def from_params(cls, optimization_params: Mapping[str, Any], **settings: Any) -> "TrainingPlan":
        """The plan described by NeMo 0.10's `optimization_params`.

        `batch_size` is accepted because the tutorial passes it, and ignored: the data layer's counts.

        Raises:
            UsageError: an unknown key; the nearest one is named.
        """
        _check_keys(optimization_params)
        return cls(
            num_epochs=optimization_params.get("num_epochs"),
            max_steps=optimization_params.get("max_steps"),
            grad_norm_clip=optimization_params.get("grad_norm_clip"),
            min_loss_scale=optimization_params.get("amp_min_loss_scale"),
            **settings,
        )

    def is_done(self, step: int, epoch: int) -> bool:
        """Whether the run ends after `step` steps and `epoch` full epochs."""
        return (self.max_steps is not None and step >= self.max_steps) or (
            self.num_epochs is not None and epoch >= self.num_epochs
        )

    def lr_at(self, lr: float, step: int, epoch: int) -> float:
        """Learning rate of the next step after `step` finished ones; `lr` is the peak."""
        return lr if self.lr_policy is None else self.lr_policy(lr, step, epoch)


def _check_keys(optimization_params: Mapping[str, Any]) -> None:
    known = (*OPTIMIZER_PARAMS, *RUN_PARAMS)
    for key in optimization_params:
        if key not in known:
            near = closest(key, known)
            raise UsageError(
                "unknown key in optimization_params",
                found=repr(key),
                expected=f"one of {', '.join(known)}",
                fix=f"did you mean {near!r}?" if near else "",
            )

"""Every number of a training run, checked when it is made."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from nemo.utils.errors import UsageError
from nemo.utils.lookup import closest

LrPolicy = Callable[[float, int, int], float]

# Keys of `optimization_params` that make an optimizer, and those that are about the run.
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
    """What of `optimization_params` makes an optimizer: `lr`, and what else is not None.

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
    """How long to train, in how large steps, and what to do when numbers go wrong.

    Args:
        num_epochs, max_steps: the end is whichever comes first; at least one must be given.
        batches_per_step: batches whose gradients make one step.
        lr_policy: `(lr, step, epoch) -> lr`; None leaves the optimizer's rate alone.
        grad_norm_clip: largest norm of the whole gradient; None or a value <= 0 turns clipping off.
        when_not_finite: what follows a loss or gradient that is not finite, whose step is never made:
            "stop" raises; "skip" continues with the next batches; "rewind" does so from the weights of the
            newest checkpoint, as training may have gone wrong before.
        max_loss_scale, min_loss_scale: bounds of the loss scale, where there is one (fp16).

    Raises:
        UsageError: a number out of its range, or no end.
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
        """The plan that NeMo 0.10's `optimization_params` describe.

        `batch_size` is accepted, as the tutorial passes it; the data layer's is what counts.

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
        """Does the run end after this step and this many whole epochs?"""
        return (self.max_steps is not None and step >= self.max_steps) or (
            self.num_epochs is not None and epoch >= self.num_epochs
        )

    def lr_at(self, lr: float, step: int, epoch: int) -> float:
        """Learning rate of the step after this many finished ones; `lr` is the peak."""
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

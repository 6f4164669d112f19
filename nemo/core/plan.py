"""Every number of a training run, checked when it is made."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nemo.utils.errors import UsageError
from nemo.utils.lookup import closest

LrPolicy = Callable[[float, int, int], float]

# Keys of `optimization_params` that go to the optimizer as they are.
OPTIMIZER_OPTIONS = (
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


@dataclass(frozen=True)
class TrainingPlan:
    """How long to train, how fast, and with which optimizer.

    Args:
        optimizer: a name of `nemo.backends.pytorch.optimizers`.
        lr: learning rate before the policy has its say.
        num_epochs, max_steps: the end is whichever comes first; at least one must be given.
        batches_per_step: batches whose gradients make one update.
        lr_policy: `(lr, step, epoch) -> lr`; None keeps it constant.
        grad_norm_clip: largest norm of the whole gradient; None or a value <= 0 turns clipping off.
        seed: dropout of update `n` depends on it, `n` and the rank alone.
        optimizer_options: handed to the optimizer.

    Raises:
        UsageError: a number out of its range, or no end.
    """

    optimizer: str
    lr: float
    num_epochs: int | None = None
    max_steps: int | None = None
    batches_per_step: int = 1
    lr_policy: LrPolicy | None = None
    grad_norm_clip: float | None = None
    seed: int = 0
    optimizer_options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.num_epochs is None and self.max_steps is None:
            raise UsageError("training has no end", expected="num_epochs or max_steps in optimization_params")
        for name in ("num_epochs", "max_steps", "batches_per_step"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError("out of range", where=name, found=value, expected="1 or more")
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise UsageError("out of range", where="lr", found=self.lr, expected="a number above 0")

    @classmethod
    def from_params(
        cls, optimizer: str, optimization_params: Mapping[str, Any], **settings: Any
    ) -> "TrainingPlan":
        """The plan that NeMo 0.10's `optimization_params` describe.

        `batch_size` is accepted, as the tutorial passes it; the data layer's is what counts.

        Raises:
            UsageError: an unknown key (the nearest one is named), or no `lr`.
        """
        own = ("lr", "num_epochs", "max_steps", "grad_norm_clip")
        known = (*own, *OPTIMIZER_OPTIONS, "batch_size", "amp_min_loss_scale")
        for key in optimization_params:
            if key not in known:
                near = closest(key, known)
                raise UsageError(
                    "unknown key in optimization_params",
                    found=repr(key),
                    expected=f"one of {', '.join(known)}",
                    fix=f"did you mean {near!r}?" if near else "",
                )
        if "lr" not in optimization_params:
            raise UsageError("optimization_params has no lr", expected="a number above 0")
        return cls(
            optimizer=optimizer,
            **{key: optimization_params[key] for key in own if key in optimization_params},
            optimizer_options={
                key: optimization_params[key]
                for key in OPTIMIZER_OPTIONS
                if optimization_params.get(key) is not None
            },
            **settings,
        )

    def is_done(self, step: int, epoch: int) -> bool:
        """Have `step` updates and `epoch` whole epochs been enough?"""
        return (self.max_steps is not None and step >= self.max_steps) or (
            self.num_epochs is not None and epoch >= self.num_epochs
        )

    def lr_at(self, step: int, epoch: int) -> float:
        """Learning rate of the update that follows `step` finished ones."""
        return self.lr if self.lr_policy is None else self.lr_policy(self.lr, step, epoch)

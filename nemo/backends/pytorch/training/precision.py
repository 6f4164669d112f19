"""O0, O1 and O2: the precision of a training step."""

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor, nn

from nemo.backends.pytorch.ops.adamw import norm_of, rounded
from nemo.backends.pytorch.ops.hardware import has_bf16_units
from nemo.core.settings import Optimization
from nemo.utils.errors import UsageError
from nemo.utils.logging import LogMode, logging

GPU_BUCKETS = 8
CPU_BUCKETS = 64


class Precision:
    """The types a step computes in, loss scaling, and gradient clipping.

    O0 is all float32. O1 multiplies matrices in bf16 (fp16 with loss scaling on a GPU without bf16), from
    float32 weights. O2 holds bf16 matrices during a step; optimizers, checkpoints, evaluation and callbacks
    see their float32 masters. Biases, norms and statistics are float32 at every level.

    Args:
        level: O0, O1 or O2.
        device: device of the model.
        max_loss_scale, min_loss_scale: bounds of the dynamic loss scale (fp16 only).

    Raises:
        UsageError: O3, or O2 on a GPU without bf16.
    """

    def __init__(
        self,
        level: Optimization,
        device: torch.device,
        max_loss_scale: float = 2.0**24,
        min_loss_scale: float | None = None,
    ):
        bf16 = has_bf16_units(device)
        without_bf16 = level is Optimization.mxprO2 and device.type != "cpu" and not bf16
        if level is Optimization.mxprO3 or without_bf16:
            raise UsageError(
                "this level needs bf16 hardware" if without_bf16 else "unsupported level",
                where="optimization_level",
                found=level.name,
                expected="O0 or O1" if without_bf16 else "O0, O1 or O2",
                fix="use O1" if without_bf16 else "use O2: bf16 matrices with fp32 masters",
            )
        self.device = device
        self.enabled = level in (Optimization.mxprO1, Optimization.mxprO2)
        self.has_masters = level is Optimization.mxprO2
        self.dtype = torch.bfloat16 if bf16 or device.type == "cpu" else torch.float16
        use_scaler = self.enabled and self.dtype is torch.float16
        self.scaler = torch.amp.GradScaler(
            device.type, enabled=use_scaler, init_scale=min(2.0**16, max_loss_scale)
        )
        self.scale_bounds = (min_loss_scale or 1.0, max_loss_scale)
        self._level, self._has_bf16_units = level, bf16

    def suggest_level(self) -> None:
        """Log if another level would be faster on this device."""
        if self.enabled and not self._has_bf16_units and self.device.type == "cpu":
            logging.warning(
                "%s is slower than O0 here: this CPU has no bf16 matrix units",
                self._level.name.removeprefix("mxpr"),
                mode=LogMode.ONCE,
            )
        if not self.enabled and self._has_bf16_units:
            logging.info(
                "bf16 matrix products are at least twice as fast on this device: consider level O1, or O2 to "
                "pretrain",
                mode=LogMode.ONCE,
            )

    def autocast(self) -> AbstractContextManager:
        """The context for forward passes."""
        if not self.enabled:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, self.dtype)

    @property
    def buckets(self) -> int:
        """Number of sizes that batches are rounded up to, to limit compilation; 0 keeps exact sizes.

        For each size, `torch.compile` compiles a program on a GPU, and oneDNN compiles some 30 for the bf16
        units of a CPU, of which it keeps 1,024 in all. If every batch had a different size, compiling would
        take longer than running, and memory would grow. Rounding to 64 sizes adds 0.8% to 1.6% of a full
        batch on average. fp32 products on a CPU compile nothing, and are 1% faster with exact sizes.
        """
        if self.device.type == "cuda":
            return GPU_BUCKETS
        return CPU_BUCKETS if self.enabled and has_bf16_units(self.device) else 0

    @contextmanager
    def matrices(
        self, parameters: Iterable[nn.Parameter], keep_gradients: bool = False
    ) -> Iterator["LowPrecisionMatrices"]:
        """At O2, make the matrices among `parameters` bf16 inside the block.

        Args:
            keep_gradients: keep the gradient of a single micro-batch in bf16; otherwise, and for sums over
                several micro-batches, gradients are converted to float32.
        """
        chosen = [p for p in dict.fromkeys(parameters) if p.ndim > 1 and p.dtype == torch.float32]
        low = LowPrecisionMatrices(chosen if self.has_masters else [], keep_gradients)
        try:
            yield low
        finally:
            low.give_back()

    def gradient_norm(
        self,
        optimizer: torch.optim.Optimizer,
        parameters: list[nn.Parameter],
        clip: float | None,
        add_up: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Return the norm of the whole gradient, and clip the gradient to `clip` if that is above 0.

        Args:
            add_up: sums a squared norm over the processes that hold shards of `parameters`; None: no shards.
        """
        self.scaler.unscale_(optimizer)
        norm = norm_of([p.grad for p in parameters if p.grad is not None])
        if add_up is not None:
            norm = add_up(norm.square()).sqrt()
        limit = clip if clip is not None and clip > 0 else math.inf
        if hasattr(optimizer, "gradient_scale"):  # always set it, as a skipped step may have left its own
            optimizer.gradient_scale = min(1.0, limit / (float(norm) + _CLIP_EPS))
        elif limit < math.inf:
            nn.utils.clip_grads_with_norm_(parameters, limit, norm)
        return norm

    @property
    def may_overflow(self) -> bool:
        """Whether fp16 gradients may overflow: as long as the loss scale can be lowered."""
        return self.scaler.is_enabled() and self.scaler.get_scale() > self.scale_bounds[0]

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Take one optimizer step; if fp16 overflowed, halve the scale instead."""
        self.scaler.step(optimizer)
        self.skip()

    def skip(self) -> None:
        """Update the loss scale at the end of a step, taken or not."""
        if self.scaler.is_enabled():
            self.scaler.update()
            low, high = self.scale_bounds
            scale = self.scaler.get_scale()
            if not low <= scale <= high:
                self.scaler.update(min(max(scale, low), high))


_CLIP_EPS = 1e-6  # as in torch.nn.utils.clip_grad_norm_


class LowPrecisionMatrices:
    """Parameters that temporarily hold bf16 copies of their values.

    The Parameter objects stay the same, so ties, optimizers and hooks keep working. The copies are made anew
    at every step, so that changes by a callback or a checkpoint take effect.
    """

    def __init__(self, parameters: list[nn.Parameter], keep_gradients: bool = False):
        self._masters = {parameter: parameter.data for parameter in parameters}
        self._gradients = {parameter: parameter.grad for parameter in parameters}
        self._keep = keep_gradients
        for parameter, copy in zip(parameters, rounded(list(self._masters.values())), strict=True):
            parameter.grad = None
            parameter.data = copy

    @property
    def are_low(self) -> bool:
        """Whether any parameters hold bf16 copies."""
        return bool(self._masters)

    def collect(self) -> None:
        """Add a micro-batch's gradients to the sums, which are float32 from the second micro-batch on."""
        for parameter in self._masters:
            if parameter.grad is not None:
                earlier = self._gradients[parameter]
                gradient = parameter.grad
                if earlier is not None:
                    gradient = earlier.float().add_(gradient)
                self._gradients[parameter] = gradient if self._keep else gradient.float()
                parameter.grad = None

    def give_back(self) -> None:
        """Restore the float32 values, and set the collected gradients."""
        for parameter, master in self._masters.items():
            parameter.grad = None
            parameter.data = master
            gradient = self._gradients[parameter]
            if gradient is not None and gradient.dtype != master.dtype:
                parameter.grad_dtype = None  # any
            parameter.grad = gradient

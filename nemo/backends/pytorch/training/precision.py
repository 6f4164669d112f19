"""O0, O1 and O2: in which types a training step computes."""

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
CPU_BUCKETS = 32


class Precision:
    """What a step computes in, how gradients are clipped, and when an optimizer steps.

    O0 is all float32. O1 multiplies matrices in bf16 (fp16 with a scaler on a GPU without bf16), from float32
    weights. O2 holds bf16 matrices for the time that a step computes; their float32 masters are what
    everybody else sees: optimizers, checkpoints, evaluation, callbacks. Biases, norms and statistics are
    float32 at every level.

    Args:
        level: O0, O1 or O2.
        device: where the model is.
        max_loss_scale, min_loss_scale: bounds of the dynamic scale, fp16 only.

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
        if self.enabled and not bf16 and device.type == "cpu":
            logging.warning(
                "%s is slower than O0 here: this CPU has no bf16 matrix units",
                level.name.removeprefix("mxpr"),
                mode=LogMode.ONCE,
            )
        if not self.enabled and bf16:
            logging.info(
                "bf16 matrix products are at least twice as fast on this device: consider O2",
                mode=LogMode.ONCE,
            )

    def autocast(self) -> AbstractContextManager:
        """What the forward pass runs in."""
        if not self.enabled:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, self.dtype)

    @property
    def buckets(self) -> int:
        """How many sizes batches are rounded up to, as programs are compiled for sizes; 0 keeps them exact.

        On a GPU `torch.compile` makes a program for each, for the bf16 units of a CPU oneDNN makes some 30
        and keeps 1,024 in all: where every batch has a size of its own, making them takes longer than running
        them and memory grows. Of 32 sizes the next one is 1.6% of a full batch away on average. fp32
        products on a CPU compile nothing, and are 1% faster with exact sizes.
        """
        if self.device.type == "cuda":
            return GPU_BUCKETS
        return CPU_BUCKETS if self.enabled and has_bf16_units(self.device) else 0

    @contextmanager
    def matrices(
        self, parameters: Iterable[nn.Parameter], keep_gradients: bool = False
    ) -> Iterator["LowPrecisionMatrices"]:
        """Within, and at O2, the matrices among `parameters` are bf16; after it they are float32.

        Args:
            keep_gradients: leave the gradient of a single batch bf16, as it came; else, and the sum over
                several batches always, it is float32 after it, too.
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
        """The norm of the whole gradient, which is then clipped to `clip` where that is above 0.

        Args:
            add_up: adds the squares of norms up over the processes that hold `parameters` together.
        """
        self.scaler.unscale_(optimizer)
        norm = norm_of([p.grad for p in parameters if p.grad is not None])
        if add_up is not None:
            norm = add_up(norm.square()).sqrt()
        limit = clip if clip is not None and clip > 0 else math.inf
        if hasattr(optimizer, "gradient_scale"):  # always: that of a step that was not made may be there
            optimizer.gradient_scale = min(1.0, limit / (float(norm) + _CLIP_EPS))
        elif limit < math.inf:
            nn.utils.clip_grads_with_norm_(parameters, limit, norm)
        return norm

    @property
    def may_overflow(self) -> bool:
        """Is a gradient that is not finite to be expected? Of fp16, until the scale is as low as it goes."""
        return self.scaler.is_enabled() and self.scaler.get_scale() > self.scale_bounds[0]

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """One step, unless fp16 overflowed; then the scale is halved instead."""
        self.scaler.step(optimizer)
        self.skip()

    def skip(self) -> None:
        """The end of a step, taken or not."""
        if self.scaler.is_enabled():
            self.scaler.update()
            low, high = self.scale_bounds
            scale = self.scaler.get_scale()
            if not low <= scale <= high:
                self.scaler.update(min(max(scale, low), high))


_CLIP_EPS = 1e-6  # as in torch.nn.utils.clip_grad_norm_


class LowPrecisionMatrices:
    """Parameters that hold a bf16 copy of themselves for a while.

    The Parameter objects stay the same, so ties, optimizers and hooks do not notice. The copy is made again
    every time: a value that a callback or a checkpoint has changed is never missed.
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
        """Whether any weights are kept in both types."""
        return bool(self._masters)

    def collect(self) -> None:
        """Add the gradients of a batch to the sums over batches, which are float32 from the second on."""
        for parameter in self._masters:
            if parameter.grad is not None:
                earlier = self._gradients[parameter]
                gradient = parameter.grad
                if earlier is not None:
                    gradient = earlier.float().add_(gradient)
                self._gradients[parameter] = gradient if self._keep else gradient.float()
                parameter.grad = None

    def give_back(self) -> None:
        """The float32 values and the gradients collected."""
        for parameter, master in self._masters.items():
            parameter.grad = None
            parameter.data = master
            gradient = self._gradients[parameter]
            if gradient is not None and gradient.dtype != master.dtype:
                parameter.grad_dtype = None  # any
            parameter.grad = gradient

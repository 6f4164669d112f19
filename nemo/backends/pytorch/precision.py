"""O0 and O1: in which type the matrix products run."""

import contextlib
from contextlib import AbstractContextManager

import torch
from torch import nn

from nemo.core.neural_factory import Optimization
from nemo.utils.errors import UsageError
from nemo.utils.logging import LogMode, logging


def has_bf16_units(device: torch.device | str) -> bool:
    """Does the hardware multiply bf16 matrices faster than fp32 ones?"""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


class Precision:
    """Runs the forward pass in the right type and steps the optimizer.

    Args:
        level: O0 or O1.
        device: where the model is.
        max_loss_scale, min_loss_scale: bounds of the dynamic scale, fp16 only.
    """

    def __init__(
        self,
        level: Optimization,
        device: torch.device,
        max_loss_scale: float = 2.0**24,
        min_loss_scale: float | None = None,
    ):
        if level in (Optimization.mxprO2, Optimization.mxprO3):
            raise UsageError(
                "this level is not available yet",
                where="optimization_level",
                found=level.name,
                expected="O0 or O1",
                fix="use O1: bf16 matrix products with fp32 weights",
            )
        bf16 = has_bf16_units(device)
        self.device = device
        self.enabled = level is Optimization.mxprO1
        self.dtype = torch.bfloat16 if bf16 or device.type == "cpu" else torch.float16
        use_scaler = self.enabled and self.dtype is torch.float16
        self.scaler = torch.amp.GradScaler(
            device.type, enabled=use_scaler, init_scale=min(2.0**16, max_loss_scale)
        )
        self.scale_bounds = (min_loss_scale or 1.0, max_loss_scale)
        if self.enabled and not bf16 and device.type == "cpu":
            logging.warning("O1 is slower than O0 here: this CPU has no bf16 matrix units", mode=LogMode.ONCE)
        if not self.enabled and bf16:
            logging.info(
                "this device has bf16 matrix units: O1 would make training about twice as fast",
                mode=LogMode.ONCE,
            )

    def autocast(self) -> AbstractContextManager:
        """What the forward pass runs in."""
        if not self.enabled:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, self.dtype)

    def gradient_norm(
        self, optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], clip: float | None
    ) -> torch.Tensor:
        """The norm of the whole gradient, which is then clipped to `clip` where that is above 0."""
        self.scaler.unscale_(optimizer)
        gradients = [p.grad for p in parameters if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        if clip is not None and clip > 0:
            nn.utils.clip_grads_with_norm_(parameters, clip, norm)
        return norm

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """One update, unless fp16 overflowed; then the scale is halved instead."""
        self.scaler.step(optimizer)
        self.scaler.update()
        if self.scaler.is_enabled():
            low, high = self.scale_bounds
            scale = self.scaler.get_scale()
            if not low <= scale <= high:
                self.scaler.update(min(max(scale, low), high))

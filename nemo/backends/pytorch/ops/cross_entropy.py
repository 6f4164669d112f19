"""Cross entropy of what a linear layer scores: the scores become their gradient, in one buffer.

Shapes: R rows, D hidden size, C classes.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from nemo.backends.pytorch.ops import native
from nemo.backends.pytorch.ops.linear import linear, product

IGNORED = -100  # the label that costs nothing


def linear_cross_entropy(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, label_smoothing: float = 0.0
) -> Tensor:
    """What every row costs, given its label.

    Args:
        hidden: [R, D].
        weight: [C, D], of the type of `hidden`.
        bias: [C] float32, or None.
        labels: [R] int64; a row whose label is -100 costs nothing.
        label_smoothing: share of the target that is spread over all classes (Szegedy et al. 2016, arXiv
            1512.00567).

    Returns:
        [R] float32.
    """
    if torch.is_autocast_enabled(hidden.device.type):
        dtype = torch.get_autocast_dtype(hidden.device.type)
        hidden, weight = hidden.to(dtype), weight.to(dtype)
    # A kernel trusts the shapes; the reference says what is wrong with them.
    if (
        native.usable(hidden, weight)
        and labels.dtype == torch.int64
        and labels.shape == hidden.shape[:-1]
        and hidden.ndim == weight.ndim == 2
        and (bias is None or (bias.dtype == torch.float32 and bias.shape == weight.shape[:1]))
    ):
        return _Native.apply(hidden, weight, bias, labels, label_smoothing, torch.is_grad_enabled())
    return linear_cross_entropy_reference(hidden, weight, bias, labels, label_smoothing)


def linear_cross_entropy_reference(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, label_smoothing: float = 0.0
) -> Tensor:
    """The same in plain PyTorch."""
    logits = linear(hidden, weight).to(torch.promote_types(hidden.dtype, torch.float32))
    logits = logits if bias is None else logits + bias
    return F.cross_entropy(
        logits, labels, reduction="none", label_smoothing=label_smoothing, ignore_index=IGNORED
    )


class _Native(torch.autograd.Function):
    """A row's gradient is known with its loss; what it is worth is multiplied in where rows are short."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        labels: Tensor,
        label_smoothing: float,
        keep_gradient: bool,
    ) -> Tensor:
        labels, bias = labels.contiguous(), None if bias is None else bias.contiguous()
        wrong = labels[((labels < 0) | (labels >= len(weight))) & (labels != IGNORED)]
        if len(wrong):
            raise IndexError(f"label {int(wrong[0])} is not one of {len(weight)} classes")
        logits = product(hidden, weight.t())
        losses = torch.empty(len(hidden))
        native.call(
            "cross_entropy",
            logits.dtype,
            *(logits, bias, labels, losses),
            *(*logits.shape, float(label_smoothing), int(keep_gradient)),
        )
        if keep_gradient:
            ctx.save_for_backward(hidden, weight, logits)
        return losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, logits_grad = ctx.saved_tensors
        grad = grad.contiguous()
        scale = grad[:, None]  # not rounded to bfloat16: what it is off would be off in every gradient alike
        bias_grad = None
        if ctx.needs_input_grad[2]:
            bias_grad = torch.empty(len(weight))
            native.call(
                "weighted_column_sums", hidden.dtype, logits_grad, grad, bias_grad, *logits_grad.shape
            )
        needs_hidden, needs_weight, *_ = ctx.needs_input_grad
        hidden_grad = (product(logits_grad, weight) * scale).to(hidden.dtype) if needs_hidden else None
        weight_grad = product(logits_grad.t(), (hidden * scale).to(hidden.dtype)) if needs_weight else None
        return hidden_grad, weight_grad, bias_grad, None, None, None

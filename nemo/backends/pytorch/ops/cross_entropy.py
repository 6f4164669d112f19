"""Cross entropy of a linear layer's logits, which are overwritten by their gradient in place.

Shapes: R rows, D hidden size, C classes.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from nemo.backends.pytorch.ops import native
from nemo.backends.pytorch.ops.linear import linear, product

IGNORED = -100  # the label of rows without a loss


def linear_cross_entropy(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, label_smoothing: float = 0.0
) -> Tensor:
    """The loss of each row.

    Args:
        hidden: [R, D].
        weight: [C, D], in the dtype of `hidden`.
        bias: [C] float32, or None.
        labels: [R] int64; the loss of a row with label -100 is 0.
        label_smoothing: fraction of the target that is spread over all classes (Szegedy et al. 2016, arXiv
            1512.00567).

    Returns:
        [R] float32.
    """
    if torch.is_autocast_enabled(hidden.device.type):
        dtype = torch.get_autocast_dtype(hidden.device.type)
        hidden, weight = hidden.to(dtype), weight.to(dtype)
    # The kernel does not check shapes; the reference reports errors.
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
    """`linear_cross_entropy` in plain PyTorch."""
    logits = linear(hidden, weight).to(torch.promote_types(hidden.dtype, torch.float32))
    logits = logits if bias is None else logits + bias
    return F.cross_entropy(
        logits, labels, reduction="none", label_smoothing=label_smoothing, ignore_index=IGNORED
    )


class _Native(torch.autograd.Function):
    """The forward pass computes the gradient along with the loss; backward scales the shorter operand.

    In bf16, the logits are [C, R]: bf16 units are faster with the larger operand on the left and not
    transposed, and the logits' gradient is the left operand of the weights' gradient.
    """

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
        ctx.by_class = hidden.dtype == torch.bfloat16
        scores = product(weight, hidden.t()) if ctx.by_class else product(hidden, weight.t())
        losses = torch.empty(len(hidden))
        native.call(
            "cross_entropy_by_class" if ctx.by_class else "cross_entropy",
            scores.dtype,
            scores,
            bias,
            labels,
            losses,
            *scores.shape,
            float(label_smoothing),
            int(keep_gradient),
        )
        if keep_gradient:
            ctx.save_for_backward(hidden, weight, scores)
        return losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, scores_grad = ctx.saved_tensors
        grad = grad.contiguous()
        scale = grad[:, None]  # not rounded to bf16, as its error would bias every gradient alike
        needs_hidden, needs_weight, needs_bias, *_ = ctx.needs_input_grad
        bias_grad = None
        if needs_bias:
            bias_grad = torch.empty(len(weight))
            sums = "weighted_row_sums" if ctx.by_class else "weighted_column_sums"
            native.call(sums, hidden.dtype, scores_grad, grad, bias_grad, *scores_grad.shape)
        hidden_grad = weight_grad = None
        if needs_hidden:
            if ctx.by_class:
                hidden_grad = product(weight.t(), scores_grad).t()
            else:
                hidden_grad = product(scores_grad, weight)
            hidden_grad = (hidden_grad * scale).to(hidden.dtype)
        if needs_weight:
            by_class = scores_grad if ctx.by_class else scores_grad.t()
            weight_grad = product(by_class, (hidden * scale).to(hidden.dtype))
        return hidden_grad, weight_grad, bias_grad, None, None, None

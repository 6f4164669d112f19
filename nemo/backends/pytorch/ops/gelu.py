"""GELU (Hendrycks and Gimpel 2016, arXiv 1606.08415) of a product plus bias.

Shapes: N tokens, I intermediate size.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from nemo.backends.pytorch.ops import native


def bias_gelu(x: Tensor, bias: Tensor) -> Tensor:
    """gelu(x + bias), exact (erf), [N, I] and [I] float32 -> [N, I] in the dtype of `x`."""
    # The kernel does not check shapes; the reference reports errors.
    if native.usable(x) and x.ndim == 2 and bias.dtype == torch.float32 and bias.shape == x.shape[1:]:
        return _Native.apply(x, bias)
    return bias_gelu_reference(x, bias)


def bias_gelu_reference(x: Tensor, bias: Tensor) -> Tensor:
    """`bias_gelu` in plain PyTorch."""
    return F.gelu(x + bias.to(x.dtype))


class _Native(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor) -> Tensor:
        x, bias = x.contiguous(), bias.contiguous()
        out, derivative = torch.empty_like(x), torch.empty_like(x)
        native.call("bias_gelu", x.dtype, x, bias, out, derivative, *x.shape)
        ctx.save_for_backward(derivative)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        (derivative,) = ctx.saved_tensors
        x_grad, bias_grad = torch.empty_like(derivative), torch.zeros(derivative.shape[1])
        native.call(
            "bias_gelu_backward",
            derivative.dtype,
            grad.contiguous(),
            derivative,
            x_grad,
            bias_grad,
            *derivative.shape,
        )
        return x_grad, bias_grad

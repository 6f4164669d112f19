"""The end of a residual branch in one pass: bias, dropout, sum, LayerNorm (Ba et al. 2016, arXiv 1607.06450).

Shapes: N tokens, D hidden size.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from nemo.backends.pytorch.ops import native
from nemo.backends.pytorch.ops.dropout import Seed, dropout_reference


def dropout_add_norm(
    x: Tensor,
    bias: Tensor,
    residual: Tensor,
    weight: Tensor,
    norm_bias: Tensor,
    eps: float,
    p: float = 0.0,
    seed: Seed = 0,
) -> Tensor:
    """LayerNorm(residual + dropout(x + bias)).

    Args:
        x, residual: [N, D].
        bias: [D] float32, added to `x`.
        weight, norm_bias: [D] float32, of the LayerNorm.
        eps: added to the variance.
        p: dropout probability.
        seed: seed of the dropout site.

    Returns:
        [N, D] in the dtype of `x`; statistics are float32.
    """
    # The kernel does not check shapes; the reference reports errors.
    if (
        native.usable(x, residual)
        and x.ndim == 2
        and x.shape == residual.shape
        and all(v.dtype == torch.float32 and v.shape == x.shape[1:] for v in (bias, weight, norm_bias))
    ):
        return _Native.apply(x, bias, residual, weight, norm_bias, eps, p, seed)
    return dropout_add_norm_reference(x, bias, residual, weight, norm_bias, eps, p, seed)


def dropout_add_norm_reference(
    x: Tensor,
    bias: Tensor,
    residual: Tensor,
    weight: Tensor,
    norm_bias: Tensor,
    eps: float,
    p: float = 0.0,
    seed: Seed = 0,
) -> Tensor:
    """`dropout_add_norm` in plain PyTorch."""
    total = residual.to(weight.dtype) + dropout_reference(x.to(weight.dtype) + bias, p, seed)
    return F.layer_norm(total, weight.shape, weight, norm_bias, eps).to(x.dtype)


class _Native(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        bias: Tensor,
        residual: Tensor,
        weight: Tensor,
        norm_bias: Tensor,
        eps: float,
        p: float,
        seed: Seed,
    ) -> Tensor:
        x, bias, residual, weight, norm_bias = (
            tensor.contiguous() for tensor in (x, bias, residual, weight, norm_bias)
        )
        total, out = torch.empty_like(x), torch.empty_like(x)
        statistics = torch.empty(len(x), 2)
        native.call(
            "dropout_add_norm",
            x.dtype,
            x,
            bias,
            residual,
            weight,
            norm_bias,
            total,
            out,
            statistics,
            *x.shape,
            float(eps),
            float(p),
            int(seed),
        )
        ctx.save_for_backward(total, statistics, weight)
        ctx.settings = float(p), int(seed)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        total, statistics, weight = ctx.saved_tensors
        p, seed = ctx.settings
        total_grad = torch.empty_like(total)
        x_grad = torch.empty_like(total) if p > 0 else total_grad
        sums = torch.zeros(3, total.shape[1])
        native.call(
            "dropout_add_norm_backward",
            total.dtype,
            grad.contiguous(),
            total,
            statistics,
            weight,
            total_grad,
            x_grad,
            sums,
            *total.shape,
            p,
            seed,
        )
        weight_grad, norm_bias_grad, bias_grad = sums
        return x_grad, bias_grad, total_grad, weight_grad, norm_bias_grad, None, None, None

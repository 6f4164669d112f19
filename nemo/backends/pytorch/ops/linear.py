"""A matrix product with weights, whose weight gradient is fast in bf16 on a CPU.

Shapes: N rows, I inputs, O outputs.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from nemo.backends.pytorch.ops import native


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """x weight^T, [N, I] and [O, I] -> [N, O]. The operation that follows adds the bias."""
    if x.dtype == torch.bfloat16 and native.usable(x, weight):
        return _Native.apply(x, weight)
    return F.linear(x, weight)


class _Native(torch.autograd.Function):
    """oneDNN multiplies bf16 matrices up to twice as fast where the left one is not transposed in place."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return x @ weight.t()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        needs_x, needs_weight = ctx.needs_input_grad
        grad = grad.contiguous()
        return grad @ weight if needs_x else None, transposed(grad) @ x if needs_weight else None


def transposed(matrix: Tensor) -> Tensor:
    """The transpose of a bf16 matrix, laid out anew: [N, O] -> [O, N]."""
    rows, columns = matrix.shape
    # Rows that are a multiple of the page size apart would all fall into the same sets of the cache.
    stride = rows + 32 if rows % 2048 == 0 else rows
    out = matrix.new_empty(columns, stride)
    native.call("transpose", matrix.dtype, matrix, out, rows, columns, stride)
    return out[:, :rows]

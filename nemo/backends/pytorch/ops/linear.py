"""A linear layer whose weight gradient is fast in bf16 on a CPU.

Shapes: N rows, I inputs, O outputs.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from nemo.backends.pytorch.ops import native
from nemo.backends.pytorch.ops.hardware import has_bf16_units, has_tile_units


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """x weight^T, [N, I] and [O, I] -> [N, O]. The next operation adds the bias."""
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weight = x.to(dtype), weight.to(dtype)
    if x.dtype == torch.bfloat16 and native.usable(x, weight):
        return _Native.apply(x, weight)
    return F.linear(x, weight)


def product(a: Tensor, b: Tensor) -> Tensor:
    """a b, [N, I] and [I, O] -> [N, O].

    Without bf16 units, bf16 products are computed in float32, as torch's own bf16 product is ten times slower
    there. Either way, sums are float32 and the result is rounded.
    """
    if a.dtype == torch.bfloat16 and a.device.type == "cpu" and not has_bf16_units(a.device):
        with torch.autocast("cpu", enabled=False):
            return (a.float() @ b.float()).to(torch.bfloat16)
    return a @ b


class _Native(torch.autograd.Function):
    """With AMX, transposes the gradient first: oneDNN is up to twice as fast on a contiguous left matrix.

    Without AMX that gains 10%, less than the transpose costs.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return product(x, weight.t())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        needs_x, needs_weight = ctx.needs_input_grad
        grad = grad.contiguous()
        x_grad = product(grad, weight) if needs_x else None
        if not needs_weight:
            return x_grad, None
        return x_grad, product(transposed(grad) if has_tile_units() else grad.t(), x)


def transposed(matrix: Tensor) -> Tensor:
    """The transpose of a bf16 matrix, contiguous: [N, O] -> [O, N]."""
    rows, columns = matrix.shape
    # Rows at a distance of a multiple of the page size would compete for the same cache sets.
    stride = rows + 32 if rows % 2048 == 0 else rows
    out = matrix.new_empty(columns, stride)
    native.call("transpose", matrix.dtype, matrix, out, rows, columns, stride)
    return out[:, :rows]

"""The sum of a token's word, position and sentence embeddings.

Shapes: N tokens, V rows of a table, D hidden size.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from nemo.backends.pytorch.ops import native


def embedding_sum(
    ids: Tensor,
    types: Tensor,
    positions: Tensor,
    word: Tensor,
    position: Tensor,
    type_: Tensor,
    padding_idx: int | None = None,
    sparse: bool = False,
) -> Tensor:
    """word[ids] + position[positions] + type_[types].

    Args:
        ids, types, positions: [N] int64.
        word, position, type_: tables, [V, D] each.
        padding_idx: a row of `word` without a gradient.
        sparse: return a sparse gradient for `word`, as `torch.nn.Embedding` does.

    Returns:
        [N, D].
    """
    # The kernel does not check shapes; the reference reports errors.
    if (
        native.usable(word, position, type_)
        and ids.shape == types.shape == positions.shape == ids.shape[:1]
        and word.shape[1:] == position.shape[1:] == type_.shape[1:]
    ):
        return _Native.apply(ids, types, positions, word, position, type_, padding_idx, sparse)
    return embedding_sum_reference(ids, types, positions, word, position, type_, padding_idx, sparse)


def embedding_sum_reference(
    ids: Tensor,
    types: Tensor,
    positions: Tensor,
    word: Tensor,
    position: Tensor,
    type_: Tensor,
    padding_idx: int | None = None,
    sparse: bool = False,
) -> Tensor:
    """`embedding_sum` in plain PyTorch."""
    words = F.embedding(ids, word, padding_idx, sparse=sparse)
    return words + F.embedding(positions, position) + F.embedding(types, type_)


class _Native(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        ids: Tensor,
        types: Tensor,
        positions: Tensor,
        word: Tensor,
        position: Tensor,
        type_: Tensor,
        padding_idx: int | None,
        sparse: bool,
    ) -> Tensor:
        tables = (word, position, type_)
        indices = tuple(
            _within(i.long(), table).contiguous()
            for i, table in zip((ids, positions, types), tables, strict=True)
        )
        out = word.new_empty(len(ids), word.shape[1])
        native.call("embedding_sum", word.dtype, *indices, *(t.contiguous() for t in tables), out, *out.shape)
        ctx.save_for_backward(*indices)
        ctx.settings = [table.shape for table in tables], padding_idx, sparse
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        shapes, padding_idx, sparse = ctx.settings
        grad = grad.contiguous()
        grads: list[Tensor | None] = []
        for number, (indices, shape) in enumerate(zip(ctx.saved_tensors, shapes, strict=True)):
            if not ctx.needs_input_grad[3 + number]:
                grads.append(None)
                continue
            used, rows = _summed_by_index(grad, indices)
            if number == 0 and padding_idx is not None:
                rows[used == padding_idx] = 0
            of_table = torch.sparse_coo_tensor(
                used[None], rows, shape, is_coalesced=True, check_invariants=False
            )
            grads.append(of_table if sparse and number == 0 else of_table.to_dense())
        return None, None, None, *grads, None, None


def _within(indices: Tensor, table: Tensor) -> Tensor:
    """The indices, checked against the table, as the kernel would read out of bounds."""
    if len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < len(table):
        raise IndexError(f"index out of range: {int(indices.min())} to {int(indices.max())} of {len(table)}")
    return indices


def _summed_by_index(grad: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
    """The distinct indices, [M], and the sum of each one's rows of `grad`, [M, D]."""
    in_order, order = indices.sort(stable=True)
    used, counts = in_order.unique_consecutive(return_counts=True)
    starts = F.pad(counts.cumsum(0), (1, 0))
    rows = grad.new_empty(len(used), grad.shape[1])
    native.call("sum_rows", grad.dtype, grad, order, starts, rows, *rows.shape)
    return used, rows

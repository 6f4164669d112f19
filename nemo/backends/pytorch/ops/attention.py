"""Attention within the sequences of a packed batch, with dropout (Vaswani et al. 2017, arXiv 1706.03762).

Shapes: N tokens, R queries, D hidden size, H heads, S sequences.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from nemo.backends.pytorch.ops import native
from nemo.backends.pytorch.ops.dropout import Seed, keep_mask


@dataclass(frozen=True)
class PackedSequences:
    """The sequences of a packed batch.

    Attributes:
        queries, keys: [S + 1] int32, offsets of the sequences, including the end of the last, among the
            queries and among all tokens.
        longest_queries, longest_keys: upper bounds of the lengths.
    """

    queries: Tensor
    keys: Tensor
    longest_queries: int
    longest_keys: int


@dataclass(frozen=True)
class Padded:
    """Padded sequences of one length, whose tokens are all queries.

    Attributes:
        mask: [S, T] bool, False for padding.
    """

    mask: Tensor


def attention(
    query: Tensor | None,
    projections: Tensor,
    bias: Tensor,
    sequences: PackedSequences | Padded,
    num_heads: int,
    p: float = 0.0,
    seed: Seed = 0,
) -> Tensor:
    """Multi-head attention of every query to the keys and values of its sequence.

    Args:
        query: [R, D], if not every token is a query; None if `projections` contain the queries.
        projections: [N, 3D], queries, keys and values side by side, or [N, 2D] without queries; before
            adding the bias.
        bias: [3D] float32, of all three.
        sequences: the keys that each query attends to.
        num_heads: H.
        p: dropout probability of the attention weights; the dropout site has R*H rows, and the keys of a
            sequence as columns.
        seed: seed of the dropout site.

    Returns:
        [R, D].
    """
    if isinstance(sequences, Padded):
        return _padded(query, projections, bias, sequences, num_heads, p)
    tensors = (projections,) if query is None else (query, projections)
    if native.usable(*tensors) and _fits(tensors, bias, sequences, num_heads):
        return _Native.apply(query, projections, bias, sequences, num_heads, p, seed)
    if projections.is_cuda and projections.dtype in (torch.bfloat16, torch.float16):
        return _flash(query, projections, bias, sequences, num_heads, p)
    return attention_reference(query, projections, bias, sequences, num_heads, p, seed)


def _fits(tensors: tuple[Tensor, ...], bias: Tensor, sequences: PackedSequences, num_heads: int) -> bool:
    """Whether the arguments fit the kernel, which does not check; the reference reports errors."""
    width = len(bias) // 3
    return (
        bias.dtype == torch.float32
        and width % num_heads == 0
        and [t.shape[1] for t in tensors] == ([3 * width] if len(tensors) == 1 else [width, 2 * width])
        and sequences.queries.dtype == sequences.keys.dtype == torch.int32
        and len(sequences.queries) == len(sequences.keys)
        and [int(sequences.queries[-1]), int(sequences.keys[-1])] == [len(tensors[0]), len(tensors[-1])]
    )


def attention_reference(
    query: Tensor | None,
    projections: Tensor,
    bias: Tensor,
    sequences: PackedSequences,
    num_heads: int,
    p: float = 0.0,
    seed: Seed = 0,
) -> Tensor:
    """`attention` in plain PyTorch, on sequences padded to the longest."""
    queries, keys, values = (
        tokens.unflatten(-1, (num_heads, -1)) for tokens in _with_bias(query, projections, bias)
    )
    num_sequences = len(sequences.keys) - 1
    at_queries = _positions(sequences.queries, len(queries))
    at_keys = _positions(sequences.keys, len(keys))

    def padded(tokens: Tensor, positions: tuple[Tensor, Tensor], longest: int) -> Tensor:  # S H longest D/H
        zeros = tokens.new_zeros(num_sequences, max(longest, 1), *tokens.shape[1:])
        return zeros.index_put(positions, tokens).transpose(1, 2)

    keys, values = (padded(x, at_keys, sequences.longest_keys) for x in (keys, values))
    padded_queries = padded(queries, at_queries, sequences.longest_queries)
    scores = padded_queries @ keys.transpose(2, 3)
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32)) / math.sqrt(keys.shape[-1])
    beyond = torch.arange(keys.shape[2], device=scores.device) >= sequences.keys.diff()[:, None]
    # The lowest number instead of -inf: a query without keys gets zeros, not NaN.
    weights = scores.masked_fill(beyond[:, None, None], torch.finfo(scores.dtype).min).softmax(-1)
    if p > 0:
        first = sequences.queries[:-1, None, None]
        number = torch.arange(padded_queries.shape[2], device=scores.device)
        head = torch.arange(num_heads, device=scores.device)[:, None]
        kept = keep_mask((first + number) * num_heads + head, keys.shape[2], p, seed)  # S H longest longest
        weights = torch.where(kept, weights / (1 - p), 0)
    context = (weights.to(values.dtype) @ values).transpose(1, 2)
    return context[at_queries].flatten(1)


def _padded(
    query: Tensor | None, projections: Tensor, bias: Tensor, sequences: Padded, num_heads: int, p: float
) -> Tensor:
    query, key, value = (  # S H T D/H
        x.unflatten(0, sequences.mask.shape).unflatten(-1, (num_heads, -1)).transpose(1, 2)
        for x in _with_bias(query, projections, bias)
    )
    scores = torch.zeros_like(sequences.mask, dtype=projections.dtype)
    scores = scores.masked_fill(~sequences.mask, torch.finfo(projections.dtype).min)[:, None, None]
    context = F.scaled_dot_product_attention(query, key, value, scores, dropout_p=p)
    return context.transpose(1, 2).flatten(2).flatten(0, 1)


def _with_bias(query: Tensor | None, projections: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
    bias = bias.to(projections.dtype)
    if query is None:
        return (projections + bias).chunk(3, -1)
    width = query.shape[-1]
    return (query + bias[:width], *(projections + bias[width:]).chunk(2, -1))


def _positions(offsets: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The sequence of each token, and the token's index in it, [count] each."""
    lengths = offsets.diff().long()
    numbers = torch.arange(len(lengths), device=offsets.device)
    sequence = numbers.repeat_interleave(lengths, output_size=count)
    return sequence, torch.arange(count, device=offsets.device) - offsets.long()[sequence]


def _flash(
    query: Tensor | None,
    projections: Tensor,
    bias: Tensor,
    sequences: PackedSequences,
    num_heads: int,
    p: float,
) -> Tensor:
    """FlashAttention on a GPU; it uses torch's own dropout, which is seeded at every step."""
    tokens = (x.unflatten(-1, (num_heads, -1)) for x in _with_bias(query, projections, bias))
    context = torch.ops.aten._flash_attention_forward(
        *tokens,
        sequences.queries,
        sequences.keys,
        sequences.longest_queries,
        sequences.longest_keys,
        dropout_p=p,
        is_causal=False,
        return_debug_mask=False,
    )[0]
    return context.flatten(1)


class _Native(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor | None,
        projections: Tensor,
        bias: Tensor,
        sequences: PackedSequences,
        num_heads: int,
        p: float,
        seed: int,
    ) -> Tensor:
        projections, bias = projections.contiguous(), bias.contiguous()
        query = None if query is None else query.contiguous()
        queries = projections if query is None else query
        out = projections.new_empty(len(queries), len(bias) // 3)
        lse = torch.empty(len(queries), num_heads)
        native.call(
            "attention",
            projections.dtype,
            *_pointers(query, projections),
            bias,
            out,
            lse,
            *_layout(sequences, num_heads, out.shape[1], p, seed),
        )
        ctx.save_for_backward(query, projections, bias, out, lse)
        ctx.settings = sequences, num_heads, p, seed
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, projections, bias, out, lse = ctx.saved_tensors
        sequences, num_heads, p, seed = ctx.settings
        query_grad = None if query is None else torch.empty_like(query)
        projections_grad, bias_grad = torch.empty_like(projections), torch.zeros_like(bias)
        grads = _pointers(query_grad, projections_grad)
        native.call(
            "attention_backward",
            projections.dtype,
            *_pointers(query, projections),
            bias,
            out,
            lse,
            grad.contiguous(),
            *(g for g in grads if isinstance(g, Tensor)),
            bias_grad,
            *_layout(sequences, num_heads, out.shape[1], p, seed),
        )
        return query_grad, projections_grad, bias_grad, None, None, None, None


def _pointers(query: Tensor | None, projections: Tensor) -> tuple[Tensor | int, ...]:
    """The kernel's arguments: queries and their row stride; keys, values and their row stride."""
    width = projections.shape[1] // (3 if query is None else 2)
    *queries, keys, values = projections.split(width, 1)
    first = queries[0] if query is None else query
    return first, first.stride(0), keys, values, projections.stride(0)


def _layout(sequences: PackedSequences, num_heads: int, width: int, p: float, seed: Seed) -> tuple[Any, ...]:
    return (
        sequences.queries,
        sequences.keys,
        len(sequences.keys) - 1,
        num_heads,
        width // num_heads,
        sequences.longest_queries,
        sequences.longest_keys,
        float(p),
        int(seed),
    )

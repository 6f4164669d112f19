"""Checks freshly built kernels against their references, before they are used in training.

    python -m nemo.backends.pytorch.ops.check LIBRARY

Exits with 1 and a line that names the first kernel that differs. This is needed because the user's
combination of compiler, processor and torch may be untested.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nemo.backends.pytorch.ops import native
from nemo.backends.pytorch.ops.adamw import (
    adamw_,
    adamw_reference_,
    norm_of,
    norm_of_reference,
    rounded,
    rounded_reference,
)
from nemo.backends.pytorch.ops.attention import PackedSequences, attention, attention_reference
from nemo.backends.pytorch.ops.cross_entropy import linear_cross_entropy, linear_cross_entropy_reference
from nemo.backends.pytorch.ops.dropout import dropout, dropout_reference
from nemo.backends.pytorch.ops.embedding import embedding_sum, embedding_sum_reference
from nemo.backends.pytorch.ops.gelu import bias_gelu, bias_gelu_reference
from nemo.backends.pytorch.ops.linear import transposed
from nemo.backends.pytorch.ops.norm import dropout_add_norm, dropout_add_norm_reference

Check = tuple[str, Callable[..., Tensor], Callable[..., Tensor], list[Any]]

# Relative to the norm of the expected result, which is computed in float32 from the same inputs.
TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 3e-2}


def checks(dtype: torch.dtype) -> Iterator[Check]:
    """Every operation with a gradient, its reference, and arguments for both."""
    # Long because it is a table: one entry for each operation.
    drawn = torch.Generator().manual_seed(0)

    def random(*shape: int, dtype: torch.dtype = dtype) -> Tensor:
        return torch.randn(shape, generator=drawn).to(dtype).requires_grad_()

    def vector(size: int) -> Tensor:
        return random(size, dtype=torch.float32)

    def numbers(below: int, count: int) -> Tensor:
        return torch.randint(below, (count,), generator=drawn)

    rows, width, heads = 197, 136, 2
    lengths = torch.tensor([0, 100, 101, 101, 197]).int()
    some = torch.tensor([0, 31, 31, 33, 37]).int()
    yield (
        "attention",
        attention,
        attention_reference,
        [
            None,
            random(rows, 3 * width),
            vector(3 * width),
            PackedSequences(lengths, lengths, 100, 100),
            heads,
            0.1,
            7,
        ],
    )
    yield (
        "attention of some tokens",
        attention,
        attention_reference,
        [
            random(37, width),
            random(rows, 2 * width),
            vector(3 * width),
            PackedSequences(some, lengths, 33, 100),
            heads,
            0.1,
            7,
        ],
    )
    yield (
        "dropout_add_norm",
        dropout_add_norm,
        dropout_add_norm_reference,
        [
            random(rows, width),
            vector(width),
            random(rows, width),
            vector(width),
            vector(width),
            1e-12,
            0.1,
            7,
        ],
    )
    yield "bias_gelu", bias_gelu, bias_gelu_reference, [random(rows, width), vector(width)]
    yield (
        "linear_cross_entropy",
        linear_cross_entropy,
        linear_cross_entropy_reference,
        [random(rows, width), random(301, width), vector(301), numbers(301, rows), 0.1],
    )
    tables = [random(size, width) for size in (50, 60, 2)]
    ids = [numbers(size, rows) for size in (50, 2, 60)]
    yield (
        "embedding_sum",
        embedding_sum,
        embedding_sum_reference,
        [*ids, *tables],
    )
    yield "dropout", dropout, dropout_reference, [random(rows, width), 0.1, 7]


def first_difference() -> str | None:
    """The first operation whose result differs from its reference's; None if all agree."""
    for dtype, tolerance in TOLERANCES.items():
        for name, function, reference, arguments in checks(dtype):
            expected = _outcome(reference, [_in_float32(argument) for argument in arguments])
            for ours, theirs in zip(_outcome(function, arguments), expected, strict=True):
                difference = ((ours - theirs).norm() / theirs.norm()).item()
                if not difference < tolerance:
                    return f"{name} in {dtype}: relative difference {difference:.2g}"
    for name, found, wanted, tolerance in comparisons_of_many():
        for ours, theirs in zip(found, wanted, strict=True):
            if not (ours.float() - theirs.float()).norm() <= tolerance * theirs.float().norm():
                return name
    return None


def comparisons_of_many() -> Iterator[tuple[str, list[Tensor], list[Tensor], float]]:
    """Operations on many tensors or without a gradient: name, results, expected results, tolerance."""
    drawn = torch.Generator().manual_seed(0)

    def tensors() -> list[Tensor]:  # larger than a block of the kernels, and smaller than a vector
        return [torch.randn(size, generator=drawn) for size in ((9000, 3), (1,), (17, 5))]

    parameters, exp_avgs, exp_avg_sqs = tensors(), tensors(), [t.square() for t in tensors()]
    mixed = [t.bfloat16() if i % 2 == 0 else t for i, t in enumerate(tensors())]
    yield "norm_of", [norm_of(mixed)], [norm_of_reference(mixed)], 1e-4
    yield "rounded", rounded(parameters), rounded_reference(parameters), 0.0
    matrix = mixed[0][:77]
    yield "transposed", [transposed(matrix)], [matrix.t()], 0.0

    def updated(update: Callable[..., None]) -> list[Tensor]:
        state = [[t.clone() for t in group] for group in (parameters, exp_avgs, exp_avg_sqs)]
        settings = {"lr": 0.1, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.01, "clip": 0.5}
        update(state[0], mixed, *state[1:], [1, 2, 300], **settings)
        return [t for group in state for t in group]

    yield "adamw_", updated(adamw_), updated(adamw_reference_), 1e-4


def _outcome(function: Callable[..., Tensor], arguments: list[Any]) -> list[Tensor]:
    """The result and all gradients, in float32."""
    out = function(*arguments)
    inputs = [a for a in arguments if isinstance(a, Tensor) and a.requires_grad]
    weights = torch.linspace(-1, 1, out.numel()).view(out.shape).to(out.dtype)
    gradients = torch.autograd.grad(out, inputs, weights)
    return [out.detach().float(), *(gradient.to_dense().float() for gradient in gradients)]


def _in_float32(argument: Any) -> Any:
    if isinstance(argument, Tensor) and argument.is_floating_point():
        return argument.detach().float().requires_grad_()
    return argument


if __name__ == "__main__":
    native.library.use(Path(sys.argv[1]))
    wrong = first_difference()
    if wrong is not None:
        sys.exit(f"error: {wrong}")

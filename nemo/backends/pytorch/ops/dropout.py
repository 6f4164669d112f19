"""Dropout whose mask is a function of position, so that a fused kernel and its reference agree bit for bit.

Element (row, column) of a dropout site is kept if hash(row, column, seed of the site) is at least p * 2^32.
The seeds of a step come from (seed, step, rank, batch) by numpy's SeedSequence, one per site, in the order of
the forward pass. The hash is two rounds of MurmurHash3's 32-bit finalizer, one for the row and one for the
element: integer operations that vectorize on every processor and fuse on a GPU.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nemo.backends.pytorch.ops import native

Seed = int | Tensor

_MOST_SITES = 1024


class DropoutSeeds:
    """The seeds of one pass over one batch.

    Args:
        key: integers of 0 or more that determine the masks, for example (seed, step, rank, batch).
        device: seeds are Python integers on a CPU, and elements of a tensor on a GPU.
    """

    def __init__(self, *key: int, device: torch.device | str = "cpu"):
        words = np.random.SeedSequence(key).generate_state(_MOST_SITES, np.uint32)
        self._seeds: list[int] | Tensor = words.tolist()
        if torch.device(device).type != "cpu":
            self._seeds = torch.from_numpy(words.view(np.int32)).pin_memory().to(device, non_blocking=True)
        self._next = 0

    def take(self) -> Seed:
        """The seed of the next site."""
        self._next += 1
        return self._seeds[(self._next - 1) % _MOST_SITES]


_active: DropoutSeeds | None = None


@contextmanager
def dropout_seeds(seeds: DropoutSeeds) -> Iterator[None]:
    """Dropout inside the block takes its seeds from `seeds`; outside, from torch's generator."""
    global _active
    before, _active = _active, seeds
    try:
        yield
    finally:
        _active = before


def next_seeds(count: int) -> tuple[Seed, ...]:
    """The seeds of the next `count` dropout sites."""
    if _active is not None:
        return tuple(_active.take() for _ in range(count))
    return tuple(torch.randint(2**32, (count,)).tolist())


def keep_mask(rows: Tensor, columns: int, p: float, seed: Seed) -> Tensor:
    """The mask of elements to keep, bool, in the shape of `rows` with one more axis of `columns`.

    Args:
        rows: row numbers, of any shape, int64.
        p: dropout probability, [0, 1).
        seed: seed of the site.
    """
    keys = _mix(_mix(rows.to(torch.int32) + _GOLDEN) ^ _wrapped(seed))
    columns_mixed = torch.arange(columns, device=rows.device, dtype=torch.int32) * _GOLDEN
    bits = _mix(columns_mixed ^ keys.unsqueeze(-1))
    return bits ^ _SIGN >= _wrapped(int(p * 2**32)) ^ _SIGN  # the order of unsigned numbers


def dropout(x: Tensor, p: float, seed: Seed) -> Tensor:
    """Set each element of `x`, [N, D], to 0 with probability p, and divide the others by 1 - p."""
    if p > 0 and x.ndim == 2 and native.usable(x):
        return _Native.apply(x, float(p), int(seed))
    return dropout_reference(x, p, seed)


def dropout_reference(x: Tensor, p: float, seed: Seed) -> Tensor:
    """`dropout` in plain PyTorch."""
    if p == 0:
        return x
    kept = keep_mask(torch.arange(x.shape[0], device=x.device), x.shape[1], p, seed)
    return torch.where(kept, x / (1 - p), 0)


class _Native(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float, seed: int) -> Tensor:
        ctx.settings = p, seed
        return _dropped(x, p, seed)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return _dropped(grad, *ctx.settings), None, None


def _dropped(x: Tensor, p: float, seed: int) -> Tensor:
    x = x.contiguous()
    out = torch.empty_like(x)
    native.call("dropout", x.dtype, x, out, *x.shape, p, seed)
    return out


def _wrapped(x: Seed) -> Any:
    """The low 32 bits as a signed integer, as torch has no unsigned ones; overflow wraps around."""
    return x.to(torch.int32) if isinstance(x, Tensor) else (x + 2**31) % 2**32 - 2**31


_GOLDEN, _FIRST, _SECOND = (_wrapped(x) for x in (0x9E3779B9, 0x85EBCA6B, 0xC2B2AE35))
_SIGN = -(2**31)


def _mix(x: Tensor) -> Tensor:
    """MurmurHash3's finalizer of an int32 tensor, in place."""
    x = x.bitwise_xor_((x >> 16).bitwise_and_(0xFFFF)).mul_(_FIRST)
    x = x.bitwise_xor_((x >> 13).bitwise_and_(0x7FFFF)).mul_(_SECOND)
    return x.bitwise_xor_((x >> 16).bitwise_and_(0xFFFF))

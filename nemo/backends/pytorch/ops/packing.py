"""Packing: the tokens of a padded batch that a model computes.

Shapes: B batch, T tokens of a padded sequence; N computed tokens, K of them keys (not padding), R requested
rows.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nemo.backends.pytorch.ops.attention import PackedSequences, Padded


@dataclass(frozen=True)
class Packing:
    """A batch without its padding.

    Attributes:
        tokens: [N] indices of the computed tokens among the B*T; None means all.
        positions: [N] position of each token in its sequence.
        keys: [K] indices of tokens that are not padding among the N; None means all.
        sequences: the sequences if all N tokens are queries.
        requested: [R] sorted indices of the requested tokens among the N; None means all.
        restore: indices that put the results for `requested` back into the requested order, without filling.
        last_sequences: the sequences if only `requested` are queries.
    """

    tokens: Tensor | None
    positions: Tensor
    keys: Tensor | None
    sequences: PackedSequences | Padded
    requested: Tensor | None = None
    restore: Tensor | None = None
    last_sequences: PackedSequences | None = None

    @classmethod
    def of(
        cls, shape: tuple[int, int], attention_mask: Tensor | None, rows: Tensor | None, buckets: int = 0
    ) -> "Packing":
        """The packing of a batch.

        Args:
            shape: B, T.
            attention_mask: [B, T], 0 for padding; None means no padding.
            rows: [R] indices of the requested rows among the B*T; None means all, padding included.
            buckets: 0 keeps exact sizes. Another number rounds N, K and R up to one of at most this many
                sizes (see `bucket_size`), for kernels that are compiled for each size. The filling of N and K
                forms an extra sequence, whose result is unused; R is filled with its last row. The longest
                sequences become bounds that hold for nearly every batch.
        """
        batch, length = shape
        device = next((x.device for x in (attention_mask, rows) if x is not None), None)
        whole = torch.full((batch,), length, device=device)
        real = None if attention_mask is None else attention_mask.flatten() != 0
        if real is not None and real.all():
            real = None
        # The numbers of queries and of keys in each sequence.
        queries, seen = whole, whole if real is None else real.view(shape).sum(1)
        tokens = keys = None
        indices = rows
        if real is not None and rows is not None and real[rows].all():
            tokens = real.nonzero().squeeze(1)  # padding can be dropped, as it is never read
            queries, indices = seen, torch.searchsorted(tokens, rows)
        elif real is not None:
            keys = real.nonzero().squeeze(1)
        longest_queries, longest_seen = (int(x.max()) if batch else length for x in (queries, seen))
        if buckets:
            step = bucket_size(batch * length, buckets)
            queries, seen = (F.pad(x, (0, 1), value=-int(x.sum()) % step) for x in (queries, seen))
            if tokens is None and queries[-1] > 0:
                tokens = torch.arange(batch * length, device=device)
            tokens, keys = (None if x is None else F.pad(x, (0, -len(x) % step)) for x in (tokens, keys))
            longest_queries = longest_seen = max(length, step)
        positions = torch.arange(length, device=device).repeat(batch) if tokens is None else tokens % length
        sequences = PackedSequences(_offsets(queries), _offsets(seen), longest_queries, longest_seen)
        packing = cls(tokens, positions, keys, sequences)
        if rows is None or indices is None:
            return packing
        return packing._asked_for(rows, indices, shape, buckets)

    @classmethod
    def padded(cls, input_ids: Tensor, attention_mask: Tensor | None) -> "Packing":
        """A batch with its padding, for export: no shape depends on the content.

        Args:
            input_ids: [B, T].
            attention_mask: [B, T], 0 for padding; None means no padding.
        """
        positions = torch.ones_like(input_ids).cumsum(1).flatten() - 1
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        return cls(None, positions, None, Padded(mask != 0))

    def _asked_for(self, rows: Tensor, indices: Tensor, shape: tuple[int, int], buckets: int) -> "Packing":
        """This packing with only `rows` among the B*T, at `indices` among the N, requested."""
        assert isinstance(self.sequences, PackedSequences)
        num_rows, length = len(rows), shape[1]
        if buckets and num_rows:
            filling = -num_rows % bucket_size(shape[0] * length, buckets * ROW_BUCKETS_PER_BUCKET)
            rows, indices = (torch.cat([x, x[-1:].expand(filling)]) for x in (rows, indices))
        order = rows.argsort(stable=True)
        counts = torch.bincount(rows // length, minlength=len(self.sequences.keys) - 1)
        longest = int(counts.max()) if len(counts) else 0
        if buckets:
            longest = -(-longest // length) * length
        last = PackedSequences(_offsets(counts), self.sequences.keys, longest, self.sequences.longest_keys)
        return dataclasses.replace(
            self, requested=indices[order], restore=order.argsort()[:num_rows], last_sequences=last
        )

    def to(self, device: torch.device) -> "Packing":
        """This packing on `device`."""
        return _moved(self, device)


# Only few rows are requested, compared with all tokens, so they are rounded in smaller steps.
ROW_BUCKETS_PER_BUCKET = 8


def bucket_size(tokens: int, buckets: int) -> int:
    """The granularity with which sizes up to `tokens` round up to at most `buckets` different ones.

    A power of two, so that batches with different numbers of tokens share sizes.
    """
    return 1 << (-(-tokens // buckets) - 1).bit_length() if tokens > 0 else 1


def _offsets(lengths: Tensor) -> Tensor:
    return F.pad(lengths.cumsum(0), (1, 0)).int()


def _moved(value: Any, device: torch.device) -> Any:
    """A tensor, or a dataclass of tensors and numbers, moved to a device."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return value
    fields = {field.name: _moved(getattr(value, field.name), device) for field in dataclasses.fields(value)}
    return dataclasses.replace(value, **fields)

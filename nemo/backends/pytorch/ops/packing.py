"""Which of a padded batch's tokens a model works on, and how they stand.

Shapes: B batch, T tokens of a sequence with padding; N tokens worked on, K of them seen by others, R asked
for.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nemo.backends.pytorch.ops.attention import Padded, Sequences


@dataclass(frozen=True)
class Packing:
    """A batch without its padding.

    Attributes:
        tokens: [N] where the tokens stand among the B*T; None means that all are worked on.
        positions: [N] where each stands in its sequence.
        keys: [K] which of the N are no padding; None means all.
        sequences: the queries and the keys of every sequence, where all tokens ask.
        asked: [R] which of the N are asked for, in their order; None means all.
        restore: [R] puts what was computed for `asked` into the order it was asked for in.
        last_sequences: the same as `sequences` where only `asked` ask.
    """

    tokens: Tensor | None
    positions: Tensor
    keys: Tensor | None
    sequences: Sequences | Padded
    asked: Tensor | None = None
    restore: Tensor | None = None
    last_sequences: Sequences | None = None

    @classmethod
    def of(
        cls, shape: tuple[int, int], attention_mask: Tensor | None, rows: Tensor | None, buckets: int = 0
    ) -> "Packing":
        """The packing of a batch.

        Args:
            shape: B, T.
            attention_mask: [B, T], 0 for padding; None means that there is none.
            rows: [R] which of the B*T tokens the model is asked for; None means all, padding too.
            buckets: 0 works on exactly the tokens that are no padding. Another number rounds N up to one of
                so many sizes, for programs that are compiled for their sizes: what fills it up makes a
                sequence of
                    its
                own, which nobody reads, and the longest sequences are bounds that hold for every batch.
        """
        batch, length = shape
        device = next((x.device for x in (attention_mask, rows) if x is not None), None)
        whole = torch.full((batch,), length, device=device)
        real = None if attention_mask is None else attention_mask.flatten() != 0
        if real is not None and real.all():
            real = None
        lengths = whole if real is None else real.view(shape).sum(1)
        longest = length if buckets or not batch else int(lengths.max())

        # Padding can be left out unless somebody asks for it.
        if real is None or rows is None or not real[rows].all():
            positions = torch.arange(length, device=device).repeat(batch)
            keys = None if real is None else real.nonzero().squeeze(1)
            packing = cls(
                None, positions, keys, Sequences(_offsets(whole), _offsets(lengths), length, longest)
            )
            return packing if rows is None else packing._asked_for(rows, rows, shape, buckets)

        tokens = real.nonzero().squeeze(1)
        places = torch.searchsorted(tokens, rows)
        if buckets:
            size = -(-batch * length // buckets)
            filling = -len(tokens) % size
            tokens, lengths = F.pad(tokens, (0, filling)), F.pad(lengths, (0, 1), value=filling)
            longest = max(longest, size)
        offsets = _offsets(lengths)
        packing = cls(tokens, tokens % length, None, Sequences(offsets, offsets, longest, longest))
        return packing._asked_for(rows, places, shape, buckets)

    @classmethod
    def padded(cls, input_ids: Tensor, attention_mask: Tensor | None) -> "Packing":
        """A batch as it is, padding and all: no shape depends on what is in it, so the program can be
        exported.

        Args:
            input_ids: [B, T].
            attention_mask: [B, T], 0 for padding; None means that there is none.
        """
        positions = torch.ones_like(input_ids).cumsum(1).flatten() - 1
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        return cls(None, positions, None, Padded(mask != 0))

    def _asked_for(self, rows: Tensor, places: Tensor, shape: tuple[int, int], buckets: int) -> "Packing":
        """The same where only `rows` among the B*T, at `places` among the N, are asked for."""
        assert isinstance(self.sequences, Sequences)
        order = rows.argsort(stable=True)
        counts = torch.bincount(rows // shape[1], minlength=len(self.sequences.keys) - 1)
        # A row may be asked for more than once, but only as often as there are rows.
        longest = len(rows) if buckets or not len(counts) else int(counts.max())
        last = Sequences(_offsets(counts), self.sequences.keys, longest, self.sequences.longest_keys)
        return dataclasses.replace(self, asked=places[order], restore=order.argsort(), last_sequences=last)

    def to(self, device: torch.device) -> "Packing":
        """The same with its tensors on another device."""
        return _moved(self, device)


def _offsets(lengths: Tensor) -> Tensor:
    return F.pad(lengths.cumsum(0), (1, 0)).int()


def _moved(value: Any, device: torch.device) -> Any:
    """The same tensor, or the same dataclass of tensors and numbers, on a device."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return value
    fields = {field.name: _moved(getattr(value, field.name), device) for field in dataclasses.fields(value)}
    return dataclasses.replace(value, **fields)

"""Row pruning: a pass over the graph that finds rows whose result is never read.

A loss declares which rows of its (B, T, ...) inputs it reads (`LossNM.row_mask`); a classifier of whole
sequences reads only their first token (`TrainableNM.reads_first_token`). A token-wise module (`token_wise`)
whose readers all read the rows of one mask is computed on these rows only: the vocabulary projection of a
masked language model runs on 15% of the tokens. A module that can select rows (`selects_rows`) returns only
those, so the encoder's last layer skips the others too.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from nemo.core.graph import Call, NmTensor

FIRST_TOKEN: Final = "first token"
# A set of rows: those where a mask is not 0, or the first token of every sequence.
RowSet = NmTensor | str


@dataclass(frozen=True)
class ReadRows:
    """The rows that the calls of a graph read.

    Attributes:
        reads: calls that need only these rows of their (B, T, ...) inputs.
        selects: calls that must return only these rows of their output, one set after the other.
    """

    reads: dict[Call, RowSet]
    selects: dict[Call, tuple[RowSet, ...]]


def rows_read(calls: Sequence[Call], wanted: Collection[NmTensor]) -> ReadRows:
    """Find the rows that are read, from the losses back to the inputs.

    Args:
        calls: the calls of the graph, in topological order.
        wanted: tensors that must be computed in full.
    """
    readers: dict[NmTensor, list[Call]] = {}
    for call in calls:
        for tensor in call.inputs.values():
            readers.setdefault(tensor, []).append(call)

    reads: dict[Call, RowSet] = {}
    selects: dict[Call, tuple[RowSet, ...]] = {}
    for call in reversed(calls):
        module = call.module
        if getattr(module, "reads_first_token", False):
            reads[call] = FIRST_TOKEN
            continue
        outputs = [call.output(port) for port in module.output_ports]
        demanded = dict.fromkeys(
            _rows_of_loss(reader) or reads.get(reader)
            for output in outputs
            for reader in readers.get(output, ())
        )
        if not demanded or None in demanded or set(outputs) & set(wanted):
            continue
        rows = tuple(row for row in demanded if row is not None)
        if getattr(module, "token_wise", False) and len(rows) == 1:
            reads[call] = rows[0]
        elif getattr(module, "selects_rows", False):
            selects[call] = rows
    for call in calls:  # a loss reads gathered rows if its logits are gathered
        mask = _rows_of_loss(call)
        if mask is not None and any(t.call in reads or t.call in selects for t in call.inputs.values()):
            reads[call] = mask
    return ReadRows(reads, selects)


def _rows_of_loss(call: Call) -> NmTensor | None:
    return call.inputs.get(getattr(call.module, "row_mask", None) or "")

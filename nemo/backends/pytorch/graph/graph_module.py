"""A graph as a single torch module, which keeps tied weights tied.

Shapes: B batch, T tokens, R gathered rows.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nemo.backends.pytorch.graph.fusion import fused_heads
from nemo.backends.pytorch.graph.row_pruning import FIRST_TOKEN, ReadRows, RowSet, rows_read
from nemo.backends.pytorch.nm import DataLayerNM, LossNM
from nemo.backends.pytorch.ops.packing import ROW_BUCKETS_PER_BUCKET, bucket_size
from nemo.core.graph import Call, NmTensor, calls_leading_to
from nemo.utils.errors import UsageError

FIRST_TOKEN_BUCKETS = 8
"""Sizes that the first tokens of a batch are rounded up to, for heads that read only these."""

Statistics = dict[str, tuple[Tensor, Tensor]]


class GraphModule(nn.Module):
    """The graph that computes `outputs`.

    Args:
        outputs: the tensors to compute.
        passes: compute only the rows that are read (`row_pruning`), and no logits that only a loss reads
            (`fusion`).

    Attributes:
        source: the data layer that feeds the graph.
        fed: its output tensors, in the order of its ports.
        neural_modules: the modules by unique name: the class name, numbered from the second one on.
        losses: the calls of loss modules, in the order of `counts`.
        given: the tensors that `forward` returns: `outputs` and all losses.

    Raises:
        UsageError: the graph has no data layer, or several.
    """

    def __init__(self, outputs: Sequence[NmTensor], passes: bool = True):
        super().__init__()
        calls = calls_leading_to(outputs)
        sources = [call for call in calls if isinstance(call.module, DataLayerNM)]
        if len(sources) != 1:
            raise UsageError(
                "a graph must have exactly one call of a data layer",
                found=", ".join(str(call.module) for call in sources) or "none",
                expected="exactly one",
            )
        self.outputs = tuple(dict.fromkeys(outputs))
        self.source: DataLayerNM = sources[0].module
        self.fed = [sources[0].output(port) for port in self.source.output_ports]
        self.calls = [call for call in calls if call is not sources[0]]
        self.neural_modules = nn.ModuleDict(modules_by_name(call.module for call in self.calls))
        self.losses = [call for call in self.calls if isinstance(call.module, LossNM)]
        self.given = tuple(dict.fromkeys([*self.outputs, *(call.output("loss") for call in self.losses)]))
        self._read_rows = rows_read(self.calls, self.outputs) if passes else ReadRows({}, {})
        self._heads = fused_heads(self.calls, self.outputs) if passes else {}
        decoders = [head.module.decoder.weight for head in self._heads.values()]
        # The head gives their weights a dense gradient, to which the gradient of the looked-up rows is added.
        self._tied_embeddings = [
            module
            for module in self.modules()
            if isinstance(module, nn.Embedding) and any(module.weight is weight for weight in decoders)
        ]
        counted = [call.inputs[p] for call in self.losses for p in _count_ports(call)]
        self._calls_before_counts = [c for c in calls_leading_to(counted) if c is not sources[0]]

    def plan_rows(self, batch: Sequence[Any], buckets: int = 0) -> "RowPlan":
        """Find the rows of a batch that the model will compute, before the batch is moved to a GPU.

        Args:
            batch: a batch of the data layer.
            buckets: round the numbers of tokens and rows up to a few sizes (see `Packing`); 0 keeps them
                exact.
        """
        values = dict(zip(self.fed, batch, strict=True))
        indices: dict[RowSet, Tensor] = {}
        packings: dict[Call, Any] = {}
        for call in self.calls:
            wanted = self._read_rows.selects.get(call, ())
            read = [*call.inputs.values(), *(rows for rows in wanted if rows != FIRST_TOKEN)]
            packing = getattr(call.module, "packing", None)
            if packing is None or any(tensor not in values for tensor in read):
                continue
            inputs = {port: values[tensor] for port, tensor in call.inputs.items()}
            size, length = next(iter(inputs.values())).shape[:2]
            known = {rows: _indices(rows, values, size, length, buckets) for rows in wanted}
            indices.update(known)
            requested = torch.cat(list(known.values())) if wanted else None
            packings[call] = packing(rows=requested, buckets=buckets, **inputs)
        return RowPlan(indices, packings, buckets)

    def counts(self, batch: Sequence[Any]) -> Tensor:
        """The number of items of each loss in this batch, [len(losses)] float; runs no model."""
        values = dict(zip(self.fed, batch, strict=True))
        with torch.no_grad():
            for call in self._calls_before_counts:
                _run(call, values, {p: values[t] for p, t in call.inputs.items()})
            counts = [
                call.module.count(**{p: values[call.inputs[p]] for p in _count_ports(call)})
                for call in self.losses
            ]
        return torch.stack(counts) if counts else torch.zeros(0)

    def forward(
        self,
        batch: Sequence[Any],
        divisors: Tensor | None = None,
        statistics: dict[NmTensor, Statistics] | None = None,
        known: Mapping[NmTensor, Any] | None = None,
        row_plan: "RowPlan | None" = None,
    ) -> dict[NmTensor, Any]:
        """The values of the tensors in `given`.

        Args:
            batch: a batch of the data layer, in the order of its ports.
            divisors: the divisor of each loss's sum, [len(losses)]; None means the number of its items in
                this batch. A step of several micro-batches passes the number over all of them.
            statistics: dict to fill with the sums and counts of each loss, for evaluation.
            known: values from an earlier pass over the same batch, which are not computed again.
            row_plan: the plan of this batch, if there is one already.
        """
        values: dict[NmTensor, Any] = {**dict(zip(self.fed, batch, strict=True)), **(known or {})}
        some_rows = _KnownRows(values, row_plan or self.plan_rows(batch))
        heads = set(self._heads.values()) if statistics is None else set()
        with _sparse_gradients(self._tied_embeddings if heads else ()):
            self._compute(values, some_rows, heads, divisors, statistics, known)
        return {tensor: values[tensor] for tensor in self.given}

    def _compute(
        self,
        values: dict[NmTensor, Any],
        some_rows: "_KnownRows",
        heads: Collection[Call],
        divisors: Tensor | None,
        statistics: dict[NmTensor, Statistics] | None,
        known: Mapping[NmTensor, Any] | None,
    ) -> None:
        """Fill `values`, call by call; for `heads`, compute only the features."""
        features: dict[Call, Tensor] = {}
        divisor_of = dict(zip(self.losses, divisors, strict=True)) if divisors is not None else {}

        for call in self.calls:
            if known is not None and all(call.output(port) in known for port in call.module.output_ports):
                continue
            rows = self._read_rows.reads.get(call)
            head = self._heads.get(call)
            fused = head is not None and head in heads
            read = [(port, t) for port, t in call.inputs.items() if not (fused and t.call is head)]
            if rows is None:
                inputs = {port: values[tensor] for port, tensor in read}
            else:
                inputs = {port: some_rows.at(rows, tensor) for port, tensor in read}

            if call in heads:
                features[call] = call.module.features(**inputs)
                continue
            if call in self._read_rows.selects:
                some_rows.select(call, inputs, self._read_rows.selects[call])
                continue
            if not isinstance(call.module, LossNM):
                known_there = values if rows is None or rows == FIRST_TOKEN else some_rows.known[rows]
                _run(call, known_there, {**inputs, **some_rows.packing(call, inputs)})
                if rows == FIRST_TOKEN:
                    _leave_out_filling(call, values, size=len(values[self.fed[0]]))
                continue
            loss = call.output("loss")
            if statistics is not None:
                statistics[loss] = call.module.statistics(**inputs)
                total, count = statistics[loss]["loss"]
                values[loss] = total / count.clamp(min=1)
                continue
            if head is not None and fused:
                loss_of: Any = call.module  # a `LossNM` that `takes_features`
                total = loss_of.total_of_features(features[head], head.module.decoder, **inputs)
            else:
                total = call.module.total(**inputs)
            divisor = divisor_of[call] if call in divisor_of else call.module.count_of(inputs)
            values[loss] = total / divisor.clamp(min=1)


@dataclass(frozen=True)
class RowPlan:
    """The rows of a batch to compute.

    Attributes:
        indices: their indices among the B*T tokens, [R].
        packings: the packing of each call's inputs and requested rows; see `TrainableNM`.
        buckets: rounds numbers of rows that are not known yet; see `GraphModule.plan_rows`.
    """

    indices: dict[RowSet, Tensor]
    packings: dict[Call, Any]
    buckets: int = 0

    def to(self, device: torch.device) -> "RowPlan":
        """This plan on `device`."""
        return RowPlan(
            {rows: indices.to(device, non_blocking=True) for rows, indices in self.indices.items()},
            {call: packing.to(device) for call, packing in self.packings.items()},
            self.buckets,
        )


def _indices(
    rows: RowSet, values: Mapping[NmTensor, Any], batch: int, tokens: int, buckets: int = 0
) -> Tensor:
    """Indices of the rows among the B*T, [R]; rounded up with rows that are ignored.

    These have a mask of 0; of first tokens they repeat the last one, and its results are dropped.
    """
    if isinstance(rows, str):
        first_tokens = torch.arange(0, batch * tokens, tokens)
        filling = -batch % bucket_size(batch, FIRST_TOKEN_BUCKETS) if buckets else 0
        return torch.cat([first_tokens, first_tokens[-1:].expand(filling)])
    mask = values[rows].flatten()
    indices, others = mask.nonzero().squeeze(1), (mask == 0).nonzero().squeeze(1)
    if buckets == 0 or len(others) == 0:
        return indices
    step = bucket_size(batch * tokens, ROW_BUCKETS_PER_BUCKET * buckets)
    return torch.cat([indices, others[:1].expand(-len(indices) % step)])


@contextmanager
def _sparse_gradients(embeddings: Iterable[nn.Embedding]) -> Iterator[None]:
    """Give these embeddings sparse gradients inside the block; other code expects dense ones."""
    for embedding in embeddings:
        embedding.sparse = True
    try:
        yield
    finally:
        for embedding in embeddings:
            embedding.sparse = False


class _KnownRows:
    """Tensors of which only some rows are known; others are gathered on first use."""

    def __init__(self, values: dict[NmTensor, Any], plan: RowPlan):
        self._values = values
        self._plan = plan
        self._indices = dict(plan.indices)
        self.known: dict[RowSet, dict[NmTensor, Tensor]] = {}

    def indices(self, rows: RowSet, batch: int, tokens: int) -> Tensor:
        """Indices of the rows among the B*T, [R]."""
        if rows not in self._indices:
            self._indices[rows] = _indices(rows, self._values, batch, tokens, self._plan.buckets)
        return self._indices[rows]

    def at(self, rows: RowSet, tensor: NmTensor) -> Tensor:
        """The rows of a tensor: (R, ...), or (B, 1, ...) for the first token."""
        known = self.known.setdefault(rows, {})
        if tensor not in known:
            whole = self._values[tensor]
            if rows == FIRST_TOKEN:
                known[tensor] = whole[:, :1]
            else:
                known[tensor] = whole.flatten(0, 1)[self.indices(rows, *whole.shape[:2])]
        return known[tensor]

    def packing(
        self, call: Call, inputs: Mapping[str, Any], requested: Tensor | None = None
    ) -> dict[str, Any]:
        """The argument `packing` for a module that takes one; created here if the plan has none."""
        make = getattr(call.module, "packing", None)
        if make is None:
            return {}
        planned = self._plan.packings.get(call)
        return {"packing": planned or make(rows=requested, buckets=self._plan.buckets, **inputs)}

    def select(self, call: Call, inputs: Mapping[str, Any], wanted: Sequence[RowSet]) -> None:
        """Run a module that returns only the requested rows."""
        shape = next(iter(inputs.values())).shape
        device = next(iter(inputs.values())).device
        indices = [self.indices(rows, *shape[:2]).to(device) for rows in wanted]
        (port,) = call.module.output_ports
        requested = torch.cat(indices)
        packing = self.packing(call, inputs, requested)
        output = call.module(force_pt=True, rows=requested, **packing, **inputs)
        for rows, found in zip(wanted, output.split([len(i) for i in indices]), strict=True):
            self.known.setdefault(rows, {})[call.output(port)] = (
                found.unsqueeze(1) if rows == FIRST_TOKEN else found
            )


def modules_by_name(modules: Iterable[Any]) -> dict[str, Any]:
    """Modules by class name; the second BERT in a graph is `BERT_2`."""
    names: dict[str, Any] = {}
    for module in dict.fromkeys(modules):
        name, number = str(module), 1
        while name in names:
            number += 1
            name = f"{module}_{number}"
        names[name] = module
    return names


def _count_ports(call: Call) -> list[str]:
    return [port for port in call.module.count_ports if port in call.inputs]


def _leave_out_filling(call: Call, values: dict[NmTensor, Any], size: int) -> None:
    """Drop the padding sequences from the outputs: keep the first `size`."""
    for port in call.module.output_ports:
        values[call.output(port)] = values[call.output(port)][:size]


def _run(call: Call, values: dict[NmTensor, Any], inputs: Mapping[str, Any]) -> None:
    result = call.module(force_pt=True, **inputs)
    ports = list(call.module.output_ports)
    results = (result,) if len(ports) == 1 else result
    for port, value in zip(ports, results, strict=True):
        values[call.output(port)] = value

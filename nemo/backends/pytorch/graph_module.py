"""A graph as ONE torch module: wrapped, compiled and saved as one, its tied weights tied.

Shapes: B batch, T tokens, R gathered rows.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nemo.backends.pytorch.demand import FIRST_TOKEN, Demand, Rows, row_demand
from nemo.backends.pytorch.nm import DataLayerNM, LossNM
from nemo.core.graph import Call, NmTensor, calls_leading_to
from nemo.utils.errors import UsageError

Statistics = dict[str, tuple[Tensor, Tensor]]


class GraphModule(nn.Module):
    """Everything that leads to `outputs`.

    Args:
        outputs: the tensors to compute.
        gather_rows: compute only the rows that are read, see `demand`.

    Attributes:
        source: the data layer that feeds the graph.
        fed: the tensors it gives, in the order of its ports.
        parts: the modules by a name of their own: the class, numbered from the second one on.
        losses: the calls of loss modules, in the order of `counts`.
        given: the tensors that `forward` gives the values of: `outputs` and every loss.

    Raises:
        UsageError: the graph has no data layer, or several.
    """

    def __init__(self, outputs: Sequence[NmTensor], gather_rows: bool = True):
        super().__init__()
        calls = calls_leading_to(outputs)
        sources = [call for call in calls if isinstance(call.module, DataLayerNM)]
        if len(sources) != 1:
            raise UsageError(
                "a graph is fed by one call of one data layer",
                found=", ".join(str(call.module) for call in sources) or "none",
                expected="exactly one",
            )
        self.outputs = tuple(dict.fromkeys(outputs))
        self.source: DataLayerNM = sources[0].module
        self.fed = [sources[0].output(port) for port in self.source.output_ports]
        self.calls = [call for call in calls if call is not sources[0]]
        self.parts = nn.ModuleDict(named_parts(call.module for call in self.calls))
        self.losses = [call for call in self.calls if isinstance(call.module, LossNM)]
        self.given = tuple(dict.fromkeys([*self.outputs, *(call.output("loss") for call in self.losses)]))
        self._demand = row_demand(self.calls, self.outputs) if gather_rows else Demand({}, {})
        counted = [call.inputs[p] for call in self.losses for p in _count_ports(call)]
        self._calls_before_counts = [c for c in calls_leading_to(counted) if c is not sources[0]]

    def counts(self, batch: Sequence[Any]) -> Tensor:
        """How many items each loss has in this batch, [len(losses)] float; no model is run for it."""
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
    ) -> dict[NmTensor, Any]:
        """Values of the tensors in `given`.

        Args:
            batch: what the data layer gave, in the order of its ports.
            divisors: for each loss what its sum is divided by, [len(losses)]; None means the number of its
                items in this batch. A step of several batches passes the number over all of them.
            statistics: filled with every loss's sums and counts, for evaluation.
            known: values from an earlier pass over the same batch, which are not computed again.
        """
        values: dict[NmTensor, Any] = {**dict(zip(self.fed, batch, strict=True)), **(known or {})}
        parts = _Parts(values)
        divisor_of = dict(zip(self.losses, divisors, strict=True)) if divisors is not None else {}

        for call in self.calls:
            if known is not None and all(call.output(port) in known for port in call.module.output_ports):
                continue
            rows = self._demand.reads.get(call)
            if rows is None:
                inputs = {port: values[tensor] for port, tensor in call.inputs.items()}
            else:
                inputs = {port: parts.at(rows, tensor) for port, tensor in call.inputs.items()}

            if call in self._demand.selects:
                parts.select(call, inputs, self._demand.selects[call])
                continue
            if not isinstance(call.module, LossNM):
                _run(call, values if rows is None or rows == FIRST_TOKEN else parts.known[rows], inputs)
                continue
            loss = call.output("loss")
            if statistics is not None:
                statistics[loss] = call.module.statistics(**inputs)
                total, count = statistics[loss]["loss"]
                values[loss] = total / count.clamp(min=1)
            elif call in divisor_of:
                values[loss] = call.module.total(**inputs) / divisor_of[call].clamp(min=1)
            else:
                values[loss] = call.module(**inputs)

        return {tensor: values[tensor] for tensor in self.given}


class _Parts:
    """Tensors of which only some rows are known; the others are gathered when they are first asked for."""

    def __init__(self, values: dict[NmTensor, Any]):
        self._values = values
        self._indices: dict[Rows, Tensor] = {}
        self.known: dict[Rows, dict[NmTensor, Tensor]] = {}

    def indices(self, rows: Rows, batch: int, tokens: int) -> Tensor:
        """Where the rows are among B*T, [R]."""
        if rows not in self._indices:
            self._indices[rows] = (
                torch.arange(0, batch * tokens, tokens)
                if isinstance(rows, str)
                else self._values[rows].flatten().nonzero().squeeze(1)
            )
        return self._indices[rows]

    def at(self, rows: Rows, tensor: NmTensor) -> Tensor:
        """A tensor at these rows: (R, ...), or (B, 1, ...) for the first token."""
        known = self.known.setdefault(rows, {})
        if tensor not in known:
            whole = self._values[tensor]
            if rows == FIRST_TOKEN:
                known[tensor] = whole[:, :1]
            else:
                known[tensor] = whole.flatten(0, 1)[self.indices(rows, *whole.shape[:2])]
        return known[tensor]

    def select(self, call: Call, inputs: Mapping[str, Any], wanted: Sequence[Rows]) -> None:
        """Run a module that hands out only the rows that are wanted."""
        shape = next(iter(inputs.values())).shape
        device = next(iter(inputs.values())).device
        indices = [self.indices(rows, *shape[:2]).to(device) for rows in wanted]
        (port,) = call.module.output_ports
        output = call.module(force_pt=True, rows=torch.cat(indices), **inputs)
        for rows, part in zip(wanted, output.split([len(i) for i in indices]), strict=True):
            self.known.setdefault(rows, {})[call.output(port)] = (
                part.unsqueeze(1) if rows == FIRST_TOKEN else part
            )


def named_parts(modules: Iterable[Any]) -> dict[str, Any]:
    """Modules by class name; the second BERT of a graph is `BERT_2`."""
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


def _run(call: Call, values: dict[NmTensor, Any], inputs: Mapping[str, Any]) -> None:
    result = call.module(force_pt=True, **inputs)
    ports = list(call.module.output_ports)
    results = (result,) if len(ports) == 1 else result
    for port, value in zip(ports, results, strict=True):
        values[call.output(port)] = value

"""Running graphs without training them: one pass over the data, dropout off; and a cache between passes."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Any

import torch
from torch import Tensor

from nemo.backends.pytorch.environment import to_device
from nemo.backends.pytorch.graph_module import GraphModule, Statistics
from nemo.backends.pytorch.precision import Precision
from nemo.core.graph import NmTensor, calls_leading_to
from nemo.utils.errors import UsageError

Batch = tuple[Sequence[Any], Mapping[NmTensor, Any]]
"""What the data layer gave, and what is known of it from an earlier pass."""

Values = dict[NmTensor, Any]


def first_epoch(graph: GraphModule) -> Iterator[Batch]:
    """The batches of epoch 0, of which nothing is known."""
    with closing(graph.source.batches(epoch=0)) as batches:
        for batch in batches:
            yield batch, {}


def run_batches(
    graph: GraphModule,
    batches: Iterable[Batch],
    device: torch.device,
    precision: Precision,
    run: Callable[[Callable[[], Values]], Values] = lambda compute: compute(),
) -> Iterator[tuple[Values, dict[NmTensor, Statistics]]]:
    """The values of a graph in evaluation mode, and every loss's sums and counts, batch by batch.

    Args:
        run: what a pass is run by.
    """
    was_training = {part: part.training for part in graph.parts.values()}
    graph.eval()
    try:
        for batch, known in batches:
            statistics: dict[NmTensor, Statistics] = {}
            on_device = dict(zip(known, to_device(known.values(), device), strict=True))
            plan = graph.plan(batch, buckets=precision.buckets).to(device)
            with torch.no_grad(), precision.autocast():
                values = run(partial(graph, to_device(batch, device), None, statistics, on_device, plan))
            yield values, statistics
    finally:
        for part, training in was_training.items():
            part.train(training)


class InferenceCache:
    """Values of every tensor in every batch of an earlier inference."""

    def __init__(self) -> None:
        self.passes: list[Values] = []

    def check(self, fill: bool, use: bool) -> None:
        """Refuse what `infer` cannot do.

        Raises:
            UsageError: to fill a cache that is not empty, to use an empty one, or both at once.
        """
        if fill and use:
            raise UsageError("cache and use_cache were both set.", fix="set one of them")
        if fill and self.passes:
            raise UsageError("cache was set but was not empty", fix="call clear_cache(), or set use_cache")
        if use and not self.passes:
            raise UsageError("use_cache was set, but cache was empty", fix="infer with cache=True first")

    def batches(self, graph: GraphModule) -> Iterator[Batch]:
        """The batches of that inference with all that is known of them.

        Raises:
            UsageError: the graph is fed by other data.
        """
        if not set(graph.fed) <= set(self.passes[0]):
            raise UsageError(
                "the cache is of other data",
                where=graph.source,
                fix="wire new modules to tensors of the cached graph, or call clear_cache()",
            )
        return (([known[tensor] for tensor in graph.fed], known) for known in self.passes)


def everything_before(tensors: Iterable[NmTensor]) -> list[NmTensor]:
    """The tensors and all that they are computed from."""
    return [call.output(port) for call in calls_leading_to(tensors) for port in call.module.output_ports]


def on_cpu(values: Values) -> Values:
    """The same, with tensors moved to the CPU."""
    return {tensor: value.cpu() if isinstance(value, Tensor) else value for tensor, value in values.items()}

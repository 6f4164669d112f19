"""Evaluation and inference: one pass over the data with dropout off, and a cache between passes."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nemo.backends.pytorch.checkpoints.module_state import restore_weights
from nemo.backends.pytorch.environment import to_device
from nemo.backends.pytorch.graph.graph_module import GraphModule, Statistics
from nemo.backends.pytorch.training.precision import Precision
from nemo.backends.pytorch.training.replicas import Replicas
from nemo.core.actions import EvaluatedBatch, InferenceOptions, NmTensors
from nemo.core.graph import NmTensor, calls_leading_to
from nemo.core.settings import Optimization
from nemo.utils.errors import UsageError
from nemo.utils.logging import logging
from nemo.utils.lookup import choose

Batch = tuple[Sequence[Any], Mapping[NmTensor, Any]]
"""A batch of the data layer, and the cached values of an earlier pass."""

Values = dict[NmTensor, Any]


def first_epoch(graph: GraphModule) -> Iterator[Batch]:
    """The batches of epoch 0, without cached values."""
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
    """The values of a graph in evaluation mode, and each loss's sums and counts, batch by batch.

    Args:
        run: called with the function that computes a batch; returns its values.
    """
    was_training = {module: module.training for module in graph.neural_modules.values()}
    graph.eval()
    try:
        for batch, known in batches:
            statistics: dict[NmTensor, Statistics] = {}
            on_device = dict(zip(known, to_device(known.values(), device), strict=True))
            rows = graph.plan_rows(batch, buckets=precision.buckets).to(device)
            with torch.no_grad(), precision.autocast():
                values = run(partial(graph, to_device(batch, device), None, statistics, on_device, rows))
            yield values, statistics
    finally:
        for module, training in was_training.items():
            module.train(training)


def checked(options: InferenceOptions) -> InferenceOptions:
    """The options of `infer`, unchanged. Raises a UsageError for an unknown one; the nearest is named."""
    for name in options:
        choose(InferenceOptions.__annotations__, name, what="option of infer")
    return options


class Inference:
    """Evaluation and inference, which do not change the weights.

    Args:
        device, level: see `PtActions`.
        replicas: the processes whose weights these are.
    """

    def __init__(self, device: torch.device, level: Optimization, replicas: Replicas):
        self._device, self._level, self._replicas = device, level, replicas
        self._cache = InferenceCache()

    def evaluate(self, tensors: Sequence[NmTensor]) -> Iterator[EvaluatedBatch]:
        """The values of `tensors` for each batch of one pass over their data, with dropout off."""
        graph = GraphModule(tensors)
        for values, statistics in self._run(graph, first_epoch(graph)):
            self._replicas.world.now("evaluating")
            yield EvaluatedBatch({tensor: values[tensor] for tensor in tensors}, statistics)

    def infer(
        self,
        tensors: NmTensors,
        checkpoint_dir: str | Path | None = None,
        ckpt_pattern: str = "",
        verbose: bool = True,
        cache: bool = False,
        use_cache: bool = False,
        offload_to_cpu: bool = True,
        modules_to_restore: Collection[Any] | None = None,
    ) -> list[list[Any]]:
        """The values of `tensors` in every batch of their data; see `NeuralModuleFactory.infer`.

        Raises:
            UsageError: contradictory cache options, or a cache of different data.
        """
        tensors = [tensors] if isinstance(tensors, NmTensor) else list(tensors)
        self._cache.check(fill=cache, use=use_cache)
        graph = GraphModule(everything_before(tensors) if cache else tensors)
        if checkpoint_dir is not None:
            restore_weights(graph.neural_modules, checkpoint_dir, ckpt_pattern, modules_to_restore)
        passes = []
        batches = self._cache.batches(graph) if use_cache else first_epoch(graph)
        for values, _ in self._run(graph, batches):
            passes.append(on_cpu(values) if offload_to_cpu else values)
            if verbose:
                logging.info("inferred batch %d", len(passes))
        if cache:
            self._cache.passes = passes
        return [[values[tensor] for values in passes] for tensor in tensors]

    def clear_cache(self) -> None:
        """Empty the cache of `infer(cache=True)`."""
        self._cache = InferenceCache()

    def _run(
        self, graph: GraphModule, batches: Iterable[Batch]
    ) -> Iterator[tuple[Values, dict[NmTensor, Statistics]]]:
        self._replicas.move(graph)
        precision = Precision(self._level, self._device)
        return run_batches(graph, batches, self._device, precision, self._replicas.run)


class InferenceCache:
    """The values of all tensors in all batches of an earlier inference."""

    def __init__(self) -> None:
        self.passes: list[Values] = []

    def check(self, fill: bool, use: bool) -> None:
        """Check the cache options of `infer`.

        Raises:
            UsageError: `fill` with a filled cache, `use` with an empty one, or both at once.
        """
        if fill and use:
            raise UsageError("cache and use_cache were both set", fix="set one of them")
        if fill and self.passes:
            raise UsageError("cache was set but was not empty", fix="call clear_cache(), or set use_cache")
        if use and not self.passes:
            raise UsageError("use_cache was set, but cache was empty", fix="infer with cache=True first")

    def batches(self, graph: GraphModule) -> Iterator[Batch]:
        """The batches of that inference, with their cached outputs.

        Raises:
            UsageError: the graph has a different data layer.
        """
        if not set(graph.fed) <= set(self.passes[0]):
            raise UsageError(
                "the cache was filled from different data",
                where=graph.source,
                fix="wire new modules to tensors of the cached graph, or call clear_cache()",
            )
        return (([known[tensor] for tensor in graph.fed], known) for known in self.passes)


def everything_before(tensors: Iterable[NmTensor]) -> list[NmTensor]:
    """The tensors and all tensors that they are computed from."""
    return [call.output(port) for call in calls_leading_to(tensors) for port in call.module.output_ports]


def on_cpu(values: Values) -> Values:
    """`values` with tensors moved to the CPU."""
    return {tensor: value.cpu() if isinstance(value, Tensor) else value for tensor, value in values.items()}

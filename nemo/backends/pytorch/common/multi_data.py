"""A data layer that combines several others."""

import math
from collections.abc import Generator, Mapping, Sequence
from enum import Enum
from typing import Any

import numpy as np
from torch.utils.data import Dataset, default_collate

from nemo.backends.pytorch.nm import DataLayerNM
from nemo.core.neural_types import NeuralType
from nemo.utils.errors import UsageError


class DataCombination(Enum):
    """How the samples of several data sets are combined."""

    CROSSPRODUCT = 1  # all combinations; the last data set varies fastest
    ZIP = 2  # samples with the same index


class MultiDataLayer(DataLayerNM):
    """Several data layers side by side, with the ports of all, in order.

    Only the layers' data sets and collate functions are used; batch size and order are this layer's. A
    repeated port name gets the number of its layer, from 0: `x`, `y`, `x_1`, `y_1`.

    Args:
        data_layers: layers that have a `dataset`.
        batch_size: B.
        shuffle: use a new order in every epoch.
        combination_mode: how samples are combined.
        port_names: names of all ports in order, in place of the layers' own.

    Raises:
        UsageError: no layers, or one without a `dataset`; ZIP of layers with different lengths; an unknown
            combination; or `port_names` that are too few, too many or not unique.
    """

    def __init__(
        self,
        data_layers: Sequence[DataLayerNM],
        batch_size: int,
        shuffle: bool = False,
        combination_mode: DataCombination = DataCombination.CROSSPRODUCT,
        port_names: Sequence[str] | None = None,
    ):
        if batch_size < 1:
            raise UsageError("out of range", where="batch_size", found=batch_size, expected="1 or more")
        _check_layers(data_layers, combination_mode)
        self.data_layers = list(data_layers)
        self.output_ports = _ports(data_layers, port_names)
        self.dataset = CombinedDataset([layer.dataset for layer in data_layers], combination_mode)
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.collate_fn = self._collate

    def batches(self, epoch: int, first: int = 0, stride: int = 1) -> Generator[Sequence[Any], None, None]:
        """Every `stride`th batch of an epoch, from batch `first` on; the last may be short."""
        self.dataset.set_epoch(epoch)
        yield from super().batches(epoch, first, stride)

    def _collate(self, samples: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Tensors in the order of the ports; each layer collates its own samples."""
        tensors: list[Any] = []
        for layer, of_layer in zip(self.data_layers, zip(*samples, strict=True), strict=True):
            batch = (layer.collate_fn or default_collate)(list(of_layer))
            tensors += [batch[p] for p in layer.output_ports] if isinstance(batch, Mapping) else batch
        return tensors


class CombinedDataset(Dataset):
    """Tuples of samples from several data sets.

    Args:
        datasets: map-style data sets.
        combination: CROSSPRODUCT, or ZIP, for data sets of the same length.
    """

    def __init__(self, datasets: Sequence[Any], combination: DataCombination):
        self.datasets = list(datasets)
        self.combination = combination
        self.lengths = [len(dataset) for dataset in datasets]

    def __len__(self) -> int:
        return self.lengths[0] if self.combination is DataCombination.ZIP else math.prod(self.lengths)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        if self.combination is DataCombination.ZIP:
            return tuple(dataset[index] for dataset in self.datasets)
        indices = np.unravel_index(index, self.lengths)
        return tuple(dataset[int(i)] for dataset, i in zip(self.datasets, indices, strict=True))

    def set_epoch(self, epoch: int) -> None:
        """Pass the epoch on to data sets whose samples depend on it."""
        for dataset in self.datasets:
            if hasattr(dataset, "set_epoch"):
                dataset.set_epoch(epoch)


def _check_layers(layers: Sequence[DataLayerNM], combination: DataCombination) -> None:
    if not layers:
        raise UsageError("no data layers to combine")
    if not isinstance(combination, DataCombination):
        raise UsageError(
            "unknown combination",
            where="combination_mode",
            found=repr(combination),
            expected=" or ".join(map(str, DataCombination)),
        )
    for layer in layers:
        if layer.dataset is None:
            raise UsageError(
                "cannot be combined: it has no indexable samples", where=layer, expected="a dataset"
            )
    lengths = [len(layer.dataset) for layer in layers]
    if combination is DataCombination.ZIP and len(set(lengths)) > 1:
        raise UsageError(
            "zipped data layers must have the same length",
            found=", ".join(f"{layer}: {length}" for layer, length in zip(layers, lengths, strict=True)),
        )


def _ports(layers: Sequence[DataLayerNM], names: Sequence[str] | None) -> dict[str, NeuralType]:
    types = [port for layer in layers for port in layer.output_ports.values()]
    names = _unique_names(layers) if names is None else names
    if len(names) != len(types) or len(set(names)) != len(names):
        raise UsageError(
            "every port needs a unique name",
            where="port_names",
            found=", ".join(names),
            expected=f"{len(types)} different names",
        )
    return dict(zip(names, types, strict=True))


def _unique_names(layers: Sequence[DataLayerNM]) -> list[str]:
    names: list[str] = []
    for number, layer in enumerate(layers):
        names += [f"{port}_{number}" if port in names else port for port in layer.output_ports]
    return names

"""Zeros in place of data, to test or time a graph.

Shapes: B batch.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from nemo.backends.pytorch.nm import DataLayerNM
from nemo.core.neural_types import AxisKind, NeuralType
from nemo.utils.errors import UsageError


class ZerosDataLayer(DataLayerNM):
    """Batches of zeros for any ports.

    Args:
        size: number of samples in an epoch.
        output_ports: names and types of the ports.
        dtype: such as `torch.float32`, or `torch.FloatTensor` as in NeMo 0.10; one for all ports, or a list
            with one per port. None means float32.
        batch_size: B.
        shapes: for each port, the shape of a sample without the batch axis. None takes the sizes of the
            port's axes, or 1 for axes without a size.

    Raises:
        UsageError: a number is out of range, or the number of dtypes or shapes is not that of the ports.
    """

    def __init__(
        self,
        size: int,
        output_ports: Mapping[str, NeuralType],
        dtype: Any,
        batch_size: int,
        shapes: Sequence[Sequence[int]] | None = None,
    ):
        for name, value in (("size", size), ("batch_size", batch_size)):
            if value < 1:
                raise UsageError("out of range", where=name, found=value, expected="1 or more")
        self.output_ports = dict(output_ports)
        self.batch_size = batch_size
        dtypes = dtype if isinstance(dtype, list | tuple) else [dtype] * len(output_ports)
        shapes = [_sample_shape(port) for port in output_ports.values()] if shapes is None else shapes
        for name, values in (("dtype", dtypes), ("shapes", shapes)):
            if len(values) != len(output_ports):
                raise UsageError(
                    "every output port needs one value",
                    where=name,
                    found=len(values),
                    expected=len(output_ports),
                )
        # `expand` keeps a single number in memory.
        self.dataset = torch.utils.data.TensorDataset(
            *(
                torch.zeros((), dtype=_torch_dtype(dtype)).expand(size, *shape)
                for dtype, shape in zip(dtypes, shapes, strict=True)
            )
        )


def _sample_shape(port: NeuralType) -> list[int]:
    return [axis.size or 1 for axis in port.axes or () if axis.kind is not AxisKind.Batch]


def _torch_dtype(dtype: Any) -> torch.dtype | None:
    """The dtype; that of a tensor class such as `torch.FloatTensor`."""
    return dtype if isinstance(dtype, torch.dtype | None) else dtype.dtype

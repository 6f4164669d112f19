"""Zeros in place of data, to try a graph out or to time it.

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
        size: samples in an epoch.
        output_ports: names and types of what comes out.
        dtype: `torch.float32`, or `torch.FloatTensor` as in 0.10; one for all ports or a list with one for
            each. None means float32.
        batch_size: B.
        shapes: for each port the shape of a sample, without the batch axis. None takes the sizes of the
            port's axes, 1 where an axis has none.

    Raises:
        UsageError: a number out of range, or not as many dtypes or shapes as ports.
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
        # One number in memory, however many samples there are.
        self.dataset = torch.utils.data.TensorDataset(
            *(
                torch.zeros((), dtype=_torch_dtype(dtype)).expand(size, *shape)
                for dtype, shape in zip(dtypes, shapes, strict=True)
            )
        )


def _sample_shape(port: NeuralType) -> list[int]:
    return [axis.size or 1 for axis in port.axes or () if axis.kind is not AxisKind.Batch]


def _torch_dtype(dtype: Any) -> torch.dtype | None:
    """`torch.FloatTensor` knows its dtype."""
    return dtype if isinstance(dtype, torch.dtype | None) else dtype.dtype

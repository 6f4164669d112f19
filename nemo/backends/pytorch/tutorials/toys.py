"""A one-layer network, points of a curve, and a loss: a minimal graph that learns something.

Shapes: B batch, D = 1.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nemo.backends.pytorch.nm import DataLayerNM, LossNM, TrainableNM
from nemo.core.neural_types import ChannelType, LabelsType, NeuralType
from nemo.utils.errors import UsageError
from nemo.utils.lookup import choose

_FUNCTIONS = {"sin": torch.sin, "cos": torch.cos}


class TaylorNet(TrainableNM):
    """A polynomial with learned coefficients, like the first terms of a Taylor series.

    Args:
        dim: number of coefficients, those of x^0 to x^(dim - 1).

    Attributes:
        fc1: the coefficients.

    Raises:
        UsageError: `dim` is below 1.
    """

    input_ports = {"x": NeuralType(("B", "D"), ChannelType())}
    output_ports = {"y_pred": NeuralType(("B", "D"), ChannelType())}

    def __init__(self, dim: int):
        super().__init__()
        if dim < 1:
            raise UsageError("out of range", where="dim", found=dim, expected="1 or more")
        self.dim = dim
        self.fc1 = nn.Linear(dim, 1)
        # The slopes of chained nets multiply: at full gain, 1 chain in 60 overflows float32.
        nn.init.xavier_uniform_(self.fc1.weight, gain=0.5)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1) -> (B, 1)."""
        return self.fc1(x ** torch.arange(self.dim, device=x.device))


class RealFunctionDataLayer(DataLayerNM):
    """Random points x of an interval, uniformly distributed, with f(x) as labels.

    Args:
        batch_size: B.
        f_name: f, "sin" or "cos".
        n: number of points.
        x_lo, x_hi: the interval.
        seed: seed of the random points and of their order.

    Raises:
        UsageError: an unknown function, or a number out of range.
    """

    output_ports = {
        "x": NeuralType(("B", "D"), ChannelType()),
        "y": NeuralType(("B", "D"), LabelsType()),
    }

    def __init__(
        self,
        batch_size: int,
        f_name: str = "sin",
        n: int = 1000,
        x_lo: float = -4,
        x_hi: float = 4,
        seed: int = 0,
    ):
        for name, value in (("batch_size", batch_size), ("n", n)):
            if value < 1:
                raise UsageError("out of range", where=name, found=value, expected="1 or more")
        f = choose(_FUNCTIONS, f_name, what="function")
        x = torch.empty(n, 1).uniform_(x_lo, x_hi, generator=torch.Generator().manual_seed(seed))
        self.dataset = torch.utils.data.TensorDataset(x, f(x))
        self.batch_size = batch_size
        self.seed = seed


class MSELoss(LossNM):
    """Mean squared error."""

    input_ports = {
        "predictions": NeuralType(("B", "D"), ChannelType()),
        "target": NeuralType(("B", "D"), LabelsType()),
    }
    count_ports = ("target",)

    def total(self, predictions: Tensor, target: Tensor) -> Tensor:
        """The sum of the squared differences: float32, a scalar."""
        return F.mse_loss(predictions.float(), target.float(), reduction="sum")

    def count(self, target: Tensor) -> Tensor:
        """The number of values."""
        return torch.tensor(float(target.numel()), device=target.device)

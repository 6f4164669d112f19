"""Layers for all collections: activations by name, perceptrons, BERT's initialization.

Shapes: D hidden size, C classes; `...` any leading axes.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nemo.backends.pytorch.ops.gelu import bias_gelu
from nemo.backends.pytorch.ops.linear import linear
from nemo.utils.errors import UsageError
from nemo.utils.lookup import choose

Activation = Callable[[Tensor], Tensor]


def _gelu_tanh(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


def _laplace(x: Tensor, mean: float = 0.707107, deviation: float = 0.282095) -> Tensor:
    """The normal CDF, which approximates a squared ReLU (Ma et al. 2022, arXiv 2209.10655)."""
    return 0.5 * (1 + torch.erf((x - mean) / (deviation * math.sqrt(2))))


def _quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


ACT2FN: dict[str, Activation] = {
    "gelu": F.gelu,
    "relu": F.relu,
    "silu": F.silu,
    "swish": F.silu,
    "tanh": torch.tanh,
    "gelu_new": _gelu_tanh,
    "gelu_pytorch_tanh": _gelu_tanh,
    "gelu_python_tanh": _gelu_tanh,
    "gelu_fast": _gelu_tanh,
    "gelu_accurate": _gelu_tanh,
    "gelu_python": F.gelu,
    "gelu_10": lambda x: F.gelu(x).clamp(-10, 10),
    "quick_gelu": _quick_gelu,
    "hardswish": F.hardswish,
    "laplace": _laplace,
    "leaky_relu": F.leaky_relu,
    "linear": lambda x: x,
    "mish": F.mish,
    "relu2": lambda x: F.relu(x).square(),
    "relu6": F.relu6,
    "sigmoid": torch.sigmoid,
    "sqrtsoftplus": lambda x: F.softplus(x).sqrt(),
}
"""Activations by Hugging Face's names, except those with weights (prelu, xielu)."""


def get_activation(activation: str | Activation) -> Activation:
    """The activation with this name; a function is returned unchanged.

    Raises:
        UsageError: there is no such activation.
    """
    return activation if callable(activation) else choose(ACT2FN, activation, what="activation")


def activation_name(activation: str | Activation) -> str | Activation:
    """The name of a function in ACT2FN; anything else is returned unchanged."""
    return next((name for name, function in ACT2FN.items() if function is activation), activation)


def dense_activation(x: Tensor, dense: nn.Linear, activation: Activation) -> Tensor:
    """activation(dense(x)), fused if possible, (..., I) -> (..., O)."""
    if activation is F.gelu and x.ndim == 2:
        return bias_gelu(linear(x, dense.weight), dense.bias)
    return activation(dense(x))


def init_transformer_weights(module: nn.Module, std: float = 0.02) -> None:
    """BERT's initialization, for `nn.Module.apply`: weights normal(0, std), biases 0, layer norms 1 and 0.

    An embedding's row for padding is 0.
    """
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=std)
    if isinstance(module, nn.Embedding) and module.padding_idx is not None:
        nn.init.zeros_(module.weight[module.padding_idx])
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
    if isinstance(module, nn.LayerNorm):
        module.reset_parameters()


class MultiLayerPerceptron(nn.Module):
    """Linear layers with activations between them: `layer0`, `layer1` (an activation), `layer2`, ...

    Args:
        hidden_size: width of the input and of every layer except the last.
        num_classes: width of the output.
        device: device of the weights.
        num_layers: number of linear layers.
        activation: a name in ACT2FN, or a function.
        log_softmax: return log-probabilities, in float32, instead of logits.
    """

    def __init__(
        self,
        hidden_size: int,
        num_classes: int,
        device: torch.device | str | None = None,
        num_layers: int = 2,
        activation: str | Activation = "relu",
        log_softmax: bool = True,
    ):
        super().__init__()
        if num_layers < 1:
            raise UsageError("a perceptron needs at least one layer", where="num_layers", found=num_layers)
        self.num_layers = num_layers
        self.activation = get_activation(activation)
        for i in range(num_layers - 1):
            setattr(self, f"layer{2 * i}", nn.Linear(hidden_size, hidden_size, device=device))
            setattr(self, f"layer{2 * i + 1}", self.activation)
        setattr(self, f"layer{2 * num_layers - 2}", nn.Linear(hidden_size, num_classes, device=device))
        self.log_softmax = log_softmax

    @property
    def last_linear_layer(self) -> nn.Linear:
        """The layer that computes the logits."""
        return getattr(self, f"layer{2 * self.num_layers - 2}")

    def features(self, hidden_states: Tensor) -> Tensor:
        """The input of the last linear layer, (..., D) -> (..., D)."""
        for i in range(2 * self.num_layers - 2):
            hidden_states = getattr(self, f"layer{i}")(hidden_states)
        return hidden_states

    def forward(self, hidden_states: Tensor) -> Tensor:
        """(..., D) -> (..., C)."""
        hidden_states = self.last_linear_layer(self.features(hidden_states))
        if self.log_softmax:
            return F.log_softmax(hidden_states, dim=-1, dtype=torch.float32)
        return hidden_states

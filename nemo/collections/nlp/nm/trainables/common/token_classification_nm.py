"""Heads that score every token.

Shapes: B batch, T tokens, D hidden size, C classes; R gathered rows may stand for B, T.
"""

from typing import Any

from torch import Tensor, nn

from nemo.backends.pytorch.common.layers import (
    ACT2FN,
    Activation,
    MultiLayerPerceptron,
    activation_name,
    dense_activation,
    get_activation,
    init_transformer_weights,
)
from nemo.backends.pytorch.nm import TrainableNM
from nemo.core.errors import NeuralPortNmTensorMismatchError
from nemo.core.graph import NmTensor
from nemo.core.neural_types import ChannelType, LogitsType, NeuralType

# NeMo 0.10's users import ACT2FN from here.
__all__ = ["ACT2FN", "BertTokenClassifier", "TokenClassifier"]

_HIDDEN_STATES = {"hidden_states": NeuralType(["B", "T", "D"], ChannelType())}
_TOKEN_SCORES = {"logits": NeuralType(["B", "T", "D"], LogitsType())}


class Head(TrainableNM):
    """Reads hidden states of one width and scores classes.

    Args:
        hidden_size: D.
        num_classes: C.
    """

    input_ports = _HIDDEN_STATES

    def __init__(self, hidden_size: int, num_classes: int):
        super().__init__()
        self.hidden_size, self.num_classes = hidden_size, num_classes
        if "activation" in self._init_params:  # configuration files contain names, not functions
            self._init_params["activation"] = activation_name(self._init_params["activation"])

    def connect(self, **inputs: NmTensor | None) -> Any:
        """Record a call; the encoder's `hidden_size`, if it has one, must be this one.

        Raises:
            NeuralPortNmTensorMismatchError: it is another. Also as `NeuralModule.connect`.
        """
        outputs = super().connect(**inputs)
        for port, tensor in inputs.items():
            producer = tensor and tensor.producer
            width = getattr(producer, "hidden_size", self.hidden_size)
            if width != self.hidden_size:
                raise NeuralPortNmTensorMismatchError(
                    f"{self}.{port} expects a different width than {producer} gives",
                    found=width,
                    expected=self.hidden_size,
                    fix=f"make {self} with hidden_size={width}",
                )
        return outputs


class BertTokenClassifier(Head):
    """Score every token for every class: dense, activation, norm, linear.

    With one class per vocabulary entry this is BERT's masked-language-model head; tie
    `mlp.last_linear_layer.weight` to the word embeddings.

    Args:
        hidden_size: D.
        num_classes: C.
        activation: name in ACT2FN, or a function.
        log_softmax: return log-probabilities instead of raw scores; our losses take both.
        dropout: dropout of the hidden states.
        use_transformer_pretrained: initialize as BERT does, with normal(0, 0.02); else as torch does.
        layer_norm_eps: epsilon of the norm; replaced by the encoder's, if that differs.
    """

    output_ports = _TOKEN_SCORES
    token_wise = True

    def __init__(
        self,
        hidden_size: int,
        num_classes: int,
        activation: str | Activation = "relu",
        log_softmax: bool = True,
        dropout: float = 0.0,
        use_transformer_pretrained: bool = True,
        layer_norm_eps: float = 1e-12,
    ):
        super().__init__(hidden_size, num_classes)
        self.dropout = nn.Dropout(dropout)
        self.dense = nn.Linear(hidden_size, hidden_size)
        self.activation = get_activation(activation)
        self.norm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.mlp = MultiLayerPerceptron(hidden_size, num_classes, num_layers=1, log_softmax=log_softmax)
        if use_transformer_pretrained:
            self.apply(init_transformer_weights)

    @property
    def decoder(self) -> nn.Linear:
        """The layer that scores the classes."""
        return self.mlp.last_linear_layer

    def features(self, hidden_states: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D), what `decoder` scores."""
        hidden_states = dense_activation(self.dropout(hidden_states), self.dense, self.activation)
        return self.mlp.features(self.norm(hidden_states))

    def forward(self, hidden_states: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, C)."""
        return self.mlp(self.norm(dense_activation(self.dropout(hidden_states), self.dense, self.activation)))


class PerceptronHead(Head):
    """Dropout and a perceptron.

    Args:
        hidden_size: D.
        num_classes: C.
        num_layers: linear layers of the perceptron.
        activation: name in ACT2FN, or a function.
        log_softmax: return log-probabilities instead of raw scores; our losses take both.
        dropout: dropout of the hidden states.
        use_transformer_pretrained: initialize as BERT does, with normal(0, 0.02); else as torch does.
    """

    def __init__(
        self,
        hidden_size: int,
        num_classes: int,
        num_layers: int = 2,
        activation: str | Activation = "relu",
        log_softmax: bool = True,
        dropout: float = 0.0,
        use_transformer_pretrained: bool = True,
    ):
        super().__init__(hidden_size, num_classes)
        self.dropout = nn.Dropout(dropout)
        self.mlp = MultiLayerPerceptron(
            hidden_size,
            num_classes,
            num_layers=num_layers,
            activation=activation,
            log_softmax=log_softmax,
        )
        if use_transformer_pretrained:
            self.apply(init_transformer_weights)


class TokenClassifier(PerceptronHead):
    """Score every token for every class, by a perceptron.

    Args:
        name: prefix of the class name when the module is printed; the others as above.
    """

    output_ports = _TOKEN_SCORES
    token_wise = True

    def __init__(
        self,
        hidden_size: int,
        num_classes: int,
        name: str | None = None,
        num_layers: int = 2,
        activation: str | Activation = "relu",
        log_softmax: bool = True,
        dropout: float = 0.0,
        use_transformer_pretrained: bool = True,
    ):
        super().__init__(
            hidden_size,
            num_classes,
            num_layers,
            activation,
            log_softmax,
            dropout,
            use_transformer_pretrained,
        )
        self.name = name

    def __str__(self) -> str:
        return (self.name or "") + super().__str__()

    def forward(self, hidden_states: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, C)."""
        return self.mlp(self.dropout(hidden_states))

"""Modules for sequences of tokens.

Shapes: B batch, T tokens, D hidden size.
"""

import torch
from torch import Tensor, nn

from nemo.backends.pytorch.nm import NonTrainableNM, TrainableNM
from nemo.core.neural_types import ChannelType, NeuralType


class SequenceEmbedding(TrainableNM):
    """An embedding vector for each token.

    Args:
        voc_size: size of the vocabulary.
        hidden_size: D.
        dropout: dropout probability of the vectors' elements.

    Attributes:
        embedding: the table of vectors.
    """

    input_ports = {"input_seq": NeuralType(("B", "T"))}
    output_ports = {"outputs": NeuralType(("B", "T", "D"), ChannelType())}
    token_wise = True

    def __init__(self, voc_size: int, hidden_size: int, dropout: float = 0.0):
        super().__init__()
        self.voc_size = voc_size
        self.hidden_size = hidden_size
        self.embedding = nn.Embedding(voc_size, hidden_size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, input_seq: Tensor) -> Tensor:
        """(B, T) -> (B, T, D)."""
        return self.dropout(self.embedding(input_seq))


class ZerosLikeNM(NonTrainableNM):
    """Zeros in the shape of the input: segment ids for tasks with one segment."""

    input_ports = {"input_type_ids": NeuralType(("B", "T"))}
    output_ports = {"input_type_ids": NeuralType(("B", "T"), ChannelType())}

    def forward(self, input_type_ids: Tensor) -> Tensor:
        """(B, T) -> (B, T) of int64."""
        return torch.zeros_like(input_type_ids, dtype=torch.int64)

"""A head that scores whole sequences.

Shapes: B batch, T tokens, D hidden size, C classes.
"""

from torch import Tensor

from nemo.collections.nlp.nm.trainables.common.token_classification_nm import PerceptronHead
from nemo.core.neural_types import LogitsType, NeuralType


class SequenceClassifier(PerceptronHead):
    """Score every sequence for every class, by a perceptron on its first token.

    With two layers and tanh this is BERT's pooler and its next-sentence head.
    """

    output_ports = {"logits": NeuralType(["B", "D"], LogitsType())}
    reads_first_token = True

    def forward(self, hidden_states: Tensor) -> Tensor:
        """(B, T, D) -> (B, C)."""
        return self.mlp(self.dropout(hidden_states[:, 0]))

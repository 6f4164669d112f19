"""Modules that any collection can use."""

from nemo.backends.pytorch.common.layers import ACT2FN, MultiLayerPerceptron, get_activation
from nemo.backends.pytorch.common.losses import CrossEntropyLossNM, LossAggregatorNM, MSELoss

__all__ = [
    "ACT2FN",
    "CrossEntropyLossNM",
    "LossAggregatorNM",
    "MSELoss",
    "MultiLayerPerceptron",
    "get_activation",
]

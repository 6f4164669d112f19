"""Modules for all collections."""

from nemo.backends.pytorch.common.layers import ACT2FN, MultiLayerPerceptron, get_activation
from nemo.backends.pytorch.common.losses import (
    CrossEntropyLossNM,
    LossAggregatorNM,
    MSELoss,
    SequenceLoss,
)
from nemo.backends.pytorch.common.multi_data import DataCombination, MultiDataLayer
from nemo.backends.pytorch.common.other import SequenceEmbedding, ZerosLikeNM
from nemo.backends.pytorch.common.zero_data import ZerosDataLayer

__all__ = [
    "ACT2FN",
    "CrossEntropyLossNM",
    "DataCombination",
    "LossAggregatorNM",
    "MSELoss",
    "MultiDataLayer",
    "MultiLayerPerceptron",
    "SequenceEmbedding",
    "SequenceLoss",
    "ZerosDataLayer",
    "ZerosLikeNM",
    "get_activation",
]

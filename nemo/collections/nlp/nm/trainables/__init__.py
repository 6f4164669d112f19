"""Modules with weights: encoders and heads."""

from nemo.collections.nlp.nm.trainables.common import (
    BertTokenClassifier,
    SequenceClassifier,
    TokenClassifier,
    huggingface,
)

__all__ = ["BertTokenClassifier", "SequenceClassifier", "TokenClassifier", "huggingface"]

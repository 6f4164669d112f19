"""Modules with weights: encoders and heads."""

from nemo.collections.nlp.nm.trainables import huggingface
from nemo.collections.nlp.nm.trainables.classifiers import (
    BertTokenClassifier,
    SequenceClassifier,
    TokenClassifier,
)

__all__ = ["BertTokenClassifier", "SequenceClassifier", "TokenClassifier", "huggingface"]

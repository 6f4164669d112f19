"""Encoders and heads that any task can use."""

from nemo.collections.nlp.nm.trainables.common import huggingface
from nemo.collections.nlp.nm.trainables.common.sequence_classification_nm import SequenceClassifier
from nemo.collections.nlp.nm.trainables.common.token_classification_nm import (
    BertTokenClassifier,
    TokenClassifier,
)

__all__ = ["BertTokenClassifier", "SequenceClassifier", "TokenClassifier", "huggingface"]

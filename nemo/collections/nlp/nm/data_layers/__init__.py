"""Sequences -> batches."""

from nemo.collections.nlp.nm.data_layers.lm_bert_datalayer import (
    BertPretrainingDataLayer,
    BertPretrainingPreprocessedDataLayer,
)

__all__ = ["BertPretrainingDataLayer", "BertPretrainingPreprocessedDataLayer"]

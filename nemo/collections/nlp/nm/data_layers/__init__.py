"""Sequences -> batches."""

from nemo.collections.nlp.nm.data_layers.lm_bert_datalayer import BertPretrainingDataLayer

__all__ = ["BertPretrainingDataLayer"]

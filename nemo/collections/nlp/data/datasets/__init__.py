"""Samples and batches from token stores and shards."""

from nemo.collections.nlp.data.datasets import lm_bert_dataset
from nemo.collections.nlp.data.datasets.lm_bert_dataset import BertPretrainingDataset
from nemo.collections.nlp.data.datasets.lm_bert_preprocessed_dataset import BertPretrainingPreprocessedDataset

__all__ = ["BertPretrainingDataset", "BertPretrainingPreprocessedDataset", "lm_bert_dataset"]

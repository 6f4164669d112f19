"""Text -> samples."""

from nemo.collections.nlp.data.datasets import lm_bert_dataset
from nemo.collections.nlp.data.datasets.lm_bert_dataset import BertPretrainingDataset

__all__ = ["BertPretrainingDataset", "lm_bert_dataset"]

"""Datasets of shards, as tests want them."""

from dataclasses import fields

from nemo.collections.nlp.data.datasets import BertPretrainingPreprocessedDataset
from nemo.collections.nlp.data.samples.sampling import Sampling


def shards_dataset(path, max_pred_length=None, mode="train", **options):
    """The dataset of these shards; what `Sampling` takes stands among the other options."""
    names = [field.name for field in fields(Sampling) if field.name in options]
    sampling = {"max_seq_length": None, **{name: options.pop(name) for name in names}}
    return BertPretrainingPreprocessedDataset(path, max_pred_length, mode, Sampling(**sampling), **options)

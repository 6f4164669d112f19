"""Neural modules for language: the models and the data with ports on."""

from nemo.collections.nlp.nm import data_layers, losses, trainables

__all__ = ["data_layers", "losses", "trainables"]

"""Losses of language models, with ports."""

from nemo.collections.nlp.nm.losses.smoothed_cross_entropy_loss import SmoothedCrossEntropyLoss

__all__ = ["SmoothedCrossEntropyLoss"]

"""Callbacks that record, show and judge a run's figures."""

from nemo.collections.nlp.callbacks import lm_bert_callback

__all__ = ["lm_bert_callback"]

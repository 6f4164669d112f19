"""What to do with a run's figures."""

from nemo.collections.nlp.callbacks import lm_bert_callback

__all__ = ["lm_bert_callback"]

"""A pretraining run, from options to a trained model. Start reading at `run.py`."""

from nemo.collections.nlp.pretraining.run import PretrainingResult, pretrain

__all__ = ["PretrainingResult", "pretrain"]

"""Options of the commands: dataclasses that check themselves."""

from nemo.collections.nlp.options.pretraining import PretrainingOptions

__all__ = ["PretrainingOptions"]

"""Options of the commands: dataclasses that check themselves."""

from nemo.collections.nlp.options.finetuning import FinetuningOptions
from nemo.collections.nlp.options.pretraining import PretrainingOptions

__all__ = ["FinetuningOptions", "PretrainingOptions"]

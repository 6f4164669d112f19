"""The options of each command, as dataclasses that validate themselves."""

from nemo.collections.nlp.options.adaptation import AdaptationOptions
from nemo.collections.nlp.options.extension import ExtensionOptions
from nemo.collections.nlp.options.finetuning import FinetuningOptions
from nemo.collections.nlp.options.pretraining import PretrainingOptions

__all__ = ["AdaptationOptions", "ExtensionOptions", "FinetuningOptions", "PretrainingOptions"]

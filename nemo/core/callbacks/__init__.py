"""Callbacks decide *when* things happen in a run; the backend decides *how*."""

from nemo.core.callbacks.action import ActionCallback
from nemo.core.callbacks.checkpoint import CheckpointCallback
from nemo.core.callbacks.evaluator import EvaluatorCallback
from nemo.core.callbacks.loss_logger import SimpleLossLoggerCallback
from nemo.core.callbacks.module_saver import ModuleSaverCallback
from nemo.core.callbacks.unfreeze import UnfreezeCallback
from nemo.core.callbacks.value_setter import ValueSetterCallback
from nemo.core.callbacks.weights_and_biases import WandbCallback

__all__ = [
    "ActionCallback",
    "CheckpointCallback",
    "EvaluatorCallback",
    "ModuleSaverCallback",
    "SimpleLossLoggerCallback",
    "UnfreezeCallback",
    "ValueSetterCallback",
    "WandbCallback",
]

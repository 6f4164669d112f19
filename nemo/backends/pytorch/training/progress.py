"""The progress of a training."""

import math
from dataclasses import dataclass


@dataclass
class Progress:
    """The counters of a training, as callbacks see them and checkpoints keep them.

    Attributes:
        step: finished steps.
        epoch_num: finished epochs.
        batch_in_epoch: finished micro-batches of the current epoch, over all processes.
        steps_undone: steps of the current epoch that rewinds have undone; their batches do not come again.
        items_seen: items (tokens, samples) trained on.
        learning_rate: learning rate of the latest step.
        grad_norm: gradient norm of the latest step, before clipping.
    """

    step: int = 0
    epoch_num: int = 0
    batch_in_epoch: int = 0
    steps_undone: int = 0
    items_seen: int = 0
    learning_rate: float = 0.0
    grad_norm: float = math.nan

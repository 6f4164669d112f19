"""A masking rate that changes during a run (Ankner et al. 2023, arXiv 2305.15096)."""

from collections.abc import Callable

import numpy as np

from nemo.collections.nlp.nm.data_layers.lm_bert_datalayer import PretrainingDataLayer
from nemo.core import ActionCallback
from nemo.utils.step_plan import StepPlan


class MaskSchedule(ActionCallback):
    """The share of tokens to predict, on a straight line from the first step of a run to its last.

    The rate of a batch follows from its position in the epoch, the step at which the epoch began, and the
    plan of steps. Batches are built ahead, so a change of the plan takes effect a fixed number of batches
    later, and a resumed run draws the same masks as an uninterrupted one.

    Args:
        first, last: shares, between 0 and 1.
        data: what is trained on.
        batches_per_step: micro-batches in a step, of one process.
        num_processes: number of processes.
        plan: returns the plan as it is now.
    """

    def __init__(
        self,
        first: float,
        last: float,
        data: PretrainingDataLayer,
        batches_per_step: int,
        num_processes: int,
        plan: Callable[[], StepPlan],
    ):
        self.first, self.last, self.plan = first, last, plan
        self._batches_per_step = batches_per_step * num_processes
        self._ahead = -(-data.batches_ahead // batches_per_step) + 1
        self._first_step = 0

    def on_epoch_start(self) -> None:
        """Note the step at which the epoch began, also where a resume is in the middle of it."""
        done = self.action.batch_in_epoch // self._batches_per_step
        self._first_step = self.step + self.action.steps_undone - done

    def __call__(self, batches: np.ndarray) -> np.ndarray:
        """The shares, float64 (N), in batches of the epoch by number, int (N)."""
        plan = self.plan()
        steps = self._first_step + batches // self._batches_per_step
        totals = np.array([plan.at(max(0, step - self._ahead)) for step in steps.tolist()])
        progress = np.minimum(1.0, steps / np.maximum(totals - 1, 1))
        return self.first + (self.last - self.first) * progress

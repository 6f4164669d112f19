"""Steps that are skipped because their loss or gradient is not finite."""

import math
from collections.abc import Sequence
from typing import Any

from nemo.backends.pytorch.training.progress import Progress
from nemo.backends.pytorch.training.step import StepInputs
from nemo.core.actions import BadStep
from nemo.utils.errors import NumericError
from nemo.utils.logging import logging

MAX_IN_A_ROW = 3
"""Consecutive bad steps allowed; one more stops training, whatever the option says."""

_WHAT_IS_DONE = {
    "skip": "the weights are unchanged",
    "rewind": "resuming from the newest checkpoint with the next batches",
}


def find_bad_step(inputs: StepInputs, loss: float, progress: Progress) -> BadStep | None:
    """What is not finite in a step's loss and gradient; None if all numbers are finite."""
    if math.isfinite(loss) and math.isfinite(progress.grad_norm):
        return None
    batches = progress.batch_in_epoch, progress.batch_in_epoch + inputs.num_batches
    weights = inputs.objective.parameters.items()
    return BadStep(
        step=progress.step + 1,
        epoch=progress.epoch_num,
        batches=batches,
        samples=inputs.graph.source.samples_of(progress.epoch_num, *batches),
        loss=loss,
        grad_norm=progress.grad_norm,
        weights=[name for name, p in weights if p.grad is not None and not p.grad.isfinite().all()],
    )


class BadSteps:
    """Counts bad steps, and stops training when there are too many."""

    def __init__(self) -> None:
        self._in_a_row = self._latest = 0

    def refuse(self, bad: BadStep, when_not_finite: str) -> None:
        """Report a bad step.

        Args:
            when_not_finite: see `TrainingPlan`.

        Raises:
            NumericError: `when_not_finite` is "stop", or there were too many bad steps in a row.
        """
        # A good step after the last bad one ends the series, also after a rewind.
        self._in_a_row = self._in_a_row + 1 if bad.step <= self._latest + 1 else 1
        self._latest = bad.step
        first, stop = bad.batches
        batches = f"batch {first}" if stop - first == 1 else f"batches {first} to {stop - 1}"
        problem = NumericError(
            "the loss or its gradient is not finite; this step was not taken",
            where=f"step {bad.step}, epoch {bad.epoch}, {batches}",
            found=f"loss {bad.loss}, gradient norm {bad.grad_norm}{_some(bad.weights, ', in ')}"
            f"{_some(bad.samples, ', of samples ')}",
            expected="finite numbers",
            fix="lower the learning rate, clip the gradient with grad_norm_clip, or check these samples",
        )
        problem.is_of_all = True  # losses and gradients are sums over all processes
        if when_not_finite == "stop" or self._in_a_row > MAX_IN_A_ROW:
            raise problem
        logging.warning("%s; %s", problem, _WHAT_IS_DONE[when_not_finite])


def _some(things: Sequence[Any] | None, intro: str) -> str:
    """`intro` and the first few things, with the number of others; "" if there are none."""
    if not things:
        return ""
    more = f" and {len(things) - 5} more" if len(things) > 5 else ""
    return f"{intro}{', '.join(map(str, things[:5]))}{more}"

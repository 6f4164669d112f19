"""Keeps the best checkpoint of a run, and ends a run that no longer improves."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from nemo.backends.pytorch.distributed.world import World
from nemo.collections.nlp.callbacks.held_out_losses import best_step, finite_mlm_losses, held_out_losses
from nemo.core import ActionCallback, CheckpointCallback
from nemo.utils.logging import logging


class BestSoFar(ActionCallback):
    """Keeps the checkpoint with the lowest held-out MLM loss.

    Put it after the run's record, which truncates metrics.jsonl to where a run resumes, and after the
    evaluator, but before the checkpoints.

    Args:
        metrics: the run's metrics.jsonl.
        checkpoints: the callback that keeps the best checkpoint; None: do not keep it.
        world: the processes that train together; rank 0 evaluates.

    Attributes:
        losses: step -> loss of all evaluations so far, nats, including those before a resume. Only in rank 0.
    """

    def __init__(self, metrics: Path, checkpoints: CheckpointCallback | None, world: World):
        self.losses: dict[int, float] = {}
        self._metrics, self._checkpoints, self._world = metrics, checkpoints, world
        self._is_new = False

    def evaluated(self, step: int, figures: Mapping[str, float]) -> None:
        """Record an evaluation's figures."""
        self.losses |= finite_mlm_losses({step: figures})
        self._is_new = True

    def on_action_start(self) -> None:
        self.losses = held_out_losses(self._metrics) if self.global_rank == 0 else {}
        self._spare()

    def on_iteration_end(self) -> None:
        if self._world.broadcast_object(lambda: self._is_new):
            self._spare()

    def on_action_end(self) -> None:
        self._spare()

    def _spare(self) -> None:
        self._is_new = False
        best = self._world.broadcast_object(lambda: best_step(self.losses))
        if self._checkpoints is not None and best:
            self._checkpoints.spare(best)


class Patience(ActionCallback):
    """Ends a run after some evaluations in a row without a lower held-out loss; put it last.

    A stopped and resumed run ends at the same step, because the losses come from its record.

    Args:
        best: the callback with the losses.
        evaluations: number of evaluations in a row.
        world: the processes that train together.
    """

    def __init__(self, best: BestSoFar, evaluations: int, world: World):
        self._best, self._evaluations, self._world = best, evaluations, world

    def on_action_start(self) -> None:
        self._end_if_out()

    def on_iteration_end(self) -> None:
        self._end_if_out()

    def _end_if_out(self) -> None:
        if not self._world.broadcast_object(self._is_out) or self.action.plan.max_steps == self.step:
            return
        self.action.plan = dataclasses.replace(self.action.plan, max_steps=self.step)
        if self.global_rank == 0:
            best = best_step(self._best.losses)
            assert best is not None
            logging.info(
                "ended after step %d, out of --patience: %d evaluations in a row without a lower held-out "
                "MLM loss than the %.3f after step %d",
                self.step,
                self._evaluations,
                self._best.losses[best],
                best,
            )

    def _is_out(self) -> bool:
        losses = self._best.losses
        best = best_step(losses)
        return best is not None and sum(step > best for step in losses) >= self._evaluations

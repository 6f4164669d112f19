"""The best weights of a run stay, and a run that gets no better ends."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from nemo.backends.pytorch.distributed.world import World
from nemo.collections.nlp.callbacks.held_out_losses import best_step, finite_mlm_losses, held_out_losses
from nemo.core import ActionCallback, CheckpointCallback
from nemo.utils.logging import logging


class BestSoFar(ActionCallback):
    """Spares the checkpoint with the lowest held-out MLM loss.

    Put it behind the run's record, which cuts metrics.jsonl back to where a run goes on, and behind the
    evaluator; before the checkpoints.

    Args:
        metrics: the run's metrics.jsonl.
        checkpoints: spares the best one; None: none is spared.
        world: the processes that train together; process 0 evaluates.

    Attributes:
        losses: of the evaluations so far by step, nats; those of an earlier part of the run, too. In process
            0 only.
    """

    def __init__(self, metrics: Path, checkpoints: CheckpointCallback | None, world: World):
        self.losses: dict[int, float] = {}
        self._metrics, self._checkpoints, self._world = metrics, checkpoints, world
        self._is_new = False

    def evaluated(self, step: int, figures: Mapping[str, float]) -> None:
        """Take in an evaluation's figures."""
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

    A run that was stopped and resumed ends at the same step, as the losses are those of its record.

    Args:
        best: knows the losses.
        evaluations: in a row.
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
                *(self.step, self._evaluations, self._best.losses[best], best),
            )

    def _is_out(self) -> bool:
        losses = self._best.losses
        best = best_step(losses)
        return best is not None and sum(step > best for step in losses) >= self._evaluations

"""Evaluation during training."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nemo.core.actions import EvaluatedBatch
from nemo.core.callbacks.action import ActionCallback, as_frequency, as_tensors
from nemo.core.callbacks.weights_and_biases import open_run
from nemo.core.graph import NmTensor
from nemo.utils.errors import DataError, UsageError
from nemo.utils.progress import working
from nemo.utils.stopwatch import Stopwatch


class EvaluatorCallback(ActionCallback):
    """Runs an evaluation graph before training, every few steps or epochs, and at the end.

    Args:
        eval_tensors: one tensor or several to compute on every evaluation batch.
        user_iter_callback: `(batch, state)`, called after each batch. `batch` maps unique names to [value]
            (see `nemo.core.actions.EvaluatedBatch`); `state` is a dict to fill, new for each evaluation.
        user_epochs_done_callback: `(state) -> scalars by name, or None`, called after the last batch.
        tb_writer: TensorBoard writer for the scalars; None takes the factory's.
        tb_writer_func: `(writer, scalars, step)`, writes the scalars instead.
        eval_step, eval_epoch: evaluate every this many steps or epochs; None or -1 means never. At least one
            is required; both may be given.
        wandb_name, wandb_project: with either, scalars also go to Weights & Biases: to the open run, or to a
            new one of that name and project.
        eval_at_start: evaluate before the first step of a fresh run.

    Attributes:
        time_spent: a Stopwatch of the evaluations.

    Raises:
        UsageError: neither eval_step nor eval_epoch, a number out of range, or not a tensor of a graph; at
            the start of training: wandb is requested but not installed.
        DataError (on evaluation): the evaluation data has no batch.
    """

    def __init__(
        self,
        eval_tensors: NmTensor | Sequence[NmTensor],
        user_iter_callback: Callable[[EvaluatedBatch, dict[str, Any]], None],
        user_epochs_done_callback: Callable[[dict[str, Any]], Mapping[str, Any] | None],
        tb_writer: Any = None,
        tb_writer_func: Callable[[Any, Mapping[str, Any], int], None] | None = None,
        eval_step: int | None = 1,
        eval_epoch: int | None = None,
        wandb_name: str | None = None,
        wandb_project: str | None = None,
        eval_at_start: bool = True,
    ):
        self.eval_tensors = as_tensors(eval_tensors, "eval_tensors")
        self._iter_callback = user_iter_callback
        self._done_callback = user_epochs_done_callback
        self.tb_writer = tb_writer
        self._tb_writer_func = tb_writer_func
        self.eval_step = as_frequency(eval_step, "eval_step")
        self.eval_epoch = as_frequency(eval_epoch, "eval_epoch")
        if self.eval_step is None and self.eval_epoch is None:
            raise UsageError("the evaluator never runs", expected="eval_step or eval_epoch")
        self.wandb_name, self.wandb_project = wandb_name, wandb_project
        self.eval_at_start = eval_at_start
        self.time_spent = Stopwatch()
        self._evaluated_at: int | None = None

    def on_action_start(self) -> None:
        if self._uses_wandb:
            open_run(self.wandb_name, self.wandb_project)  # fail early if wandb is not installed
        self._evaluated_at = None
        if self.eval_at_start and self.step == 0:
            self.evaluate()

    def on_iteration_end(self) -> None:
        if self.eval_step is not None and self.step % self.eval_step == 0:
            self.evaluate()

    def on_epoch_end(self) -> None:
        if self.eval_epoch is not None and self.epoch_num % self.eval_epoch == 0:
            self._evaluate_new_weights()

    def on_action_end(self) -> None:
        self._evaluate_new_weights()
        self._evaluated_at = None  # `eval` called again must evaluate again

    def _evaluate_new_weights(self) -> None:
        if self._evaluated_at != self.step:
            self.evaluate()

    def evaluate(self) -> None:
        """Run one pass over the evaluation data, on rank 0.

        Raises:
            DataError: there is no batch to evaluate on.
        """
        self._evaluated_at = self.step
        if self.global_rank != 0:  # the other ranks wait, so that each sample counts exactly once
            if self.action.is_sharded:  # they still provide their part of the weights
                for _ in self.action.evaluate(self.eval_tensors):
                    pass
            return
        state: dict[str, Any] = {}
        batch = None
        with self.time_spent, working("evaluating"):
            for batch in self.action.evaluate(self.eval_tensors):
                self._iter_callback(batch, state)
            if batch is None:
                raise DataError("no batch to evaluate on", where="eval_tensors", expected="one or more")
            self._report(self._done_callback(state))

    def _report(self, scalars: Mapping[str, Any] | None) -> None:
        if not scalars:
            return
        if writer := self._writer():
            if self._tb_writer_func is not None:
                self._tb_writer_func(writer, scalars, self.step)
            else:
                for name, value in scalars.items():
                    writer.add_scalar(name, value, self.step)
        if self._uses_wandb:
            open_run(self.wandb_name, self.wandb_project).log(dict(scalars), step=self.step)

    @property
    def _uses_wandb(self) -> bool:
        return self.global_rank == 0 and (self.wandb_name or self.wandb_project) is not None

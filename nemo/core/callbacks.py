"""Callbacks: *when* things happen in a run. *How* is the backend's business."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nemo.core.actions import Actions
from nemo.core.graph import NmTensor
from nemo.utils.errors import CheckpointError, UsageError
from nemo.utils.logging import logging


class ActionCallback:
    """Told of the moments of a run; every hook does nothing until overridden.

    Attributes:
        action: what is running; set when it starts.
        tensors: what must be computed for this callback at every update.
    """

    action: Actions
    tensors: Sequence[NmTensor] = ()

    def on_restore(self) -> None:
        """The graph and the optimizer are made; the time to load what an earlier run saved."""

    def on_action_start(self) -> None:
        """Everything is where training goes on from; nothing is trained yet."""

    def on_epoch_start(self) -> None:
        """Before the first update of an epoch, or of what a resume left of it."""

    def on_iteration_start(self) -> None:
        """Before an update."""

    def on_iteration_end(self) -> None:
        """After an update; `step` counts it."""

    def on_epoch_end(self) -> None:
        """After an epoch (`epoch_num` counts it), or where `max_steps` cut it short."""

    def on_action_end(self) -> None:
        """After the last update."""

    @property
    def step(self) -> int:
        """Finished updates."""
        return self.action.step

    @property
    def epoch_num(self) -> int:
        """Finished epochs."""
        return self.action.epoch_num

    @property
    def learning_rate(self) -> float:
        """Of the latest update."""
        return self.action.learning_rate

    @property
    def global_rank(self) -> int:
        """0 where there is one process."""
        return self.action.global_rank

    @property
    def local_rank(self) -> int | None:
        """None where there is one process."""
        return self.action.local_rank

    @property
    def registered_tensors(self) -> dict[str, Any]:
        """Values of `tensors` in the latest update, by unique name."""
        return {tensor.unique_name: self.action.value_of(tensor) for tensor in self.tensors}


def as_frequency(value: int | None, name: str) -> int | None:
    """`value`, or None for "never" (None, -1).

    Raises:
        UsageError: 0, or below -1.
    """
    if value is None or value == -1:
        return None
    if value < 1:
        raise UsageError("out of range", where=name, found=value, expected="1 or more, or -1 for never")
    return value


class SimpleLossLoggerCallback(ActionCallback):
    """Logs losses at step 1 and then every `step_freq` steps.

    Args:
        tensors: one tensor or several.
        print_func: is given the list of their values; None logs them by name.
        get_tb_values: values -> [(name, value with .item())] for TensorBoard; None writes losses by name.
        log_to_tb_func: (writer, values, step) -> anything else for TensorBoard.
        step_freq: steps between two lines.
        tb_writer: None takes the factory's.
    """

    def __init__(
        self,
        tensors: NmTensor | Sequence[NmTensor],
        print_func: Callable[[list[Any]], None] | None = None,
        get_tb_values: Callable[[list[Any]], Sequence[tuple[str, Any]]] | None = None,
        log_to_tb_func: Callable[[Any, list[Any], int], None] | None = None,
        step_freq: int = 25,
        tb_writer: Any = None,
    ):
        self.tensors = [tensors] if isinstance(tensors, NmTensor) else list(tensors)
        self._print = print_func or self._print_by_name
        self._get_tb_values = get_tb_values or self._values_by_name
        self._log_to_tb = log_to_tb_func
        self.step_freq = as_frequency(step_freq, "step_freq") or 1
        self.tb_writer = tb_writer
        self._epoch_began = self._step_began = 0.0

    def _values_by_name(self, values: list[Any]) -> list[tuple[str, Any]]:
        names = [f"{tensor.producer}/{tensor.name}" for tensor in self.tensors]
        return list(zip(names, values, strict=True))

    def _print_by_name(self, values: list[Any]) -> None:
        for name, value in self._values_by_name(values):
            logging.info("%s: %.4f", name, float(value))

    def on_action_start(self) -> None:
        self.tb_writer = self.tb_writer or getattr(self.action, "tb_writer", None)

    def on_epoch_start(self) -> None:
        self._epoch_began = time.monotonic()

    def on_iteration_start(self) -> None:
        self._step_began = time.monotonic()

    def on_iteration_end(self) -> None:
        if self.global_rank != 0 or (self.step % self.step_freq and self.step != 1):
            return
        seconds = time.monotonic() - self._step_began
        values = [self.action.value_of(tensor) for tensor in self.tensors]
        logging.info("Step: %d", self.step)
        self._print(values)
        logging.info("Step time: %.3f seconds", seconds)
        if self.tb_writer is not None:
            for name, value in self._get_tb_values(values):
                self.tb_writer.add_scalar(name, value.item(), self.step)
            if self._log_to_tb is not None:
                self._log_to_tb(self.tb_writer, values, self.step)
            self.tb_writer.add_scalar("param/lr", self.learning_rate, self.step)
            self.tb_writer.add_scalar("misc/step_time", seconds, self.step)

    def on_epoch_end(self) -> None:
        if self.global_rank != 0:
            return
        seconds = time.monotonic() - self._epoch_began
        logging.info("Epoch %d ended after %.1f seconds", self.epoch_num, seconds)
        if self.tb_writer is not None:
            self.tb_writer.add_scalar("misc/epoch", self.epoch_num, self.step)
            self.tb_writer.add_scalar("misc/epoch_time", seconds, self.step)


class EvaluatorCallback(ActionCallback):
    """Runs an evaluation graph before training, every so many steps or epochs, and at the end.

    Args:
        eval_tensors: what to compute on every evaluation batch.
        user_iter_callback: `(values, state)` after each batch; `values` maps unique names to [value], and
            "STATISTICS" to the sums and counts of every loss of the graph; `state` is a dict to fill.
        user_epochs_done_callback: `(state) -> scalars by name, or None` after the last batch.
        tb_writer, tb_writer_func: where scalars go, and another way to write them: `(writer, scalars, step)`.
        eval_step, eval_epoch: how often; None or -1 means never. At least one is needed.
        eval_at_start: evaluate before the first update of a run that starts fresh.

    Raises:
        UsageError: neither eval_step nor eval_epoch, or one out of range.
    """

    def __init__(
        self,
        eval_tensors: Sequence[NmTensor],
        user_iter_callback: Callable[[dict[str, Any], dict[str, Any]], None],
        user_epochs_done_callback: Callable[[dict[str, Any]], Mapping[str, Any] | None],
        tb_writer: Any = None,
        tb_writer_func: Callable[[Any, Mapping[str, Any], int], None] | None = None,
        eval_step: int | None = 1,
        eval_epoch: int | None = None,
        eval_at_start: bool = True,
    ):
        self.eval_tensors = list(eval_tensors)
        self._iter_callback = user_iter_callback
        self._done_callback = user_epochs_done_callback
        self.tb_writer = tb_writer
        self._tb_writer_func = tb_writer_func
        self.eval_step = as_frequency(eval_step, "eval_step")
        self.eval_epoch = as_frequency(eval_epoch, "eval_epoch")
        if self.eval_step is None and self.eval_epoch is None:
            raise UsageError("the evaluator never runs", expected="eval_step or eval_epoch")
        self.eval_at_start = eval_at_start
        self._evaluated_at = -1

    def on_action_start(self) -> None:
        self.tb_writer = self.tb_writer or getattr(self.action, "tb_writer", None)
        if self.eval_at_start and self.step == 0:
            self.evaluate()

    def on_iteration_end(self) -> None:
        if self.eval_step is not None and self.step % self.eval_step == 0:
            self.evaluate()

    def on_epoch_end(self) -> None:
        if self.eval_epoch is not None and self.epoch_num % self.eval_epoch == 0:
            self.evaluate()

    def on_action_end(self) -> None:
        self.evaluate()

    def evaluate(self) -> None:
        """One pass over the evaluation data, unless these very weights were evaluated just now."""
        if self._evaluated_at == self.step:
            return
        self._evaluated_at = self.step
        state: dict[str, Any] = {}
        for values in self.action.evaluate(self.eval_tensors):
            self._iter_callback(values, state)
        if self.global_rank != 0:
            return
        scalars = self._done_callback(state)
        if self.tb_writer is not None and scalars:
            if self._tb_writer_func is not None:
                self._tb_writer_func(self.tb_writer, scalars, self.step)
            else:
                for name, value in scalars.items():
                    self.tb_writer.add_scalar(name, value, self.step)


class CheckpointCallback(ActionCallback):
    """Saves every `step_freq` steps and `epoch_freq` epochs and at the end; continues from what it finds.

    Args:
        folder: where `STEP-<n>` folders go.
        load_from_folder: where to continue from; None means `folder`, so that a rerun resumes.
        step_freq, epoch_freq: how often; -1 means never. Both together are fine.
        checkpoints_to_keep: superseded ones beyond the newest so many are deleted.
        force_load: refuse to start fresh.
        extra_files: name -> path or bytes that every checkpoint carries along (configuration, vocabulary).
        identity: what must be the same wherever a run continues from (the tokenizer), by name.
        stream: what decides the batches and their order (data, seed, ...), by name; must be the same, too,
            when a run goes on in its own folder.

    Raises:
        UsageError: a frequency out of range.
        CheckpointError (when training starts): there are checkpoints, but none is good or fits; or there is
            none although `load_from_folder` or `force_load` asked for one.
    """

    def __init__(
        self,
        folder: str | Path,
        load_from_folder: str | Path | None = None,
        step_freq: int = -1,
        epoch_freq: int = -1,
        checkpoints_to_keep: int = 4,
        force_load: bool = False,
        extra_files: Mapping[str, Any] | None = None,
        identity: Mapping[str, Any] | None = None,
        stream: Mapping[str, Any] | None = None,
    ):
        self.folder = folder
        self.load_from_folder = load_from_folder
        self.step_freq = as_frequency(step_freq, "step_freq")
        self.epoch_freq = as_frequency(epoch_freq, "epoch_freq")
        self.checkpoints_to_keep = checkpoints_to_keep
        self.force_load = force_load
        self.extra_files = extra_files or {}
        self.identity = identity or {}
        self.stream = stream or {}
        self._saved_at = -1

    def on_restore(self) -> None:
        # What this very run has saved is newer than what it started from.
        if self.action.restore(self.folder, {**self.identity, **self.stream}):
            self._saved_at = self.step
        elif self.load_from_folder is not None and self.action.restore(self.load_from_folder, self.identity):
            logging.info("weights, optimizer and step come from %s", self.load_from_folder)
        elif self.load_from_folder is not None or self.force_load:
            raise CheckpointError(
                "no checkpoint to continue from",
                where=self.load_from_folder or self.folder,
                expected="a folder that holds STEP-<n> folders",
            )

    def on_iteration_end(self) -> None:
        if self.step_freq is not None and self.step % self.step_freq == 0:
            self.save()

    def on_epoch_end(self) -> None:
        if self.epoch_freq is not None and self.epoch_num % self.epoch_freq == 0:
            self.save()

    def on_action_end(self) -> None:
        self.save()

    def save(self) -> None:
        """Write a checkpoint of this step, unless there is one."""
        if self.global_rank != 0 or self._saved_at == self.step:
            return
        state = {"identity": {**self.identity, **self.stream}}
        self.action.save(self.folder, self.checkpoints_to_keep, self.extra_files, state)
        self._saved_at = self.step

"""Saving and resuming a run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nemo.core.callbacks.action import ActionCallback, as_frequency
from nemo.utils.errors import CheckpointError, StorageError, UsageError
from nemo.utils.logging import logging
from nemo.utils.stopwatch import Stopwatch

MAX_MISSED_IN_A_ROW = 3
"""Training ends when this many checkpoints in a row fail, on a full disk for example."""


class CheckpointCallback(ActionCallback):
    """Saves checkpoints during training and at its end, and resumes from the newest one.

    Checkpoints are written in the background, one at a time. If one fails, training continues, and the next
    one is tried when it is due. With this callback, SIGTERM, SIGUSR1, SIGHUP and Ctrl-C save the run and stop
    training; see `nemo.utils.stopping`.

    Args:
        folder: folder for the `STEP-<n>` folders.
        load_from_folder: folder to resume from: another run's work folder, its `checkpoints`, or one
            `STEP-<n>`. None means `folder`, so that a rerun resumes.
        step_freq, epoch_freq: save every this many steps or epochs; -1 means never. Both may be given; with
            neither, only the end of training is saved.
        checkpoints_to_keep: number of newest checkpoints to keep; older ones are deleted.
        force_load: refuse to start without a checkpoint.
        extra_files: name -> path or bytes of files to store in every checkpoint (configuration, vocabulary).
        identity: values, by name, that must not change when a run continues (the tokenizer).
        stream: values, by name, that determine the batches and their order (data, seed, ...). They must not
            change when a run resumes in its own folder; from another folder, the epoch restarts if they do.

    Attributes:
        time_spent: a Stopwatch of the time that training waited for checkpoints.

    Raises:
        UsageError: no folder, or a number is out of range.
        CheckpointError (when training starts): there are checkpoints, but none is intact and matches; or
            there is none, and `load_from_folder` or `force_load` requires one.
        StorageError (during training): three checkpoints in a row, or the final one, could not be written.
    """

    saves_on_stop = True

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
        if folder is None:  # `nf.checkpoint_dir` is None without a log_dir
            raise UsageError(
                "no folder to save to",
                where="CheckpointCallback",
                fix="pass a folder, or pass log_dir or checkpoint_dir to the factory",
            )
        if checkpoints_to_keep < 1:
            raise UsageError(
                "out of range", where="checkpoints_to_keep", found=checkpoints_to_keep, expected="1 or more"
            )
        self.folder = folder
        self.load_from_folder = load_from_folder
        self.step_freq = as_frequency(step_freq, "step_freq")
        self.epoch_freq = as_frequency(epoch_freq, "epoch_freq")
        if self.step_freq is None and self.epoch_freq is None:
            logging.warning("step_freq and epoch_freq are both -1: only the end of training will be saved")
        self.checkpoints_to_keep = checkpoints_to_keep
        self.force_load = force_load
        self.extra_files = extra_files or {}
        self.identity = identity or {}
        self.stream = stream or {}
        self.time_spent = Stopwatch()
        self._saved_at = -1
        self._num_missed = 0
        self._spared: int | None = None
        self._is_asked = False

    def spare(self, step: int) -> None:
        """Never delete this step's checkpoint; the one spared before loses its protection.

        If `step` is the current step, it is saved as if it were due.
        """
        self._spared = step
        self._is_asked = step == self.step != self._saved_at

    def on_restore(self) -> None:
        self._finish_saving()
        self._saved_at = -1
        # This run's own checkpoints are newer than the one it started from.
        if self.action.restore(self.folder, {**self.identity, **self.stream}):
            self._saved_at = self.step
        elif self.load_from_folder is not None and self.action.restore(
            self.load_from_folder, self.identity, self.stream
        ):
            logging.info("weights, optimizer and step come from %s", self.load_from_folder)
        elif self.load_from_folder is not None or self.force_load:
            raise CheckpointError(
                "no checkpoint to resume from",
                where=self.load_from_folder or self.folder,
                expected="a folder that holds STEP-<n> folders, or one of them",
            )

    def on_iteration_end(self) -> None:
        is_due = self.step_freq is not None and self.step % self.step_freq == 0
        self._save_while_training(is_due or self._is_asked)
        self._is_asked = False

    def on_epoch_end(self) -> None:
        self._save_while_training(self.epoch_freq is not None and self.epoch_num % self.epoch_freq == 0)

    def on_stop(self) -> None:
        self.save()

    def on_action_end(self) -> None:
        self.save()

    def save(self) -> None:
        """Write a checkpoint of this step unless there is one; return when it is on disk.

        Raises:
            StorageError: the checkpoint cannot be written.
        """
        if not self._takes_part:
            return
        self._finish_saving()
        self._save(wait=True)

    def _finish_saving(self) -> None:
        """Wait for the checkpoint that is being written; if it fails, this step counts as not saved."""
        try:
            self.action.is_saved()
        except StorageError as problem:
            logging.warning("%s", problem)
            self._saved_at = -1

    @property
    def _takes_part(self) -> bool:
        return self.global_rank == 0 or self.action.is_sharded

    def _save_while_training(self, is_due: bool) -> None:
        if not self._takes_part:
            return
        if self.action.is_sharded:  # all processes take part, so none may continue alone
            if is_due:
                self._save(wait=True)
            return
        try:
            if self.action.is_saved(wait=is_due) and self._saved_at >= 0:
                self._num_missed = 0
            if is_due:
                self._save(wait=False)
        except StorageError as problem:
            self._saved_at = -1
            self._num_missed += 1
            if self._num_missed == MAX_MISSED_IN_A_ROW:
                raise
            logging.warning(
                "%s; training continues, and the next checkpoint is tried when it is due", problem
            )

    def _save(self, wait: bool) -> None:
        if self._saved_at != self.step:
            state = {"identity": {**self.identity, **self.stream}}
            with self.time_spent:
                self.action.save(
                    self.folder, self.checkpoints_to_keep, self.extra_files, state, wait, self._spared
                )
            self._saved_at = self.step

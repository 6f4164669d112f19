"""Saving a run, and going on from what was saved."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nemo.core.callbacks.action import ActionCallback, as_frequency
from nemo.utils.errors import CheckpointError, UsageError
from nemo.utils.logging import logging


class CheckpointCallback(ActionCallback):
    """Saves every `step_freq` steps and `epoch_freq` epochs and at the end; continues from what it finds.

    Args:
        folder: where `STEP-<n>` folders go.
        load_from_folder: where to continue from: another run's work folder, its `checkpoints` or one
            `STEP-<n>`. None means `folder`, so that a rerun resumes.
        step_freq, epoch_freq: how often; -1 means never. Both together are fine; with neither only the end is
            saved.
        checkpoints_to_keep: superseded ones beyond the newest so many are deleted.
        force_load: refuse to start fresh.
        extra_files: name -> path or bytes that every checkpoint carries along (configuration, vocabulary).
        identity: what must be the same wherever a run continues from (the tokenizer), by name.
        stream: what decides the batches and their order (data, seed, ...), by name; must be the same, too,
            when a run goes on in its own folder. From another one, its epoch begins anew where they differ.

    Raises:
        UsageError: no folder, or a number out of range.
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
        if folder is None:  # what `nf.checkpoint_dir` is without a log_dir
            raise UsageError(
                "there is no folder to save to",
                where="CheckpointCallback",
                fix="give it a folder, or give the factory log_dir or checkpoint_dir",
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
        self._saved_at = -1

    def on_restore(self) -> None:
        self._saved_at = -1
        # What this very run has saved is newer than what it started from.
        if self.action.restore(self.folder, {**self.identity, **self.stream}):
            self._saved_at = self.step
        elif self.load_from_folder is not None and self.action.restore(
            self.load_from_folder, self.identity, self.stream
        ):
            logging.info("weights, optimizer and step come from %s", self.load_from_folder)
        elif self.load_from_folder is not None or self.force_load:
            raise CheckpointError(
                "no checkpoint to continue from",
                where=self.load_from_folder or self.folder,
                expected="a folder that holds STEP-<n> folders, or one of them",
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
        takes_part = self.global_rank == 0 or self.action.is_sharded
        if not takes_part or self._saved_at == self.step:
            return
        state = {"identity": {**self.identity, **self.stream}}
        self.action.save(self.folder, self.checkpoints_to_keep, self.extra_files, state)
        self._saved_at = self.step

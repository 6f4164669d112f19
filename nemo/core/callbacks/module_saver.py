"""Saving the weights of individual modules during training."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nemo.core.callbacks.action import ActionCallback
from nemo.utils.errors import UsageError
from nemo.utils.files import replacing, storage_errors
from nemo.utils.logging import logging


class ModuleSaverCallback(ActionCallback):
    """Writes the weights of each module to its own file, every `step_freq` steps and at the end.

    The file is `<class>_<unique_instance_id>-STEP-<n>.safetensors`, for `module.restore_from`; it is written
    atomically. To resume a training, optimizer included, use CheckpointCallback.

    Args:
        save_modules_list: one module or several.
        step_freq: steps between saves.
        folder: created if needed; None means the current directory.
        checkpoints_to_keep: number of newest steps whose files are kept; this callback's older files are
            deleted.

    Raises:
        UsageError: a module without weights, or a number out of range; at the start of training: the weights
            are sharded.
        StorageError (while training): a file cannot be written or deleted.
    """

    def __init__(
        self,
        save_modules_list: Any | Iterable[Any],
        step_freq: int = 1000,
        folder: str | Path | None = None,
        checkpoints_to_keep: int = 4,
    ):
        several = isinstance(save_modules_list, Iterable)
        self.modules: list[Any] = list(save_modules_list) if several else [save_modules_list]
        for module in self.modules:
            if not hasattr(module, "save_to"):
                raise UsageError(
                    "cannot be saved",
                    where="save_modules_list",
                    found=str(module),
                    expected="a module with weights",
                )
        for name, value in (("step_freq", step_freq), ("checkpoints_to_keep", checkpoints_to_keep)):
            if value < 1:
                raise UsageError("out of range", where=name, found=value, expected="1 or more")
        self.step_freq = step_freq
        self.folder = Path(folder or ".")
        self.checkpoints_to_keep = checkpoints_to_keep
        self._written: dict[int, list[Path]] = {}  # by step

    def on_action_start(self) -> None:
        self._written = {}
        if self.action.is_sharded:
            raise UsageError(
                "no process has all weights of a module",
                where="ModuleSaverCallback",
                fix="use CheckpointCallback, or train without shard",
            )

    def on_iteration_end(self) -> None:
        if self.step % self.step_freq == 0:
            self.save()

    def on_action_end(self) -> None:
        self.save()

    def save(self) -> None:
        """Write the files of this step unless they exist, then delete old ones."""
        if self.global_rank != 0 or self.step in self._written:
            return
        with storage_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        paths = [
            self.folder / f"{type(module).__name__}_{module.unique_instance_id}-STEP-{self.step}.safetensors"
            for module in self.modules
        ]
        for module, path in zip(self.modules, paths, strict=True):
            with replacing(path) as aside:
                module.save_to(aside)
            logging.info("saved %s to %s", module, path)
        self._written[self.step] = paths
        for step in sorted(self._written)[: -self.checkpoints_to_keep]:
            for path in self._written.pop(step):
                with storage_errors(path):
                    path.unlink(missing_ok=True)

"""Logging to Weights & Biases. The package `wandb` is imported only when a run uses it."""

import time
from collections.abc import Sequence
from typing import Any

from nemo.core.callbacks.action import ActionCallback, as_tensors, names_of
from nemo.core.graph import NmTensor
from nemo.utils.errors import UsageError
from nemo.utils.logging import logging


def open_run(name: str | None, project: str | None) -> Any:
    """The wandb package, with an open run: the present one, else a new one.

    Raises:
        UsageError: wandb is not installed.
    """
    try:
        import wandb
    except ImportError as error:
        raise UsageError(
            f"Weights & Biases cannot be used: {error}", where="wandb", fix="pip install wandb"
        ) from error
    if wandb.run is None:
        wandb.init(name=name, project=project)
    return wandb


class WandbCallback(ActionCallback):
    """Logs tensors and the learning rate ("LR") to Weights & Biases, and each epoch's number and seconds.

    It uses the open run, or opens one. The run stays open for other callbacks; it ends with the program or
    with `wandb.finish()`.

    Args:
        train_tensors: one tensor or several; logged as `<class>/<port>`.
        wandb_name, wandb_project: name and project of a new run.
        args: the program's options, stored with the run: a namespace or a dict.
        update_freq: log at step 1 and then every this many steps.

    Raises:
        UsageError: not a tensor of a graph, or an `update_freq` below 1; at the start of training: wandb is
            not installed.
    """

    def __init__(
        self,
        train_tensors: NmTensor | Sequence[NmTensor] = (),
        wandb_name: str | None = None,
        wandb_project: str | None = None,
        args: Any = None,
        update_freq: int = 25,
    ):
        if update_freq < 1:
            raise UsageError("out of range", where="update_freq", found=update_freq, expected="1 or more")
        if isinstance(train_tensors, NmTensor) or train_tensors:
            self.tensors = as_tensors(train_tensors, "train_tensors")
        self._names = names_of(self.tensors)
        self.wandb_name, self.wandb_project = wandb_name, wandb_project
        self.args = args
        self.update_freq = update_freq
        self._wandb: Any = None
        self._epoch_began = 0.0
        self._epochs_before = 0

    def reads_at(self, step: int) -> bool:
        return step == 1 or step % self.update_freq == 0

    def on_action_start(self) -> None:
        if self.global_rank != 0:
            return
        self._wandb = open_run(self.wandb_name, self.wandb_project)
        if self.args is not None:
            self._wandb.config.update(self.args, allow_val_change=True)
        logging.info("logging to Weights & Biases")

    def on_iteration_end(self) -> None:
        if self.global_rank != 0 or not self.reads_at(self.step):
            return
        values = [self.action.value_of(tensor) for tensor in self.tensors]
        figures = {
            name: value.item() if value.numel() == 1 else value.cpu()
            for name, value in zip(self._names, values, strict=True)
        }
        self._wandb.log({**figures, "LR": self.learning_rate}, step=self.step)

    def on_epoch_start(self) -> None:
        self._epoch_began = time.monotonic()
        self._epochs_before = self.epoch_num

    def on_epoch_end(self) -> None:
        if self.global_rank != 0 or self.epoch_num == self._epochs_before:  # max_steps cut it short
            return
        seconds = time.monotonic() - self._epoch_began
        self._wandb.log({"epoch": self.epoch_num, "epoch_time": seconds}, step=self.step)

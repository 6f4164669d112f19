"""Logging losses to the screen and to TensorBoard."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from nemo.core.callbacks.action import ActionCallback, as_tensors, names_of
from nemo.core.graph import NmTensor
from nemo.utils.errors import UsageError
from nemo.utils.logging import logging


class SimpleLossLoggerCallback(ActionCallback):
    """Logs losses at step 1 and then every `step_freq` steps. A run may have several.

    Args:
        tensors: one tensor or several.
        print_func: called with the list of values, torch tensors in the order of `tensors`; None logs the
            scalars by name.
        get_tb_values: `(values) -> [(name, value)]` for TensorBoard; None writes the scalars by name.
        log_to_tb_func: `(writer, values, step)`, writes anything else to TensorBoard.
        step_freq: steps between logs.
        tb_writer: TensorBoard writer; None takes the factory's.

    Raises:
        UsageError: not a tensor of a graph, or a `step_freq` below 1.
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
        if step_freq < 1:
            raise UsageError("out of range", where="step_freq", found=step_freq, expected="1 or more")
        self.tensors = as_tensors(tensors, "tensors")
        self._names = names_of(self.tensors)
        self._print = print_func or self._print_by_name
        self._get_tb_values = get_tb_values or self._numbers_by_name
        self._log_to_tb = log_to_tb_func
        self.step_freq = step_freq
        self.tb_writer = tb_writer
        self._epoch_began = self._step_began = 0.0
        self._epochs_before = 0

    def _numbers_by_name(self, values: list[Any]) -> list[tuple[str, Any]]:
        return [
            (name, value)
            for name, value in zip(self._names, values, strict=True)
            if value.numel() == 1  # logits and the like are left to the user's functions
        ]

    def _print_by_name(self, values: list[Any]) -> None:
        for name, value in self._numbers_by_name(values):
            logging.info("%s: %.4f", name, float(value))

    def on_epoch_start(self) -> None:
        self._epoch_began = time.monotonic()
        self._epochs_before = self.epoch_num

    def on_iteration_start(self) -> None:
        self._step_began = time.monotonic()

    def reads_at(self, step: int) -> bool:
        return step == 1 or step % self.step_freq == 0

    def on_iteration_end(self) -> None:
        if self.global_rank != 0 or not self.reads_at(self.step):
            return
        seconds = time.monotonic() - self._step_began
        values = [self.action.value_of(tensor) for tensor in self.tensors]
        logging.info("Step: %d", self.step)
        self._print(values)
        logging.info("Step time: %.3f seconds", seconds)
        if writer := self._writer():
            for name, value in self._get_tb_values(values):
                writer.add_scalar(name, float(value), self.step)
            if self._log_to_tb is not None:
                self._log_to_tb(writer, values, self.step)
            writer.add_scalar("param/lr", self.learning_rate, self.step)
            writer.add_scalar("misc/step_time", seconds, self.step)

    def on_epoch_end(self) -> None:
        if self.global_rank != 0 or self.epoch_num == self._epochs_before:  # max_steps cut it short
            return
        seconds = time.monotonic() - self._epoch_began
        logging.info("Epoch %d ended after %.1f seconds", self.epoch_num, seconds)
        if writer := self._writer():
            writer.add_scalar("misc/epoch", self.epoch_num, self.step)
            writer.add_scalar("misc/epoch_time", seconds, self.step)

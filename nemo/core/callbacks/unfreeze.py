"""Unfreezing modules at a given epoch."""

from collections.abc import Iterable
from typing import Any

from nemo.core.callbacks.action import ActionCallback
from nemo.utils.errors import UsageError
from nemo.utils.logging import logging


class UnfreezeCallback(ActionCallback):
    """Unfreezes modules at the start of an epoch, also in a run that resumes in or after that epoch.

    Args:
        modules: one module or several, frozen by `module.freeze()`.
        start_epoch: number of finished epochs before they are unfrozen; 0 means at once.

    Raises:
        UsageError: a module without weights, or a negative epoch.
    """

    def __init__(self, modules: Any | Iterable[Any], start_epoch: int = 0):
        self.modules = list(modules) if isinstance(modules, Iterable) else [modules]
        for module in self.modules:
            if not hasattr(module, "unfreeze"):
                raise UsageError(
                    "cannot be unfrozen", where="modules", found=str(module), expected="a module with weights"
                )
        if start_epoch < 0:
            raise UsageError("out of range", where="start_epoch", found=start_epoch, expected="0 or more")
        self.start_epoch = start_epoch
        self._is_done = False

    def on_action_start(self) -> None:
        self._is_done = False

    def on_epoch_start(self) -> None:
        if self._is_done or self.epoch_num < self.start_epoch:
            return
        for module in self.modules:
            module.unfreeze()
        self._is_done = True
        logging.info("epoch %d: %s unfrozen", self.epoch_num, ", ".join(map(str, self.modules)))

"""Sends figures to the trackers of a run, besides TensorBoard; each is imported only when used.

A resumed run continues the same run there: `trackers.json` in its folder records the name.
"""

import importlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

from nemo.core import ActionCallback
from nemo.utils.errors import UsageError, reason
from nemo.utils.logging import logging
from nemo.utils.work_folder import WorkFolder

TENSORBOARD, NONE = "tensorboard", "none"
FILE = "trackers.json"
PROJECT = "nemo-bert"


class Tracker(Protocol):
    """A service that draws curves."""

    def log(self, figures: Mapping[str, float], step: int) -> None: ...
    def close(self, is_finished: bool) -> None: ...


class Wandb:
    """Weights & Biases (https://wandb.ai), configured by its variables such as WANDB_MODE=offline."""

    def __init__(self, package: Any, name: str, config: Mapping[str, Any], is_new: bool):
        project = os.environ.get("WANDB_PROJECT", PROJECT)
        resume = "never" if is_new else "allow"
        self._run = package.init(project=project, id=name, name=name, config=dict(config), resume=resume)

    def log(self, figures: Mapping[str, float], step: int) -> None:
        self._run.log(dict(figures), step=step)

    def close(self, is_finished: bool) -> None:
        self._run.finish(exit_code=0 if is_finished else 1)


class Trackio:
    """Trackio (https://github.com/gradio-app/trackio): curves on this machine; `trackio show` draws them."""

    def __init__(self, package: Any, name: str, config: Mapping[str, Any], is_new: bool):
        project = os.environ.get("TRACKIO_PROJECT", PROJECT)
        resume = "never" if is_new else "allow"
        self._run = package.init(project=project, name=name, config=dict(config), resume=resume, embed=False)

    def log(self, figures: Mapping[str, float], step: int) -> None:
        self._run.log(dict(figures), step=step)

    def close(self, is_finished: bool) -> None:
        self._run.finish()


KINDS: dict[str, Callable[..., Tracker]] = {"wandb": Wandb, "trackio": Trackio}


def refuse_missing(names: Sequence[str]) -> None:
    """Before the work, check that the packages are installed.

    Raises:
        UsageError: one is not.
    """
    for name in names:
        if name in KINDS:
            _imported(name)


def _imported(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        fix = f"pip install {name}, or leave out the option"
        raise UsageError(f"cannot be used: {reason(error)}", where=f"--tracker {name}", fix=fix) from error


class Trackers(ActionCallback):
    """Opens the trackers when the run begins, sends figures to them, and closes them at the end of its block.

    Args:
        names: as in `--tracker`; TensorBoard is handled by the factory.
        work_folder: that of the run; its name and the time are the name of the run there.
        config: the options, for display.
    """

    def __init__(self, names: Sequence[str], work_folder: WorkFolder, config: Mapping[str, Any]):
        self.names = [name for name in names if name in KINDS]
        self.work_folder, self.config = work_folder, config
        self._open: list[Tracker] = []

    def on_action_start(self) -> None:
        if not self.names or self.global_rank != 0:
            return
        known = self._known()
        new = f"{self.work_folder.work_dir.resolve().name}-{time.strftime('%Y%m%d-%H%M%S')}"
        for name in self.names:
            package = _imported(name)
            called = known.setdefault(name, new)
            try:
                self._open.append(KINDS[name](package, called, self.config, is_new=called is new))
            except Exception as error:  # each package has its own exceptions
                raise UsageError(
                    f"cannot be used: {reason(error)}", where=f"--tracker {name}", fix="leave out the option"
                ) from error
            logging.info("figures go to %s, as %s", name, called)
        self.work_folder.write_json(FILE, known)

    def _known(self) -> dict[str, str]:
        with suppress(OSError, ValueError, TypeError):
            known = json.loads((self.work_folder.work_dir / FILE).read_bytes())
            return {str(name): str(called) for name, called in dict(known).items()}
        return {}

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """Send figures by name, as to TensorBoard."""
        for tracker in self._open:
            tracker.log(figures, step)

    def __enter__(self) -> "Trackers":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        while self._open:
            self._open.pop().close(is_finished=kind is None)

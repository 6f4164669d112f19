"""Figures to the trackers that a run names, beside TensorBoard; each is imported when it is used, not before.

A resumed run is the same run there: `trackers.json` in its folder says under which name.
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
from nemo.utils.experiment import ExperimentFolder
from nemo.utils.logging import logging

TENSORBOARD, NONE = "tensorboard", "none"
FILE = "trackers.json"
PROJECT = "nemo-bert"


class Tracker(Protocol):
    """A service that draws curves."""

    def log(self, figures: Mapping[str, float], step: int) -> None: ...
    def close(self, is_finished: bool) -> None: ...


class Wandb:
    """Weights & Biases (https://wandb.ai); variables of its own, such as WANDB_MODE=offline, steer it."""

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
    """See before the work that the packages are there.

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
        fix = f"pip install {name}, or leave the option out"
        raise UsageError(f"cannot be used: {reason(error)}", where=f"--tracker {name}", fix=fix) from error


class Trackers(ActionCallback):
    """Opens the trackers when the run begins, hands figures on to them; closes them at the end of its block.

    Args:
        names: as `--tracker` takes them; TensorBoard is the factory's business.
        experiment: the work folder; its name, and the time, are what the run is called there.
        config: the options, for people to look at.
    """

    def __init__(self, names: Sequence[str], experiment: ExperimentFolder, config: Mapping[str, Any]):
        self.names = [name for name in names if name in KINDS]
        self.experiment, self.config = experiment, config
        self._open: list[Tracker] = []

    def on_action_start(self) -> None:
        if not self.names or self.global_rank != 0:
            return
        known = self._known()
        new = f"{self.experiment.work_dir.resolve().name}-{time.strftime('%Y%m%d-%H%M%S')}"
        for name in self.names:
            package = _imported(name)
            called = known.setdefault(name, new)
            try:
                self._open.append(KINDS[name](package, called, self.config, is_new=called is new))
            except Exception as error:  # each package has its own
                raise UsageError(
                    f"cannot be used: {reason(error)}", where=f"--tracker {name}", fix="leave the option out"
                ) from error
            logging.info("figures go to %s, as %s", name, called)
        self.experiment.write_json(FILE, known)

    def _known(self) -> dict[str, str]:
        with suppress(OSError, ValueError, TypeError):
            known = json.loads((self.experiment.work_dir / FILE).read_bytes())
            return {str(name): str(called) for name, called in dict(known).items()}
        return {}

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """Numbers by name, as TensorBoard has them."""
        for tracker in self._open:
            tracker.log(figures, step)

    def __enter__(self) -> "Trackers":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        while self._open:
            self._open.pop().close(is_finished=kind is None)

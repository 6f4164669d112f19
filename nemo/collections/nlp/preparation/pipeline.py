"""A stage in the form that datatrove runs, in separate processes."""

from typing import Any

import multiprocess
from loguru import logger

from nemo.collections.nlp.preparation.stages import Stage
from nemo.utils.children import die_with_parent

# datatrove logs pages about every task. Tasks report what matters themselves, see tasks.py. This is the
# module that every process imports before datatrove logs anything.
logger.disable("datatrove")


class PipelineStep:
    """A stage as the one step of a datatrove pipeline."""

    def __init__(self, stage: Stage):
        self._stage = stage

    def __call__(self, data: Any = None, rank: int = 0, world_size: int = 1) -> None:
        """Run task `rank`; `data` would be the output of an earlier step of the pipeline."""
        if multiprocess.parent_process() is not None:  # otherwise this process hands out the tasks
            die_with_parent()
        self._stage(rank)

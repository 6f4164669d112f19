"""A step as datatrove runs it, in separate processes."""

from typing import Any

import multiprocess
from loguru import logger

from nemo.collections.nlp.preparation.steps import Step
from nemo.utils.children import die_with_parent

# datatrove tells every task's life in pages. What is of interest, tasks tell themselves, see tasks.py; and
# this is the module that every process imports before datatrove speaks.
logger.disable("datatrove")


class PipelineStep:
    """What a pipeline of datatrove's consists of."""

    def __init__(self, step: Step):
        self._step = step

    def __call__(self, data: Any = None, rank: int = 0, world_size: int = 1) -> None:
        """Do task `rank`; `data` is what an earlier step of datatrove's would hand on."""
        if multiprocess.parent_process() is not None:  # else this is the process that gives the tasks
            die_with_parent()
        self._step(rank)

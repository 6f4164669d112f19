"""Processes that trained together end without gloo's threads, which may abort an interpreter that ends."""

import pytest

from tests.distributed.launching import Job, by_hand

JOINED = """
import atexit
from pathlib import Path

@atexit.register  # before those of the package, so it is called after them
def tell():
    print(*(task.joinpath("comm").read_text() for task in Path("/proc/self/task").iterdir()))

import torch
from nemo.backends.pytorch.distributed.world import join
world = join(torch.device("cpu"))
world.all_reduce(torch.ones(1))
"""
WAYS = {
    "a script": "",
    "a block": "with world:\n    world.all_reduce(torch.ones(1))",
    "a script that fails": 'raise ValueError("on purpose")',
    "a block that fails": 'with world:\n    raise ValueError("on purpose")',
}


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_no_thread_of_gloo_is_left_when_the_interpreter_ends(way, tmp_path):
    other = WAYS[way].replace("raise", "import time; time.sleep(600)  # the error of rank 1 ends it")
    with by_hand(tmp_path, [["-c", JOINED + other], ["-c", JOINED + WAYS[way]]]) as (_, job):
        assert job.wait() == ("fails" in way), job.err
        assert "python" in job.out and "gloo" not in job.out


ENDING = """
import atexit

atexit.register(print, "the end", end="")
from nemo.cli.main import program
program(["--versio"])
"""


def test_output_is_complete_if_the_process_ends_early(tmp_path):
    # A command with several processes, as torch's caches may keep the threads.
    with Job(tmp_path, "-c", ENDING, WORLD_SIZE=2) as job:
        assert job.wait() == 2
        assert job.out == "the end" and "unknown command" in job.err

"""Processes find each other in a store in which others may have been before them."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import torch.distributed as dist

from nemo.backends.pytorch.distributed.world import _gather
from nemo.utils.errors import DistributedError
from tests.conftest import PATIENCE

SIZE = 3


def meet(store, late=None, absent=None, seconds=PATIENCE):
    """What every process gets of `_gather`; those that `late` names come last."""

    def of_rank(rank):
        if rank == late:
            time.sleep(0.3)
        return _gather(store, rank, SIZE, timedelta(seconds=seconds))

    with ThreadPoolExecutor(SIZE) as pool:
        return list(pool.map(of_rank, [rank for rank in range(SIZE) if rank != absent]))


@pytest.mark.parametrize("late", [0, 1, 2])
def test_restarted_processes_join_each_other_not_earlier_ones(late):
    store = dist.HashStore()
    for _ in range(3):
        parts = meet(store, late)
        assert all(not part.check(["verdict"]) for part in parts)
        parts[late].set("verdict", "of this time")
        assert [part.get("verdict") for part in parts] == [b"of this time"] * SIZE


@pytest.mark.parametrize("is_first_time", [True, False])
def test_a_missing_process_is_named(is_first_time):
    store = dist.HashStore()
    if not is_first_time:
        meet(store)
    with pytest.raises(DistributedError, match=r"not all processes have joined; found no rank 1, expected 3"):
        meet(store, absent=1, seconds=3.0)

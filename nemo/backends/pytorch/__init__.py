"""Running graphs with PyTorch."""

from nemo.backends.pytorch import common, tutorials
from nemo.backends.pytorch.actions import PtActions
from nemo.backends.pytorch.distributed.world import join, num_failed
from nemo.backends.pytorch.environment import (
    ask_for_huge_pages,
    device_for,
    make_tb_writer,
    seed_everything,
    set_kernel_benchmark,
)
from nemo.backends.pytorch.nm import DataLayerNM, LossNM, NonTrainableNM, TrainableNM
from nemo.core.actions import MakeActions

__all__ = [
    "DataLayerNM",
    "LossNM",
    "NonTrainableNM",
    "PtActions",
    "TrainableNM",
    "common",
    "device_for",
    "join",
    "make_actions",
    "make_tb_writer",
    "num_failed",
    "seed_everything",
    "set_kernel_benchmark",
    "tutorials",
]

make_actions: MakeActions = PtActions  # as the core calls it

ask_for_huge_pages()

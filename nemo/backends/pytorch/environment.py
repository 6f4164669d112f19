"""Devices, seeds and the TensorBoard writer: what a run needs from the machine."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from nemo.core.neural_factory import DeviceType
from nemo.utils.errors import UsageError


def place(placement: DeviceType | None, local_rank: int | None = None) -> torch.device:
    """The device of this process; None takes a GPU where there is one, else the CPU.

    Raises:
        UsageError: a GPU is asked for and there is none.
    """
    has_gpu = torch.cuda.is_available()
    if placement is DeviceType.CPU or (placement is None and not has_gpu):
        return torch.device("cpu")
    if not has_gpu:
        raise UsageError(
            "no GPU can be used here",
            where="placement",
            found=placement.name if placement else None,
            fix="leave placement out, or pass DeviceType.CPU",
        )
    return torch.device("cuda", local_rank or 0)


def seed_everything(seed: int) -> None:
    """Seed torch and numpy, and ask cuDNN for reproducible algorithms."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    torch.backends.cudnn.deterministic = True


def set_cudnn_benchmark(on: bool) -> None:
    """Let cuDNN time its algorithms and take the fastest."""
    torch.backends.cudnn.benchmark = on


def make_tb_writer(folder: str | Path) -> Any:
    """A TensorBoard SummaryWriter."""
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder))

"""Devices, memory settings, seeds and the TensorBoard writer."""

import ctypes
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nemo.backends.pytorch.ops import native
from nemo.backends.pytorch.ops.hardware import has_tile_units
from nemo.core.settings import DeviceType
from nemo.utils.errors import UsageError
from nemo.utils.logging import LogMode, logging


def device_for(placement: DeviceType | None, local_rank: int | None = None) -> torch.device:
    """The device of this process.

    Args:
        placement: None takes a GPU if there is one, else the CPU.
        local_rank: index of the GPU; None means 0.

    Raises:
        UsageError: a GPU is requested, but there is none.
    """
    has_gpu = torch.cuda.is_available()
    if placement is DeviceType.CPU or (placement is None and not has_gpu):
        return torch.device("cpu")
    if not has_gpu:
        raise UsageError(
            "no usable GPU",
            where="placement",
            found=placement.name if placement else None,
            fix="omit placement, or pass DeviceType.CPU",
        )
    return torch.device("cuda", local_rank or 0)


def fingerprint(device: torch.device) -> dict[str, str | int]:
    """The properties of this machine on which the last bits of a sum depend."""
    name = "cpu" if device.type == "cpu" else torch.cuda.get_device_name(device)
    return {
        "torch": torch.__version__,
        "device": name,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "kernels": "native" if native.available() else "plain",
    }


def to_device(values: Iterable[Any], device: torch.device) -> list[Any]:
    """The values of a batch, with tensors moved to `device`."""
    return [v.to(device, non_blocking=True) if isinstance(v, Tensor) else v for v in values]


def keep_freed_memory() -> None:
    """Make the C library keep freed memory instead of returning it to the kernel at once.

    A training step frees and allocates the same large blocks again and again, and every new page from the
    kernel is a page fault: 5% of a step in fp32, up to half of one with bf16 matrix units. No effect without
    glibc.
    """
    glibc = ctypes.CDLL(None)
    if hasattr(glibc, "gnu_get_libc_version"):
        for option, value in ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 512 << 20)):
            glibc.mallopt(option, value)


def ask_for_huge_pages() -> None:
    """Make torch allocate large tensors on pages of 2 MB where that pays: on a processor with AMX.

    A bf16 step is so short there that page faults for 4 KB pages take 15% of it. Elsewhere they take 1 or 2%,
    and large pages need a fifth more memory. torch reads the variable once, before the first tensor of the
    process. A value set by the user is kept.
    """
    if has_tile_units():
        os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


# From <malloc.h>.
_M_MMAP_MAX, _M_TRIM_THRESHOLD, _M_TOP_PAD = -4, -1, -2


def seed_everything(seed: int) -> None:
    """Seed torch and numpy, and select reproducible cuDNN algorithms."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    torch.backends.cudnn.deterministic = True


def seed_dropout(seed: int, step: int, rank: int, device: torch.device) -> None:
    """Make a step's dropout a function of (seed, step, rank), so that a resumed run repeats it.

    Only the generators in use are seeded, as `torch.manual_seed` records a stack trace for every other type
    of device.
    """
    state = np.random.SeedSequence((seed, step, rank)).generate_state(1, np.uint64)[0]
    number = int(state) >> 1
    torch.default_generator.manual_seed(number)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(number)


def set_kernel_benchmark(on: bool) -> None:
    """Let cuDNN choose its fastest algorithms by benchmark, or not."""
    torch.backends.cudnn.benchmark = on


def make_tb_writer(folder: str | Path) -> Any:
    """A TensorBoard SummaryWriter that only warns when the disk is full."""
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder))
    events: Any = writer.file_writer.event_writer  # type: ignore[union-attr, attr-defined]
    for name in ("add_event", "flush", "close"):
        setattr(events, name, _at_most_a_warning(getattr(events, name), folder))
    return writer


def _at_most_a_warning(work: Callable[..., None], folder: str | Path) -> Callable[..., None]:
    def try_to(*arguments: Any) -> None:
        try:
            work(*arguments)
        except OSError as error:
            problem = f"{folder}: {error.strerror or error}; training continues without further events here"
            logging.warning(problem, mode=LogMode.ONCE)

    return try_to

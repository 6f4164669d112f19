"""The hardware of a run: its processors, their speed and the free memory."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from nemo.backends.pytorch.ops.hardware import has_bf16_units

TIMED_SECONDS = 0.2
"""Matrix products are repeated for about this many seconds."""
LOOKS, SECONDS_OF_LOOKS = 5, 0.2
"""The threads that run are counted this many times, evenly spread over this many seconds."""
BUSY = 0.5
"""Other work is reported if it uses more than this share of the cores."""
_ROWS, _WIDTH, _COLUMNS = 2048, 512, 2048


@dataclass(frozen=True)
class Machine:
    """The hardware that a model is trained on.

    Attributes:
        device: "cpu" or "cuda".
        name: name of the processors, for display.
        has_bf16: whether bf16 matrix products are faster than fp32 ones.
        matmul_rate: FLOP/s of matrix products, in bf16 if `has_bf16`, else in fp32.
        memory: free bytes.
    """

    device: str
    name: str
    has_bf16: bool
    matmul_rate: float
    memory: int


def this_machine(device: torch.device) -> Machine:
    """Examine a device, and time matrix products on it."""
    has_bf16 = has_bf16_units(device)
    dtype = torch.bfloat16 if has_bf16 else torch.float32
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        cores = torch.get_num_threads()
        name = f"{cores} CPU core{'s' if cores > 1 else ''}"
    return Machine(device.type, name, has_bf16, matmul_rate(device, dtype), free_memory(device))


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Measured FLOP/s of matrix products in sizes typical of BERT."""
    left = torch.ones(_ROWS, _WIDTH, dtype=dtype, device=device)
    right = torch.ones(_WIDTH, _COLUMNS, dtype=dtype, device=device)

    def seconds_of(products: int) -> float:
        began = time.perf_counter()
        for _ in range(products):
            left @ right
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - began

    seconds_of(2)  # warm up
    products = max(4, round(4 * TIMED_SECONDS / seconds_of(4)))
    return 2 * _ROWS * _WIDTH * _COLUMNS * products / seconds_of(products)


def other_work() -> float | None:
    """The number of other threads that run right now, if they use cores that this process needs.

    None with one thread, if at least half of the cores are free, or if that cannot be known: not on Linux, or
    this process may use only some of the cores.
    """
    running = Path("/proc/loadavg")
    cores = len(os.sched_getaffinity(0))
    if torch.get_num_threads() == 1 or not running.exists() or cores != os.cpu_count():
        return None
    others = []
    for _ in range(LOOKS):
        others.append(int(running.read_text().split()[3].split("/")[0]) - 1)  # this thread runs, too
        time.sleep(SECONDS_OF_LOOKS / LOOKS)
    busy = sum(others) / LOOKS
    return busy if busy > BUSY * cores else None


def free_memory(device: torch.device) -> int:
    """Free bytes: of the GPU, or of the machine within the limit of this process's control group."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        (available,) = (line for line in meminfo.read_text().splitlines() if line.startswith("MemAvailable"))
        free = int(available.split()[1]) * 1024
    return min([free, *_left_in_control_group()])


def _left_in_control_group() -> list[int]:
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = ((group / name).read_text().strip() for name in ("memory.max", "memory.current"))
    except OSError:
        return []
    return [] if limit == "max" else [int(limit) - int(used)]

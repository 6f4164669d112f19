"""The machine of a benchmark: what it is and how fast it is, to notice when its speed changes."""

import os
import platform
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

import torch

STEADY = 0.1  # maximum relative change of the machine's speed during a measurement
GEMM_ON_CPU, GEMM_ON_GPU = (2048, 768, 3072), (8192, 8192, 8192)
CPU_FEATURES = (
    "avx2",
    "fma",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "amx_tile",
    "amx_bf16",
    "asimd",
    "bf16",
)


def environment(device: str) -> dict[str, Any]:
    """The environment that the results depend on."""
    about = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(Path(word).name if word.startswith("/") else word for word in sys.argv),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in ("torch", "transformers", "accelerate", "numpy")},
        "cpu": _cpu(),
        "threads": torch.get_num_threads(),
        "variables": {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "LD_PRELOAD")},
        "load": os.getloadavg()[0],
    }
    if device == "cuda":
        about["gpu"] = torch.cuda.get_device_name()
    return about


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu() -> dict[str, Any]:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    return {
        "model": fields.get("model name", platform.processor()),
        "cores": os.cpu_count(),
        "features": [name for name in CPU_FEATURES if name in flags],
        "torch_uses": torch.backends.cpu.get_cpu_capability(),
    }


def probe(device: str, seconds: float) -> dict[str, float]:
    """Speed of matrix products by type, in FLOP/s, and of a copy, in bytes/s (reads plus writes)."""
    rows, inner, columns = GEMM_ON_GPU if device == "cuda" else GEMM_ON_CPU
    rates = {}
    for dtype in (torch.float32, torch.bfloat16):
        left = torch.randn(rows, inner, device=device, dtype=dtype)
        right = torch.randn(columns, inner, device=device, dtype=dtype)
        out = torch.empty(rows, columns, device=device, dtype=dtype)
        each = _seconds_per_call(partial(torch.mm, left, right.t(), out=out), device, seconds)
        rates[str(dtype).removeprefix("torch.")] = 2 * rows * inner * columns / each
    source = torch.ones(64 << 20 if device == "cpu" else 4 << 30, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    each = _seconds_per_call(partial(target.copy_, source), device, seconds / 5)
    rates["copy"] = 2 * source.numel() / each
    del left, right, out, source, target
    if device == "cuda":
        torch.cuda.empty_cache()  # leave the memory to the measuring processes
    return rates


def _seconds_per_call(call: Callable[[], Any], device: str, seconds: float) -> float:
    """The median over intervals of some hundredths of a second, which ignores brief disturbances."""
    call()
    found: list[float] = []
    end = time.perf_counter() + seconds
    calls = 1
    while not found or time.perf_counter() < end:
        synchronize(device)
        began = time.perf_counter()
        for _ in range(calls):
            call()
        synchronize(device)
        found.append((time.perf_counter() - began) / calls)
        calls = max(1, int(0.05 / found[-1]))
    return median(found)


def change(before: Mapping[str, float], after: Mapping[str, float]) -> float:
    """The largest relative change of the probe's rates, without the copy, which always varies."""
    return max(abs(after[name] / before[name] - 1) for name in before if name != "copy")


def synchronize(device: str) -> None:
    """Wait for a GPU."""
    if device == "cuda":
        torch.cuda.synchronize()


def probe_lines(before: Mapping[str, float], after: Mapping[str, float]) -> list[str]:
    """The machine's speed before and after, with a warning if it changed too much."""
    units = {name: (1e9, "GB/s") if name == "copy" else (1e12, "TFLOP/s") for name in before}
    lines = [
        f"{name:9} {before[name] / unit:8.3f} -> {after[name] / unit:8.3f} {called}"
        for name, (unit, called) in units.items()
    ]
    moved = change(before, after)
    if moved > STEADY:
        lines.append(f"NOT VALID: the matrix products' rate changed by {moved:.0%} during the measurement")
    return lines

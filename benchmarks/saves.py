"""Measures the training time that a checkpoint costs, saved in the background or while training waits.

    python benchmarks/saves.py [--shapes mini base128] [--steps 3] [--windows 4]

In one training, windows of several steps alternate (A B C A B C ...): without a save, with a save in the
background, and with a save that training waits for. A window ends when its checkpoint is on disk, so the cost
of a save is the extra time of its window. The share is relative to 100 steps, the default of
--save_step_freq. The time to verify and read the newest checkpoint is also measured.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

import torch
from machine import environment
from measure import table, write_json
from step import SHAPES
from ways import Way, synthetic_batches, train

from nemo.backends.pytorch.checkpoints import checkpoint
from nemo.core import NeuralModuleFactory

INTERVAL = 100  # steps, the default of --save_step_freq
WAYS = ("none", "background", "waiting")


class _EnoughError(Exception):
    """All windows are measured."""


class _Windows:
    """Saves after the first step of a window, in the window's way, and times all windows."""

    def __init__(self, folder: Path, steps: int, windows: int):
        self.folder, self.steps = folder, steps
        self.plan = [WAYS[i % len(WAYS)] for i in range(windows * len(WAYS))]
        self.seconds: dict[str, list[float]] = {way: [] for way in WAYS}
        self.blocked: dict[str, list[float]] = {way: [] for way in WAYS}
        self._step = -2  # warm-up

    def tick(self) -> None:
        """Called after each step."""
        actions: Any = NeuralModuleFactory.get_default_factory().get_trainer()
        self._step += 1
        number, place = divmod(self._step, self.steps)
        if self._step < 0:
            return
        if place == 0:
            if number > 0:
                actions.is_saved()
                self.seconds[self.plan[number - 1]].append(time.perf_counter() - self._began)
            if number == len(self.plan):
                raise _EnoughError
            way, self._began = self.plan[number], time.perf_counter()
            if way != "none":
                actions.save(self.folder, keep=1, wait=way == "waiting")
            self.blocked[way].append(time.perf_counter() - self._began)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print and write; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=["mini", "base128"])
    parser.add_argument("--steps", type=int, default=3, help="steps per window; a save must be shorter")
    parser.add_argument("--windows", type=int, default=4, help="windows per way")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    cases = [_measure(name, args.steps, args.windows) for name in args.shapes]
    header = ["shape", "checkpoint", "step", "way", "blocked", "taken", f"of {INTERVAL} steps", "read"]
    print(table(header, [row for case in cases for row in _rows(case)]))
    write_json(args.json, {"what": "saves", "environment": environment("cpu"), "cases": cases})
    return 0


def _measure(name: str, steps: int, windows: int) -> dict[str, Any]:
    shape = SHAPES[name]
    with tempfile.TemporaryDirectory() as folder:
        clock = _Windows(Path(folder), steps, windows)
        with suppress(_EnoughError):
            train(Way("ours", "O0"), shape.model, synthetic_batches(shape), "cpu", clock.tick)
        (newest,) = checkpoint.list_checkpoints(Path(folder))
        num_bytes = sum(path.stat().st_size for path in newest.iterdir())
        began = time.perf_counter()
        checkpoint.load(newest)
        read = time.perf_counter() - began
    without = median(clock.seconds["none"])
    return {
        "shape": name,
        "bytes": num_bytes,
        "seconds_of_step": without / steps,
        "seconds_to_read": read,
        "seconds_of_windows": clock.seconds,
        "seconds_blocked": clock.blocked,
        "seconds_taken": {way: [s - without for s in clock.seconds[way]] for way in WAYS},
    }


def _rows(case: dict[str, Any]) -> list[list[str]]:
    rows = []
    for way in ("background", "waiting"):
        taken = median(case["seconds_taken"][way])
        rows.append(
            [
                case["shape"],
                f"{case['bytes'] / 1e6:,.0f} MB",
                f"{case['seconds_of_step']:.2f} s",
                way,
                f"{median(case['seconds_blocked'][way]):.2f} s",
                f"{taken:.2f} s",
                f"{taken / (INTERVAL * case['seconds_of_step']):.2%}",
                f"{case['seconds_to_read']:.1f} s",
            ]
        )
    return rows


if __name__ == "__main__":
    sys.exit(main())

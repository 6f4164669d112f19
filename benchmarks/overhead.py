"""Breakdown of a step's time in the main thread, from a profile of a real run."""

import cProfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from measure import table
from torch import Tensor

from nemo.core import ActionCallback

# Phase -> its functions, as (end of the file's path, name), including the functions that they call.
PHASES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "take a batch": (("lm_bert_datalayer.py", "batches"),),
    "divisors": (("training/loop.py", "_next_inputs"),),  # which takes the batch as well
    "seed": (("pytorch/environment.py", "seed_dropout"),),
    "plan rows": (("graph/graph_module.py", "plan_rows"),),
    "weights to bf16": (("training/precision.py", "matrices"),),
    "forward": (("graph/graph_module.py", "forward"),),
    "backward": (("torch/_tensor.py", "backward"),),
    "norm": (("training/precision.py", "gradient_norm"),),
    "update": (("training/precision.py", "step"),),
    "callbacks": (("training/loop.py", "_notify"),),
}
ARITHMETIC = ("forward", "backward", "norm", "update")
# Python functions that count as kernels.
KERNELS = (("native/__init__.py", "call"), ("ops/linear.py", "product"))
READS = ("item", "tolist", "__float__", "__int__", "__bool__")  # tensor methods that wait for a GPU


class Overhead(ActionCallback):
    """Profiles consecutive steps, in CPU time of the training thread.

    Args:
        steps: number of steps.

    Attributes:
        has_begun: whether profiling has begun.
    """

    def __init__(self, steps: int):
        self.steps = steps
        self._seen = -1  # not begun
        self._profile = cProfile.Profile(time.thread_time)
        self._reads: Counter[str] = Counter()
        self._originals = {name: getattr(Tensor, name) for name in READS}

    def begin(self) -> None:
        """Start profiling with the next step."""
        self._seen = 0
        for name in READS:
            setattr(Tensor, name, self._counted(name))
        self._profile.enable()

    @property
    def has_begun(self) -> bool:
        return self.steps == 0 or self._seen >= 0

    def on_iteration_end(self) -> None:
        if 0 <= self._seen < self.steps:
            self._seen += 1
            if self._seen == self.steps:
                self._profile.disable()
                for name, original in self._originals.items():
                    setattr(Tensor, name, original)

    def _counted(self, name: str) -> Callable[..., Any]:
        original = self._originals[name]

        def counted(tensor: Tensor, *args: Any) -> Any:
            self._reads[name] += 1
            return original(tensor, *args)

        return counted

    def found(self, longest: int = 12) -> dict[str, Any]:
        """Milliseconds per step: of the phases, of Python, and of its slowest functions."""
        self._profile.create_stats()
        stats: Mapping[tuple[str, int, str], tuple[Any, ...]] = self._profile.stats  # type: ignore[attr-defined]
        each = 1e3 / self.steps
        total = each * sum(own for _, _, own, _, _ in stats.values())
        phases = {
            phase: each * sum(s[3] for place, s in stats.items() if _is_one_of(place, functions))
            for phase, functions in PHASES.items()
        }
        phases["divisors"] -= phases["take a batch"]
        phases["rest of the loop"] = total - sum(phases.values())
        python = {
            f"{_short(file)}:{name}": each * stats[file, line, name][2]
            for file, line, name in stats
            if file != "~" and not _is_one_of((file, line, name), KERNELS)
        }
        most = sorted(python.items(), key=lambda item: item[1], reverse=True)[:longest]
        return {
            "steps": self.steps,
            "ms": total,
            "phases_ms": phases,
            "python_ms": sum(python.values()),
            "calls": sum(calls for _, calls, _, _, _ in stats.values()) / self.steps,
            "reads": {name: times / self.steps for name, times in self._reads.items()},
            "longest_ms": dict(most),
        }


def _is_one_of(place: tuple[str, int, str], functions: tuple[tuple[str, str], ...]) -> bool:
    file, _, name = place
    return any(file.endswith(end) and name == function for end, function in functions)


def _short(file: str) -> str:
    return "/".join(file.split("/")[-2:])


def overhead_lines(found: Mapping[str, Any]) -> list[str]:
    """The results as text."""
    rows = [[phase, f"{ms:.2f}", f"{ms / found['ms']:.1%}"] for phase, ms in found["phases_ms"].items()]
    besides = sum(ms for phase, ms in found["phases_ms"].items() if phase not in ARITHMETIC)
    return [
        "",
        f"CPU time of the main thread in {found['steps']} profiled steps (profiling slows Python down):",
        table(["phase", "ms per step", "share"], rows),
        f"besides forward, backward, norm and update: {besides:.2f} ms, {besides / found['ms']:.1%}",
        f"Python around the kernels: {found['python_ms']:.1f} ms in {found['calls']:,.0f} calls per step",
        f"reads of tensors: {', '.join(f'{name} {times:g}' for name, times in found['reads'].items())}",
        *(f"  {ms:7.2f} ms  {name}" for name, ms in found["longest_ms"].items()),
    ]

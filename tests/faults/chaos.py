"""All experiments, as often as it takes to trust their outcome: `make chaos`. Some hours on two cores.

Writes a table, what failed and how, and the figures to a folder.
"""

import argparse
import json
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from nemo.utils.logging import logging
from tests.faults.experiments import inputs, several, storage, strikes
from tests.faults.experiments.bench import Bench, Trials
from tests.faults.runs import ROOT

# Experiment, and how many trials; of a soak, minutes; of mutants, how many of each kind of file.
PLAN: list[tuple[Callable[[Bench, int], Trials], int]] = [
    (strikes.kills, 100),
    (several.kills_of_two, 60),
    (strikes.kills_in_saves, 40),
    (strikes.signals, 150),
    (strikes.restarts, 3),
    (storage.bit_flips, 500),
    (storage.truncations, 100),
    (storage.all_bad, 20),
    (storage.full_disks, 20),
    (storage.failing_disks, 30),
    (inputs.data_order, 12),
    (several.other_numbers_of_processes, 4),
    (several.dead_processes, 20),
    (several.stopped_processes, 20),
    (inputs.bad_numbers, 20),
    (inputs.mutants, 2000),
    (inputs.command_lines, 2000),
    (strikes.soak, 10),
]


@dataclass
class Outcome:
    """What an experiment has shown."""

    name: str
    what: str
    trials: int
    passed: int
    seconds: float
    failures: list[str]


def run(experiment: Callable[[Bench, int], Trials], number: int, bench: Bench) -> Outcome:
    """All trials of an experiment; one that breaks off counts as a failure."""
    began, told = time.monotonic(), []
    try:
        for problem in experiment(bench, number):
            told.append(problem)
    except Exception as broken:
        told.append(f"{type(broken).__name__}: {broken}")
        if not isinstance(broken, AssertionError | OSError | ValueError):
            raise
    failures = [problem for problem in told if problem]
    what = " ".join((experiment.__doc__ or "").split())
    seconds = time.monotonic() - began
    return Outcome(experiment.__name__, what, len(told), len(told) - len(failures), seconds, failures)


def report(outcomes: list[Outcome], notes: dict[str, list[float]], command: str, seed: int) -> str:
    """The outcomes as Markdown."""
    lines = [
        "# Faults, many times over",
        "",
        f"`{command}` (seed {seed}), {platform.machine()}, Python {platform.python_version()}, torch "
        f"{torch.__version__}, commit {_commit()}. Written by the program; nothing is left out.",
        "",
        "| Experiment | What is done, and what must be true | Passed | Minutes |",
        "| --- | --- | --- | --- |",
    ]
    for o in outcomes:
        lines.append(f"| {o.name} | {o.what} | {o.passed:,} of {o.trials:,} | {o.seconds / 60:.1f} |")
    lines += ["", "| Figure | Number | Median | Largest |", "| --- | --- | --- | --- |"]
    for name, values in notes.items():
        lines.append(f"| {name} | {len(values):,} | {statistics.median(values):.4g} | {max(values):.4g} |")
    failures = [f"- {o.name}: {failure}" for o in outcomes for failure in o.failures]
    return "\n".join([*lines, "", "## What failed", "", *(failures or ["Nothing."]), ""])


def _commit() -> str:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip() or "unknown"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="folder for README.md and results.json; default: only shown")
    parser.add_argument("--share", type=float, default=1.0, help="of the trials of the full plan")
    parser.add_argument("--only", nargs="*", help=", ".join(experiment.__name__ for experiment, _ in PLAN))
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    args = parser.parse_args()
    logging.setLevel(logging.ERROR)
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench.make(Path(folder), args.seed)
        for experiment, number in PLAN:
            if args.only and experiment.__name__ not in args.only:
                continue
            outcome = run(experiment, max(1, round(number * args.share)), bench)
            outcomes.append(outcome)
            print(
                f"{outcome.name}: {outcome.passed:,} of {outcome.trials:,}, {outcome.seconds:.0f} s",
                flush=True,
            )
            print(*outcome.failures[:5], sep="\n", flush=True)
            text = report(outcomes, bench.notes, " ".join(["make chaos", *sys.argv[1:]]), args.seed)
            if args.out is not None:  # after every one, as it may be stopped
                args.out.mkdir(parents=True, exist_ok=True)
                (args.out / "README.md").write_text(text, encoding="utf-8")
                results = {"outcomes": [asdict(o) for o in outcomes], "figures": bench.notes}
                (args.out / "results.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
    print(text)
    return 0 if all(not outcome.failures for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())

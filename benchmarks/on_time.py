"""Measures how closely a run keeps to `--minutes`, in wall-clock time of the whole command.

    python benchmarks/on_time.py TEXT [--minutes 3] [--level O0] [options of nemo-bert pretrain]

The process is timed, so Python's startup is included. The goal on an idle machine is 90 to 110% of the
minutes; the load average before and after shows how idle it was.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from machine import environment
from measure import write_json
from train import OPTIONS


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print and write; return the exit status of the run."""
    args = _arguments(argv)
    load = [os.getloadavg()[0]]
    with tempfile.TemporaryDirectory() as folder:
        options = {
            **OPTIONS,
            "train_data": args.text,
            "work_dir": folder,
            "minutes": args.minutes,
            "amp_opt_level": args.level,
            "lr_policy": "PolynomialDecayAnnealing",
            "train_step_freq": 1,
        }
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        command = [sys.executable, "-m", "nemo.cli.main", "pretrain", *words, *args.options, "data_text"]
        began = time.monotonic()
        code = subprocess.run(command, check=False).returncode
        seconds = time.monotonic() - began
        load.append(os.getloadavg()[0])
        if code != 0:
            return code
        report = {"what": "on_time", "environment": environment("cpu"), **_found(Path(folder))}
    report |= {
        "minutes": args.minutes,
        "seconds": seconds,
        "share": seconds / (60 * args.minutes),
        "load": load,
    }
    print("\n".join(_lines(report)), flush=True)
    write_json(args.json, report)
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("text", type=Path, help="a file or folder, as for --train_data")
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--level", default="O0", choices=["O0", "O1", "O2"])
    parser.add_argument("--json", type=Path, help="file for the report")
    args, args.options = parser.parse_known_args(argv)
    return args


def _found(work_dir: Path) -> dict[str, Any]:
    """Results from the run's files."""
    import yaml

    config = yaml.safe_load((work_dir / "config.yaml").read_text(encoding="utf-8"))
    rows = [json.loads(line) for line in (work_dir / "metrics.jsonl").read_text("utf-8").splitlines()]
    steps = [row for row in rows if "lr" in row]
    return {
        "steps": config["num_iters"],
        "plan": config["step_plan"],
        "highest_lr": max(row["lr"] for row in steps),
        "last_lr": steps[-1]["lr"],
    }


def _lines(report: dict[str, Any]) -> list[str]:
    before, after = report["load"]
    return [
        f"\n--minutes {report['minutes']:g} took {report['seconds']:.1f} s, {report['share']:.1%} of that; "
        f"load average {before:.1f} before, {after:.1f} after",
        f"{report['steps']} steps, planned as {report['plan']}",
        f"learning rate: {report['highest_lr']:.2e} at most, {report['last_lr']:.2e} at the last step",
    ]


if __name__ == "__main__":
    sys.exit(main())

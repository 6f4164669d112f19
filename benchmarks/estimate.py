"""Compares the estimates of `nemo-bert estimate` with real runs: time and peak memory, for several sizes.

python benchmarks/estimate.py TEXT [--sizes tiny mini small] [--steps 300 100 40] [--out estimate.json]

Each run is a separate process; the operating system reports its peak memory. Run this on an idle machine.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

NEMO_BERT = (sys.executable, "-m", "nemo.cli.main")


def measured(words: list[str]) -> tuple[float, int]:
    """Run a command; return its seconds and peak bytes, or exit if it fails."""
    began = time.monotonic()
    process = subprocess.Popen([*NEMO_BERT, *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(words)}: {errors.decode().splitlines()[-1]}")
    return time.monotonic() - began, usage.ru_maxrss * 1024


def compare(text: str, size: str, steps: int) -> dict[str, Any]:
    """The estimate and the run of one size."""
    with tempfile.TemporaryDirectory() as folder:
        words = [text, "--size", size, "--num_iters", str(steps), "--work_dir", folder]
        told = subprocess.run(
            [*NEMO_BERT, "estimate", *words, "--json"], capture_output=True, text=True, check=True
        )
        estimate = json.loads(told.stdout.splitlines()[-1])
        seconds, peak = measured(["pretrain", *words])
    return {
        "size": size,
        "steps": steps,
        "weights": estimate["weights"],
        "estimated_seconds": estimate["seconds"],
        "seconds": seconds,
        "estimated_bytes": estimate["peak_bytes"],
        "bytes": peak,
    }


def as_row(row: dict[str, Any]) -> str:
    """A row of a Markdown table."""
    seconds, told_seconds = row["seconds"], row["estimated_seconds"]
    peak, told_peak = row["bytes"] / 1e6, row["estimated_bytes"] / 1e6
    return (
        f"| {row['size']} | {row['weights'] / 1e6:.1f} | {row['steps']} "
        f"| {told_seconds:.0f} | {seconds:.0f} | {told_seconds / seconds - 1:+.0%} "
        f"| {told_peak:,.0f} | {peak:,.0f} | {told_peak / peak - 1:+.0%} |"
    )


def main() -> None:
    """Compare every size, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("text")
    parser.add_argument("--sizes", nargs="+", default=["tiny", "mini", "small"])
    parser.add_argument("--steps", nargs="+", type=int, default=[300, 100, 40])
    parser.add_argument("--out", type=Path, help="also write the results as JSON")
    words = parser.parse_args()
    print("| size | M weights | steps | estimated s | s | error | estimated MB | MB | error |")
    print("|---|---|---|---|---|---|---|---|---|")
    rows = []
    for size, steps in zip(words.sizes, words.steps, strict=True):
        rows.append(compare(words.text, size, steps))
        print(as_row(rows[-1]), flush=True)
    if words.out is not None:
        words.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""Measures the speed of a training step on a GPU (MFU), compared with Hugging Face, in under ten minutes.

    python benchmarks/gpu.py [--json gpu.json]

Runs from a checkout on a bare machine, which needs only torch 2.11, transformers, numpy, safetensors, h5py
and PyYAML; nothing is installed or fetched. Ways and batches are those of `ways.py`. Ours is the tutorial's
pipeline. The others are a bare loop around Hugging Face's model in bf16 with fused AdamW: eager and compiled
with its default attention (torch's), and, if the package flash-attn is installed, eager with
flash_attention_2, which skips padding. Lengths vary from batch to batch as in text. If a shape has several
ways, their windows alternate, each in a separate process. In order:

    base128   ours, eager, compiled      base512   ours
    large512  ours, eager, compiled      large128  ours

(--shapes also accepts pairs512, half of which is padding.) A JSON line is printed after each shape; ways that
would begin after --minutes are skipped and listed. "start s" is the time of the first step, compilation
included, and is not part of any rate. MFU is the share of --peak, "of GEMM" the share of a bf16 matrix
product of 8192x8192x8192 measured before. "waits" is how often a step makes the CPU wait for the GPU; the
goal is 0.

    python benchmarks/gpu.py --device cpu --tiny      the same on small models without a GPU, in seconds
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

# Runs from a checkout that is not installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from machine import STEADY, change, environment, probe, probe_lines
from measure import WAY_HEADER, Job, about, compare, table, way_rows, write_json
from ways import Shape, Way, as_in_text, flash_attention, synthetic_batches

EAGER = Way("bare", bf16=True, fused=True)
COMPILED = replace(EAGER, compiled=True)
BASE = Shape("base128", 12, 768, 12, 3072, batch_size=256, length=128)
LARGE = Shape("large128", 24, 1024, 16, 4096, batch_size=128, length=128)
CASES: dict[str, tuple[Shape, tuple[Way, ...]]] = {
    shape.name: (shape, others)
    for shape, others in (
        (BASE, (EAGER, COMPILED)),
        (replace(LARGE, name="large512", batch_size=32, length=512), (EAGER, COMPILED)),
        (replace(BASE, name="base512", batch_size=64, length=512), ()),
        (LARGE, ()),
        (replace(LARGE, name="pairs512", batch_size=64, length=512, padding=0.5), (EAGER,)),
    )
}
TINY: dict[str, Any] = {
    "num_layers": 2,
    "hidden_size": 32,
    "num_heads": 2,
    "intermediate_size": 64,
    "batch_size": 4,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print and write; return the exit status."""
    args = _arguments(argv)
    deadline = time.monotonic() + 60 * args.minutes
    before = probe(args.device, args.probe_seconds)
    report: dict[str, Any] = {
        "what": "gpu",
        "environment": environment(args.device),
        "peak": args.peak,
        "cases": [],
    }
    for name in args.shapes:
        shape, others = CASES[name]
        if args.tiny:
            shape = replace(shape, **TINY, length=shape.length // 8, vocab_size=1200)
        shape = as_in_text(shape)
        batches = synthetic_batches(shape)
        ways = (Way("ours", args.level), *others)
        if others and flash_attention() is not None:
            ways = (*ways, replace(EAGER, attention=flash_attention()))
        jobs = [Job(way, shape, batches, args.device, args.threads) for way in ways]
        found, problems = compare(jobs, args.seconds / args.windows, args.windows, deadline)
        for way in found:
            way["mfu"] = way["flops_per_s"] / (args.peak * 1e12)
        case = {
            "shape": about(shape, batches),
            "ways": found,
            "ratios": _ratios(found),
            "problems": problems,
        }
        report["cases"].append(case)
        print(json.dumps(case), flush=True)
    after = probe(args.device, args.probe_seconds)
    report |= {"probe": {"before": before, "after": after}, "steady": change(before, after) <= STEADY}
    print("\n".join(_lines(report)), flush=True)
    write_json(args.json, report)
    return 0 if report["steady"] else 1


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--shapes", nargs="+", default=list(CASES)[:4], choices=CASES)
    parser.add_argument("--level", default="O2", choices=["O0", "O1", "O2"], help="precision of ours")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--tiny", action="store_true", help="small models, to try out this script")
    parser.add_argument("--windows", type=int, default=4, help="windows per way")
    parser.add_argument("--seconds", type=float, default=20, help="seconds per way, over all its windows")
    parser.add_argument("--probe_seconds", type=float, default=3)
    parser.add_argument("--threads", type=int, help="CPU threads; default: OMP_NUM_THREADS, or all cores")
    parser.add_argument("--minutes", type=float, default=8.5, help="start no further way after this time")
    parser.add_argument("--peak", type=float, default=989, help="TFLOP/s that count as 100 percent MFU")
    parser.add_argument("--json", type=Path, help="file for the report")
    return parser.parse_args(argv)


def _ratios(found: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Our speed relative to each of the others."""
    rates = {way["way"]: way["tokens_per_s"] for way in found}
    ours = next((rate for name, rate in rates.items() if name.startswith("ours")), None)
    return {} if ours is None else {name: ours / rate for name, rate in rates.items() if rate is not ours}


def _lines(report: Mapping[str, Any]) -> list[str]:
    rates = report["probe"]["before"]
    rows = []
    for case in report["cases"]:
        for way, row in zip(case["ways"], way_rows(case["ways"], rates), strict=True):
            name, waits = case["shape"]["name"], way["syncs_per_step"]
            known = "-" if waits is None else f"{waits:g}"
            rows.append([f"{name} {row[0]}", *row[1:], f"{way['mfu']:.1%}", known])
    return [
        "",
        table([*WAY_HEADER, "MFU", "waits"], rows),
        *(
            f"{case['shape']['name']}: ours / {name}: {ratio:.2f}"
            for case in report["cases"]
            for name, ratio in case["ratios"].items()
        ),
        *(f"not measured: {problem}" for case in report["cases"] for problem in case["problems"]),
        *probe_lines(rates, report["probe"]["after"]),
    ]


if __name__ == "__main__":
    began = time.monotonic()
    status = main()
    print(f"\n{time.monotonic() - began:.0f} s in total, load {os.getloadavg()[0]:.1f}")
    sys.exit(status)

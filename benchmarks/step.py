"""Measures the speed of a training step in real tokens per second, compared with Hugging Face.

    python benchmarks/step.py [--shapes mini base128 base512 pairs512] [--level O0] [--against default bf16]

Needs the extra [bench]. For each shape, all ways train the same BERT on the same ready batches (see
`ways.py`), in alternating windows (A B C A B C ...), each way in a separate process. Lengths vary from batch
to batch as in text, unless --fixed_lengths is given. Ours alternates with the ways of each column in turn:

    default  Trainer and a bare loop with their defaults, fp32
    bf16     the same with bf16 autocast
    best     a bare loop with torch.compile, fused AdamW and freed memory kept, in fp32 and bf16; and without
             torch.compile in bf16

The fastest way of a column counts, and `best` chooses from all columns. Freed memory is kept with jemalloc if
it is installed (--jemalloc), else by glibc's variables. Tokens are counted in the attention mask; useful
FLOP/s count real tokens and masked rows only; "of GEMM" is their share of a matrix product of 2048x768x3072
in the same type. The JSON is written after every column, so an interrupted run keeps its results. Exits with
1 if that product's rate changed by more than 10% meanwhile; then measure again on an idle machine.
"""

import argparse
import os
import sys
import time
from collections.abc import Mapping, Sequence
from ctypes.util import find_library
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from machine import STEADY, change, environment, probe, probe_lines
from measure import WAY_HEADER, Job, about, compare, table, way_rows, write_json
from ways import Shape, Way, as_in_text, synthetic_batches

BASE = Shape("base128", 12, 768, 12, 3072, batch_size=16, length=128)
SHAPES = {
    shape.name: shape
    for shape in (
        Shape("mini", 4, 256, 4, 1024, batch_size=32, length=128),
        BASE,
        replace(BASE, name="base512", batch_size=4, length=512),
        replace(BASE, name="pairs512", batch_size=4, length=512, padding=0.4),
        Shape("tiny", 2, 32, 2, 64, batch_size=4, length=16, padding=0.2, vocab_size=1200),
    )
}
GROUPS = ("default", "bf16", "best")
KEPT_BY_GLIBC = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "2147483647",
    "MALLOC_TOP_PAD_": "536870912",
}
KEPT_BY_JEMALLOC = "thp:always,metadata_thp:auto,dirty_decay_ms:-1,muzzy_decay_ms:-1,oversize_threshold:0"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print and write; return the exit status."""
    args = _arguments(argv)
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    baselines = _baselines(args.against, args.jemalloc)
    ours = [Way("ours", level) for level in args.level]
    before = probe("cpu", args.probe_seconds)
    report: dict[str, Any] = {
        "what": "step",
        "environment": environment("cpu"),
        "probe": {"before": before},
        "cases": [],
    }
    for name in args.shapes:
        shape = SHAPES[name] if args.dropout is None else replace(SHAPES[name], dropout=args.dropout)
        shape = shape if args.fixed_lengths else as_in_text(shape)
        batches = synthetic_batches(shape)
        case: dict[str, Any] = {"shape": about(shape, batches), "ways": [], "problems": []}
        report["cases"].append(case)
        for column, ways in (baselines or {"": []}).items():  # one after the other, to limit memory
            jobs = [Job(way, shape, batches, threads=args.threads) for way in (*ours, *ways)]
            found, problems = compare(jobs, args.seconds, args.windows)
            case["ways"] += [{"column": column, **way} for way in found]
            case["problems"] += problems
            case["ratios"] = ratios(case["ways"])
            write_json(args.json, report)
        print("\n".join(_lines(case, before)), flush=True)
    after = probe("cpu", args.probe_seconds)
    report["probe"]["after"] = after
    report["steady"] = change(before, after) <= STEADY
    print("", *probe_lines(before, after), sep="\n")
    write_json(args.json, report)
    return 0 if report["steady"] else 1


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES)[:-1], choices=SHAPES)
    parser.add_argument(
        "--level", nargs="+", default=["O0"], choices=["O0", "O1", "O2"], help="precision of ours"
    )
    parser.add_argument("--against", nargs="*", default=["default"], choices=GROUPS)
    parser.add_argument("--windows", type=int, default=4, help="windows per way")
    parser.add_argument("--seconds", type=float, default=20, help="seconds per window; at least one step")
    parser.add_argument("--probe_seconds", type=float, default=5)
    parser.add_argument("--dropout", type=float, help="dropout probability; default: BERT's 0.1")
    parser.add_argument(
        "--fixed_lengths", action="store_true", help="full sequences only, except in shapes with padding"
    )
    parser.add_argument("--threads", type=int, help="default: OMP_NUM_THREADS, or all cores")
    parser.add_argument("--jemalloc", default=find_library("jemalloc"), help="path of the library, for best")
    parser.add_argument(
        "--quick", action="store_true", help="short windows on the smallest model: a first look"
    )
    parser.add_argument("--json", type=Path, help="file for the report, with every window")
    args = parser.parse_args(argv)
    if args.quick:
        args.shapes, args.seconds, args.probe_seconds = ["mini"], 2.0, 1.0
    return args


def _baselines(groups: Sequence[str], jemalloc: str | None) -> dict[str, list[Way]]:
    """The ways to compare with, by column."""
    keeping = KEPT_BY_GLIBC
    if jemalloc is not None:
        keeping = {"LD_PRELOAD": jemalloc, "MALLOC_CONF": KEPT_BY_JEMALLOC}
    best = Way("bare", fused=True, compiled=True, environment=tuple(keeping.items()))
    loops = ["bare"]
    if groups and find_spec("accelerate") is None:
        print("skipping Hugging Face's Trainer, which needs the package accelerate", flush=True)
    else:
        loops.insert(0, "trainer")
    ways = {
        "default": [Way(loop) for loop in loops],
        "bf16": [Way(loop, bf16=True) for loop in loops],
        "best": [best, replace(best, bf16=True), replace(best, bf16=True, compiled=False)],
    }
    return {group: ways[group] for group in GROUPS if group in groups}


def ratios(found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The speed of each of ours relative to the fastest way of each column.

    A way is compared with those it alternated with; `best` chooses from all columns.
    """
    ours = [way for way in found if way["way"].startswith("ours")]
    others = [way for way in found if way not in ours]
    pairs = [
        {
            "against": way["column"],
            "ours": our["way"],
            "fastest": way["way"],
            "ratio": our["tokens_per_s"] / way["tokens_per_s"],
        }
        for our in ours
        for way in others
        if way["column"] == our["column"]
    ]
    if any(pair["against"] == "best" for pair in pairs):
        pairs += [{**pair, "against": "best"} for pair in pairs if pair["against"] != "best"]
    smallest: dict[tuple[str, str], dict[str, Any]] = {}
    for pair in sorted(pairs, key=lambda pair: pair["ratio"], reverse=True):
        smallest[pair["against"], pair["ours"]] = pair
    return sorted(smallest.values(), key=lambda pair: (GROUPS.index(pair["against"]), pair["ours"]))


def _lines(case: Mapping[str, Any], rates: Mapping[str, float]) -> list[str]:
    shape = case["shape"]
    return [
        f"\n{shape['name']}: {shape['num_layers']} layers x {shape['hidden_size']}, B{shape['batch_size']} "
        f"S{shape['length']}, {shape['tokens_per_batch']:.0f} tokens per batch, "
        f"{shape['padding_counted']:.0%} padding, {shape['masked_counted']:.1%} masked",
        table(
            [*WAY_HEADER, "column"],
            [
                [*row, way["column"]]
                for row, way in zip(way_rows(case["ways"], rates), case["ways"], strict=True)
            ],
        ),
        *(f"{r['ours']} / {r['against']} ({r['fastest']}): {r['ratio']:.2f}" for r in case["ratios"]),
        *(f"not measured: {problem}" for problem in case["problems"]),
    ]


if __name__ == "__main__":
    began = time.monotonic()
    status = main()
    print(f"\n{time.monotonic() - began:.0f} s in total, load {os.getloadavg()[0]:.1f}")
    sys.exit(status)

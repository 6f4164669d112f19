"""Measures the speed of a real run, `nemo-bert pretrain data_text`, compared with the bare steps.

    python benchmarks/train.py TEXT [--level O0 O2] [--steps 400] [options of nemo-bert pretrain]

The default model has 4 layers x 256. The run is the command's own function, from text to the last checkpoint.
After the first steps it is measured in windows. Between windows the run pauses, and `step.py`'s loop trains
the same model at the same precision on batches of the same run, ready in memory.

    rate      real tokens/s of the run, as a share of the loop's; goal: 95%
    stall     from the end of a step to the beginning of the next, waiting for a batch; goal: under 1%
    logging   from the end of a step until all callbacks are done

Then further steps are profiled, to find what the main thread does besides computing; see `overhead.py`.

Only the last checkpoint is written (--save_step_freq -1), as the cost of others depends on their frequency.
The JSON is written after every level. Exits with 1 if the probe's matrix product changed by more than 10%
meanwhile.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

from machine import STEADY, change, environment, probe, probe_lines
from measure import WAY_HEADER, Job, Worker, about, found_by, table, way_rows, write_json
from overhead import Overhead, overhead_lines
from ways import CLIP, LR, VARIED_BATCHES, WEIGHT_DECAY, Batch, Shape, Way

from nemo.cli.pretrain import parse_options
from nemo.collections.nlp.options import PretrainingOptions
from nemo.collections.nlp.pretraining import pretrain
from nemo.collections.nlp.pretraining.text_data import open_data
from nemo.core import ActionCallback, NeuralModuleFactory

WARM_UP = 40  # steps that are not measured: the first batches of a new size take longer
OPTIONS = {
    "tokenizer": "word-piece",
    "vocab_size": 8000,
    "hidden_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 1024,
    "max_seq_length": 128,
    "batch_size": 32,
    "optimizer": "adam_w",
    "lr": LR,
    "beta1": 0.9,
    "beta2": 0.999,
    "weight_decay": WEIGHT_DECAY,
    "grad_norm_clip": CLIP,
    "eval_step_freq": -1,
    "save_step_freq": -1,
    "save_epoch_freq": -1,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print and write; return the exit status."""
    args = _arguments(argv)
    report: dict[str, Any] = {"what": "train", "environment": environment("cpu"), "cases": []}
    for level in args.level:
        report["cases"].append(_measured(args, level))
        report["steady"] = all(case["steady"] for case in report["cases"])
        print("\n".join(_lines(report["cases"][-1])), flush=True)
        write_json(args.json, report)
    return 0 if report["steady"] else 1


def _measured(args: argparse.Namespace, level: str) -> dict[str, Any]:
    """Measure a run and the loop at one level."""
    with tempfile.TemporaryDirectory() as folder:
        options = _options(args, level, Path(folder))
        batches, vocab_size = _batches(options)
        shape = _shape(options, vocab_size)
        before = probe("cpu", args.probe_seconds)
        worker = Worker(Job(Way("ours", level), shape, batches, threads=options.threads))
        try:
            run = measure_run(options, args.windows, args.profile, lambda: worker.window(args.seconds))
            loop = found_by(worker)
        finally:
            worker.stop()
        after = probe("cpu", args.probe_seconds)
    return {
        "level": level,
        "shape": about(shape, batches),
        "run": run,
        "loop": loop,
        "share_of_loop": run["tokens_per_s"] / loop["tokens_per_s"],
        "probe": {"before": before, "after": after},
        "steady": change(before, after) <= STEADY,
    }


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("text", type=Path, help="a file or folder, as for --train_data")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--level", nargs="+", default=["O0", "O2"], choices=["O0", "O1", "O2"])
    parser.add_argument("--windows", type=int, default=4, help="windows of the run, and of the loop")
    parser.add_argument("--seconds", type=float, default=15, help="seconds per window of the loop")
    parser.add_argument("--profile", type=int, default=40, help="number of steps to profile; 0: none")
    parser.add_argument("--probe_seconds", type=float, default=3)
    parser.add_argument("--json", type=Path, help="file for the report")
    args, options = parser.parse_known_args(argv)
    args.options = options
    if args.steps < WARM_UP + args.windows + args.profile:
        parser.error(f"--steps must cover {WARM_UP} for the warm-up, those of --profile, and one per window")
    return args


def _options(args: argparse.Namespace, level: str, folder: Path) -> PretrainingOptions:
    """The options of the run; those of the user take precedence."""
    ours = {
        **OPTIONS,
        "train_data": args.text,
        "work_dir": folder,
        "num_iters": args.steps,
        "amp_opt_level": level,
    }
    words = [word for name, value in ours.items() for word in (f"--{name}", str(value))]
    return parse_options(["data_text", *words, *args.options])


def _batches(options: PretrainingOptions) -> tuple[list[Batch], int]:
    """The first batches of the run, and its vocabulary size; this also prepares the text for the run."""
    data = open_data(options, Path(options.work_dir))
    first = islice(data.train.batches(0), VARIED_BATCHES)
    assert data.tokenizer is not None  # it is text
    return [Batch(*(tensor.numpy() for tensor in batch)) for batch in first], data.tokenizer.vocab_size


def _shape(options: PretrainingOptions, vocab_size: int) -> Shape:
    return Shape(
        "train",
        options.num_hidden_layers,
        options.hidden_size,
        options.num_attention_heads,
        options.intermediate_size,
        options.batch_size,
        options.max_seq_length,
        vocab_size=vocab_size,
        dropout=options.hidden_dropout_prob,
    )


@dataclass(frozen=True)
class Step:
    """When a step began, ended, and was handled by all callbacks; and the run's tokens until then."""

    began: float
    made: float
    done: float
    tokens: int


def measure_run(
    options: PretrainingOptions, windows: int, profiled: int, between: Callable[[], None]
) -> dict[str, Any]:
    """Pretrain, and measure where the time goes.

    Args:
        windows: number of windows into which the steps after the warm-up are divided.
        profiled: number of steps to profile.
        between: called before each window.
    """
    overhead = Overhead(profiled)
    watch = _Watch((options.num_iters - WARM_UP - profiled) // windows, windows, between, overhead)
    with _watched(watch):
        result = pretrain(options)
    parts = [_part(*window) for window in watch.windows]
    seconds = sum(part["seconds"] for part in parts)
    return {
        "steps": sum(part["steps"] for part in parts),
        "tokens": sum(part["tokens"] for part in parts),
        "tokens_per_s": median(part["tokens"] / part["seconds"] for part in parts),
        "ms_per_step": 1e3 * median(part["seconds"] / part["steps"] for part in parts),
        "stall_share": sum(part["stall"] for part in parts) / seconds,
        "longest_stall_ms": 1e3 * max(part["longest_stall"] for part in parts),
        "logging_share": sum(part["logging"] for part in parts) / seconds,
        "whole_run_s": result.seconds,
        "windows": parts,
        "overhead": overhead.found() if profiled else None,
    }


def _part(began: float, tokens: int, steps: Sequence[Step]) -> dict[str, Any]:
    """The breakdown of a window's time."""
    ends = [began, *(step.done for step in steps[:-1])]
    waits = [step.began - end for step, end in zip(steps, ends, strict=True)]
    return {
        "steps": len(steps),
        "tokens": steps[-1].tokens - tokens,
        "seconds": steps[-1].done - began,
        "stall": sum(waits),
        "longest_stall": max(waits),
        "logging": sum(step.done - step.made for step in steps),
    }


class _First(ActionCallback):
    """A callback that is called before all others."""

    def on_iteration_start(self) -> None:
        self.began = time.perf_counter()

    def on_iteration_end(self) -> None:
        self.made = time.perf_counter()


class _Watch(ActionCallback):
    """A callback that is called after all others.

    Args:
        size: number of steps in a window.
        number: number of windows.
        between: called before each window.
        overhead: begins after the last window.

    Attributes:
        first: the callback to call first.
        windows: for each window, when it began, the run's tokens until then, and its steps.
    """

    def __init__(self, size: int, number: int, between: Callable[[], None], overhead: Overhead):
        self.size, self.number, self.between, self.overhead = size, number, between, overhead
        self.first = _First()
        self.windows: list[tuple[float, int, list[Step]]] = []

    def on_iteration_end(self) -> None:
        step = Step(self.first.began, self.first.made, time.perf_counter(), self.action.items_seen)
        if self.windows and len(self.windows[-1][2]) < self.size:
            self.windows[-1][2].append(step)
        is_full = not self.windows or len(self.windows[-1][2]) == self.size
        if self.action.step < WARM_UP or not is_full:
            return
        if len(self.windows) < self.number:
            self.between()
            self.windows.append((time.perf_counter(), step.tokens, []))
        elif not self.overhead.has_begun:
            self.overhead.begin()


@contextmanager
def _watched(watch: _Watch) -> Iterator[None]:
    """Add callbacks to the factory's training, as `pretrain` takes none."""
    train = NeuralModuleFactory.train

    def train_watched(self: NeuralModuleFactory, *args: Any, **kwargs: Any) -> None:
        kwargs["callbacks"] = [watch.first, *kwargs["callbacks"], watch.overhead, watch]
        train(self, *args, **kwargs)

    with patch.object(NeuralModuleFactory, "train", train_watched):
        yield


def _lines(report: Mapping[str, Any]) -> list[str]:
    run, shape, probed = report["run"], report["shape"], report["probe"]
    return [
        f"\n{report['level']}: {shape['num_layers']} layers x {shape['hidden_size']}, B{shape['batch_size']} "
        f"S{shape['length']}, a vocabulary of {shape['vocab_size']}, {shape['padding_counted']:.0%} padding",
        table(WAY_HEADER, way_rows([report["loop"]], probed["before"])),
        f"the run: {run['tokens_per_s']:,.0f} tokens/s over {run['steps']} steps of "
        f"{run['ms_per_step']:,.1f} ms; {run['whole_run_s']:.0f} s in total",
        f"rate     {report['share_of_loop']:7.1%} of the loop's (goal: 95%)",
        f"stall    {run['stall_share']:7.2%} of the time (goal: under 1%), "
        f"at most {run['longest_stall_ms']:.1f} ms",
        f"logging  {run['logging_share']:7.2%}",
        *(overhead_lines(run["overhead"]) if run["overhead"] else ()),
        *probe_lines(probed["before"], probed["after"]),
    ]


if __name__ == "__main__":
    began = time.monotonic()
    status = main()
    print(f"\n{time.monotonic() - began:.0f} s in total, load {os.getloadavg()[0]:.1f}")
    sys.exit(status)

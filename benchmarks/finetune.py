"""Compares fine-tuning with Hugging Face's `Trainer`: F1 over several seeds, and time.

    python benchmarks/finetune.py BERT TRAIN TEST [--seeds 5] [--threads 1] [--json FILE]

TRAIN and TEST have words with labels, in the format of `nemo-bert finetune --task ner`. Both ways train on
the same rows of tokens, with AdamW (no weight decay for biases and norms), linear warm-up and decay, the
gradient clipped to 1, BERT's dropout, and a checkpoint after each epoch. Order, dropout and the new head
depend on the seed, but not in the same way for both. Each run is a separate process; ours and theirs
alternate. Only training is timed, in CPU seconds, which other programs on the machine hardly affect. Needs
the extra `bench`.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from unittest import mock

import torch

if TYPE_CHECKING:
    from nemo.collections.nlp.finetuning.windows import Row

SETTINGS = {
    "lr": 3e-4,
    "epochs": 3,
    "batch_size": 16,
    "max_seq_length": 128,
    "weight_decay": 0.01,
    "warmup": 0.1,
}


def ours(bert: str, train: str, test: str, seed: int, threads: int) -> dict[str, float]:
    """`finetune` with a single learning rate."""
    from nemo.collections.nlp.finetuning.run import finetune
    from nemo.collections.nlp.options import FinetuningOptions
    from nemo.core import NeuralModuleFactory

    train_graph, spent = NeuralModuleFactory.train, []

    def timed(*args: Any, **options: Any) -> None:
        began = time.process_time()
        train_graph(*args, **options)
        spent.append(time.process_time() - began)

    with TemporaryDirectory() as folder, mock.patch.object(NeuralModuleFactory, "train", timed):
        result = finetune(
            FinetuningOptions(
                model=bert,
                train=train,
                valid=test,
                lr=str(SETTINGS["lr"]),
                num_epochs=SETTINGS["epochs"],
                batch_size=SETTINGS["batch_size"],
                max_seq_length=SETTINGS["max_seq_length"],
                weight_decay=SETTINGS["weight_decay"],
                lr_warmup_proportion=SETTINGS["warmup"],
                seed=seed,
                threads=threads,
                work_dir=folder,
            )
        )
    return {"f1": result.valid[0]["f1"], "seconds": spent[0]}


def theirs(bert: str, train: str, test: str, seed: int, threads: int) -> dict[str, float]:
    """`Trainer` as its documentation uses it: the rows of a batch are padded to the longest of them."""
    from transformers import (
        AutoModelForTokenClassification,
        AutoTokenizer,
        DataCollatorForTokenClassification,
        Trainer,
        TrainingArguments,
        set_seed,
    )

    from nemo.collections.nlp.data.tokenizers import load_tokenizer
    from nemo.collections.nlp.finetuning.labels import labels_of_words
    from nemo.collections.nlp.finetuning.metrics import entity_figures
    from nemo.collections.nlp.finetuning.sentences import read_sentences
    from nemo.collections.nlp.finetuning.windows import Encoder

    torch.set_num_threads(threads)
    parts = [read_sentences(train), read_sentences(test)]
    labels = labels_of_words(parts[0])
    encoder = Encoder(load_tokenizer(bert), labels, SETTINGS["max_seq_length"])
    rows = [encoder.rows(part) for part in parts]
    set_seed(seed)
    with TemporaryDirectory() as folder:
        trainer = Trainer(
            AutoModelForTokenClassification.from_pretrained(bert, num_labels=len(labels)),
            TrainingArguments(
                folder,
                learning_rate=SETTINGS["lr"],
                num_train_epochs=SETTINGS["epochs"],
                per_device_train_batch_size=SETTINGS["batch_size"],
                per_device_eval_batch_size=SETTINGS["batch_size"],
                weight_decay=SETTINGS["weight_decay"],
                warmup_steps=SETTINGS["warmup"],
                seed=seed,
                save_strategy="epoch",
                save_total_limit=1,
                report_to="none",
                disable_tqdm=True,
                use_cpu=True,
            ),
            DataCollatorForTokenClassification(AutoTokenizer.from_pretrained(bert)),
            train_dataset=[_labeled(row) for row in rows[0]],
        )
        began = time.process_time()
        trainer.train()
        seconds = time.process_time() - began
        scores = trainer.predict([_labeled(row) for row in rows[1]]).predictions
    predicted: list[list[str]] = [[] for _ in parts[1]]
    for row, of_row in zip(rows[1], scores, strict=True):
        predicted[row.example] += [labels[i] for i in of_row[row.positions].argmax(-1)]
    return {"f1": entity_figures([s.labels for s in parts[1]], predicted)["f1"], "seconds": seconds}


def _labeled(row: "Row") -> dict[str, list[int]]:
    """A row as `Trainer` takes it: tokens without a label of their own have -100."""
    labels = [-100] * len(row.ids)
    for position, label in zip(row.positions, row.labels, strict=True):
        labels[position] = label
    return {"input_ids": row.ids, "attention_mask": [1] * len(row.ids), "labels": labels}


WAYS = {"ours": ours, "theirs": theirs}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    for name in ("bert", "train", "test"):
        parser.add_argument(name)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--run", help=argparse.SUPPRESS, choices=WAYS)  # one run, in this process
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.run:
        print(json.dumps(WAYS[args.run](args.bert, args.train, args.test, args.seed, args.threads)))
        return 0
    runs: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for seed in range(args.seeds):
        for way in WAYS:
            command = [sys.executable, __file__, args.bert, args.train, args.test, "--run", way]
            command += ["--seed", str(seed), "--threads", str(args.threads)]
            printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            runs[way].append(json.loads(printed.splitlines()[-1]))
            print(f"{way:<7} seed {seed}: {runs[way][-1]}", flush=True)
    for way, made in runs.items():
        scores = [100 * run["f1"] for run in made]
        deviation = f"{statistics.stdev(scores):.2f}" if len(scores) > 1 else "-"
        seconds = statistics.median(run["seconds"] for run in made)
        print(f"{way:<7} F1 {statistics.fmean(scores):.2f} +- {deviation}, {seconds:.1f} s (median)")
    ratios = [b["seconds"] / a["seconds"] for a, b in zip(runs["ours"], runs["theirs"], strict=True)]
    print(f"theirs takes {statistics.median(ratios):.2f} times as long (median over seeds)")
    if args.json:
        args.json.write_text(json.dumps({"settings": SETTINGS, "runs": runs}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

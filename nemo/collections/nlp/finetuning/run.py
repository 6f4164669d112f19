"""Fine-tuning as one function: options in, figures and a Hugging Face folder out.

Each run has a learning rate, a seed, and its own folder in `[work_dir]/runs`, in which it resumes. The
validation set selects the rate (with the first seed) and the model to export. Only runs with the selected
rate read the test set.
"""

import gc
import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from nemo.backends.pytorch.checkpoints.checkpoint import list_checkpoints
from nemo.collections.nlp.finetuning.examples import Example
from nemo.collections.nlp.finetuning.export import export_classifier
from nemo.collections.nlp.finetuning.metrics import MAIN_FIGURE, figures
from nemo.collections.nlp.finetuning.model import FinetuningModel, PretrainedEncoder, open_encoder
from nemo.collections.nlp.finetuning.task_data import TaskData, fingerprint_of, open_task_data
from nemo.collections.nlp.finetuning.windows import Encoder, Row, RowLayer
from nemo.collections.nlp.options import FinetuningOptions
from nemo.core import CheckpointCallback, NeuralModuleFactory, SimpleLossLoggerCallback
from nemo.utils.arguments import as_config, names_deciding
from nemo.utils.errors import UsageError
from nemo.utils.files import write_atomically
from nemo.utils.lock import WorkFolderLock
from nemo.utils.logging import logging
from nemo.utils.lr_policies import get_lr_policy

MODEL, RESULTS, IDENTITY = "model", "results.json", "identity.json"
CHECKPOINTS, VALID = "checkpoints", "valid.json"  # of a run
LOGGED_STEPS = 100
"""Steps between two lines of the log."""

Figures = Mapping[str, float]


@dataclass(frozen=True)
class FinetuningResult:
    """The result of a fine-tuning.

    Attributes:
        task: the task in the options.
        folder: the exported model, of the seed that is best on the validation set.
        labels: labels in order of their ids.
        lr: the selected learning rate.
        valid_by_lr: learning rate -> validation scores of the first seed.
        valid, test: scores of each seed with the selected rate; `test` is empty without a test set.
        seconds: mean training time of these runs.
    """

    task: str
    folder: Path
    labels: Sequence[str]
    lr: float
    valid_by_lr: Mapping[float, Figures]
    valid: Sequence[Figures]
    test: Sequence[Figures]
    seconds: float


def finetune(options: FinetuningOptions) -> FinetuningResult:
    """Fine-tune a BERT, or resume an earlier call with the same work folder.

    Raises:
        UsageError, DataError, CheckpointError: an input is not usable; names the fix.
    """
    refuse_several_processes("fine-tuning")
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    data = open_task_data(options)
    pretrained = open_encoder(options.model, options.tokenizer, options.do_lower_case)
    work_dir = Path(options.work_dir)
    with WorkFolderLock(work_dir):
        finetuning = Finetuning(options, data, pretrained)
        finetuning.take_folder()
        rate, by_rate = finetuning.choose_rate()
        seeds = range(options.seed, options.seed + options.seeds)
        runs = [finetuning.run(rate, seed) for seed in seeds]
        best = max(runs, key=finetuning.score)
        tests = [finetuning.test(rate, seed) for seed in seeds] if data.test else []
        finetuning.export(rate, seeds[runs.index(best)])
        result = FinetuningResult(
            options.task,
            work_dir / MODEL,
            data.labels,
            rate,
            {lr: run["valid"] for lr, run in by_rate.items()},
            [run["valid"] for run in runs],
            tests,
            sum(run["seconds"] for run in runs) / len(runs),
        )
        _write_json(work_dir / RESULTS, {**vars(result), "folder": str(result.folder)})
    return result


def refuse_several_processes(what: str) -> None:
    """Raise a UsageError if a launcher has started several processes."""
    size = os.environ.get("WORLD_SIZE", "1")
    if size != "1":
        raise UsageError(
            f"{what} needs a single process", where="WORLD_SIZE", found=size, fix="start it without torchrun"
        )


class Finetuning:
    """The runs of a fine-tuning; each is made once, and its result kept.

    Args:
        options, data, pretrained: what is fine-tuned.
    """

    def __init__(self, options: FinetuningOptions, data: TaskData, pretrained: PretrainedEncoder):
        self._options, self._data, self._pretrained = options, data, pretrained
        self._work_dir = Path(options.work_dir)
        positions = pretrained.bert.settings.max_position_embeddings
        if (options.max_seq_length or 0) > positions:
            raise UsageError(
                "longer than the model allows",
                where="--max_seq_length",
                found=options.max_seq_length,
                expected=f"{positions} or less",
            )
        self._encoder = Encoder(pretrained.tokenizer, data.labels, options.max_seq_length or positions)

    def take_folder(self) -> None:
        """Record what is fine-tuned in this work folder.

        Raises:
            UsageError: the folder has runs of something else.
        """
        identity = {
            "model": self._pretrained.fingerprint,
            "data": fingerprint_of([*self._data.train, *self._data.valid]),
            **{name: getattr(self._options, name) for name in names_deciding(FinetuningOptions, "model")},
        }
        known = _read_json(self._work_dir / IDENTITY) or identity
        for name, value in identity.items():
            if known.get(name) != value:
                is_hash = name in ("model", "data")
                raise UsageError(
                    f"the folder has runs with a different {name}",
                    where=self._work_dir,
                    found="other content" if is_hash else known.get(name),
                    expected=None if is_hash else value,
                    fix="use another --work_dir",
                )
        _write_json(self._work_dir / IDENTITY, identity)
        _write_json(self._work_dir / "config.json", as_config(self._options))

    def score(self, run: Mapping[str, Any]) -> float:
        """The score by which runs are compared."""
        return run["valid"][MAIN_FIGURE[self._options.task]]

    def choose_rate(self) -> tuple[float, dict[float, dict[str, Any]]]:
        """The learning rate that is best on the validation set, and the runs that were compared."""
        rates = self._options.learning_rates
        runs = {rate: self.run(rate, self._options.seed) for rate in rates}
        best = max(rates, key=lambda rate: self.score(runs[rate]))
        for rate in rates:
            if rate != best:  # its result is recorded, so its checkpoint is no longer needed
                shutil.rmtree(self._folder(rate, self._options.seed) / CHECKPOINTS, ignore_errors=True)
        return best, runs

    def run(self, rate: float, seed: int) -> dict[str, Any]:
        """Train with this rate and seed, and evaluate on the validation set: `valid` and `seconds`."""
        folder = self._folder(rate, seed)
        known = _read_json(folder / VALID)
        if known is not None:
            return known
        began = time.monotonic()
        factory, model = self._new(seed)
        layer = self._layer(self._train_rows, seed, model.labels_words)
        loss, _ = model.wire(layer)
        steps = layer.num_batches(0) * self._options.num_epochs
        factory.train(
            [loss],
            "adam_w",
            {
                "lr": rate,
                "max_steps": steps,
                "weight_decay": self._options.weight_decay,
                "grad_norm_clip": self._options.grad_norm_clip,
            },
            [
                SimpleLossLoggerCallback(loss, step_freq=LOGGED_STEPS),
                CheckpointCallback(folder / CHECKPOINTS, epoch_freq=1, checkpoints_to_keep=1),
            ],
            get_lr_policy(
                "WarmupAnnealing", total_steps=steps, warmup_ratio=self._options.lr_warmup_proportion
            ),
        )
        seconds = time.monotonic() - began
        predicted = self._predict(factory, model, self._valid_rows)
        measured = self._figures(self._data.valid, predicted)
        run = {"valid": measured, "seconds": seconds}
        _write_json(folder / VALID, run)
        logging.info(
            "learning rate %g, seed %d: %s on the validation set after %d steps in %.0f s",
            rate,
            seed,
            _in_words(measured),
            steps,
            seconds,
        )
        return run

    def test(self, rate: float, seed: int) -> Figures:
        """Test scores of a run; its predictions are in `predictions.jsonl`."""
        folder = self._folder(rate, seed)
        fingerprint = fingerprint_of(self._data.test)
        known = _read_json(folder / "test.json")
        if known is None or known["data"] != fingerprint:
            factory, model = self._restored(rate, seed)
            predicted = self._predict(factory, model, self._encoder.rows(self._data.test))
            answers = (
                {"content": example.content, "labels": example.labels, "predicted": labels}
                for example, labels in zip(self._data.test, predicted, strict=True)
            )
            lines = (json.dumps(answer, ensure_ascii=False) + "\n" for answer in answers)
            write_atomically(folder / "predictions.jsonl", "".join(lines).encode())
            known = {"data": fingerprint, "test": self._figures(self._data.test, predicted)}
            _write_json(folder / "test.json", known)
        return known["test"]

    def export(self, rate: float, seed: int) -> None:
        """Write the model of a run as a Hugging Face folder."""
        _, model = self._restored(rate, seed)
        folder = self._work_dir / MODEL
        export_classifier(folder, model, self._pretrained.tokenizer, self._data.labels, force=True)

    def _folder(self, rate: float, seed: int) -> Path:
        return self._work_dir / "runs" / f"lr-{rate:g}_seed-{seed}"

    @cached_property
    def _train_rows(self) -> list[Row]:
        return self._encoder.rows(self._data.train)

    @cached_property
    def _valid_rows(self) -> list[Row]:
        return self._encoder.rows(self._data.valid)

    def _new(self, seed: int) -> tuple[NeuralModuleFactory, FinetuningModel]:
        gc.collect()  # the last run's model is in a reference cycle, and much memory for few objects
        factory = NeuralModuleFactory(optimization_level=self._options.amp_opt_level, random_seed=seed)
        return factory, FinetuningModel.of(self._pretrained, self._options.task, len(self._data.labels))

    def _restored(self, rate: float, seed: int) -> tuple[NeuralModuleFactory, FinetuningModel]:
        """The model of a run, restored from its checkpoint; trained again if that was deleted."""
        folder = self._folder(rate, seed)
        if not list_checkpoints(folder / CHECKPOINTS):  # an earlier call, with more rates, preferred another
            (folder / VALID).unlink(missing_ok=True)
            self.run(rate, seed)
        factory, model = self._new(seed)
        factory.infer(
            [model.wire(self._layer(self._valid_rows[:1], seed, model.labels_words))[1]],
            checkpoint_dir=folder / CHECKPOINTS,
            verbose=False,
        )
        return factory, model

    def _layer(self, rows: Sequence[Row], seed: int, labels_words: bool) -> RowLayer:
        pad_id = self._pretrained.tokenizer.pad_id
        return RowLayer(rows, pad_id, labels_words, self._options.batch_size, seed)

    def _predict(
        self, factory: NeuralModuleFactory, model: FinetuningModel, rows: Sequence[Row]
    ) -> list[list[str]]:
        pad_id = self._pretrained.tokenizer.pad_id
        ids = model.predict(factory, rows, pad_id, self._options.batch_size)
        return [[self._data.labels[i] for i in answer] for answer in ids]

    def _figures(self, examples: Sequence[Example], predicted: Sequence[Sequence[str]]) -> dict[str, float]:
        return figures(self._options.task, [example.labels for example in examples], predicted)


def _in_words(values: Figures) -> str:
    return ", ".join(f"{name} {100 * value:.1f}" for name, value in values.items())


def _read_json(path: Path) -> Any:
    return json.loads(path.read_bytes()) if path.is_file() else None


def _write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(value, indent=1, ensure_ascii=False, default=list) + "\n").encode())

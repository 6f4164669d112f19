"""Adaptation as one function: a BERT and the text of a field in, an adapted BERT and a verdict out.

Each finished stage writes `[work_dir]/stages/<name>.json` and is not repeated; pretraining and fine-tuning
also resume in the middle.
"""

import dataclasses
import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nemo.collections.nlp.adaptation.losses import SEQ_LENGTH, ModelFigures, figures_on
from nemo.collections.nlp.adaptation.text import (
    FIELD,
    GENERAL,
    MIXED,
    REPLAY,
    TRAIN,
    warn_of_leak_into,
    write_texts,
)
from nemo.collections.nlp.checkpoints.loading import export, load_pretrained
from nemo.collections.nlp.extension.run import extend_vocabulary, huggingface_folder_of
from nemo.collections.nlp.finetuning.data import open_task_data
from nemo.collections.nlp.finetuning.metrics import MAIN_FIGURE, WRITTEN, mean_and_deviation
from nemo.collections.nlp.finetuning.model import open_encoder
from nemo.collections.nlp.finetuning.run import Finetuning, finetune, refuse_several_processes
from nemo.collections.nlp.models.hub import load_config
from nemo.collections.nlp.options import (
    AdaptationOptions,
    ExtensionOptions,
    FinetuningOptions,
    PretrainingOptions,
)
from nemo.collections.nlp.options.adaptation import MINUTES
from nemo.collections.nlp.options.finetuning import TaskOptions
from nemo.collections.nlp.pretraining.run import pretrain
from nemo.utils.arguments import as_config
from nemo.utils.errors import DataError, UsageError
from nemo.utils.files import write_atomically
from nemo.utils.lock import WorkFolderLock
from nemo.utils.logging import logging

STAGES = {
    "begin": "reading texts and model",
    "extend": "extending the vocabulary",
    "continue_base": "continuing pretraining of the base model, for comparison",
    "continue": "continuing pretraining",
    "measure_base": "evaluating the base model on text",
    "measure_extended": "evaluating the extended model on text",
    "measure_continued": "evaluating the continued model on text",
    "measure_adapted": "evaluating the adapted model on text",
    "finetune_base": "fine-tuning the base model",
    "finetune_extended": "fine-tuning the extended model",
    "finetune_continued": "fine-tuning the continued model",
    "finetune_adapted": "fine-tuning the adapted model",
}
"""What each stage does, in words."""
FOLDERS = {"extended": "extended", "continued": "continued", "adapted": "model"}
"""Model -> its folder within the work folder."""
WORTH_TOKENS, WORTH_UNKNOWN = 0.03, 0.001
"""Minimum gain of an extended vocabulary: 3% fewer tokens, or 0.1% fewer unknown words."""
# Options that may change on a resume.
_FREE = ("seeds", "compare_stages", "threads", "work_dir")


@dataclass(frozen=True)
class Score:
    """A score of a fine-tuned model over seeds.

    Attributes:
        mean, deviation: mean and standard deviation (divisor n - 1), from 0 to 1; no deviation with one seed.
        runs: number of seeds.
    """

    mean: float
    deviation: float | None
    runs: int


@dataclass(frozen=True)
class Adaptation:
    """The result of an adaptation.

    Attributes:
        folder: the adapted model.
        texts: held-out figures by model and text (field, general). Models: base; extended (new entries only);
            continued (pretraining only, with `compare_stages`); adapted.
        new_pieces: number of entries added to the vocabulary.
        figure: name of the score in `scores`, see `finetuning.metrics.DEFINITIONS`; None without a task.
        scores: model -> score on the test set, or else the validation set; base and adapted, or all models
            with `compare_stages`.
        measured_on: the file of that set.
        seconds: stage -> duration.
    """

    folder: Path
    texts: Mapping[str, Mapping[str, ModelFigures]]
    new_pieces: int
    figure: str | None
    scores: Mapping[str, Score]
    measured_on: str
    seconds: Mapping[str, float]

    @property
    def minutes(self) -> float:
        """Duration of the adaptation: vocabulary and pretraining."""
        return sum(self.seconds.get(stage, 0.0) for stage in ("extend", "continue")) / 60

    @property
    def gain(self) -> tuple[float, float | None]:
        """The adapted model's `gain_of`."""
        return self.gain_of("adapted")

    def gain_of(self, model: str) -> tuple[float, float | None]:
        """A model's mean less that of the base, and the standard error of this; None with one seed."""
        base, other = self.scores["base"], self.scores[model]
        if base.deviation is None or other.deviation is None:
            return other.mean - base.mean, None
        variance = base.deviation**2 / base.runs + other.deviation**2 / other.runs
        return other.mean - base.mean, math.sqrt(variance)

    @property
    def is_measurable(self) -> bool:
        """Is there a gain, or a loss, over twice its standard error?"""
        if self.figure is None:
            return False
        difference, error = self.gain
        return error is not None and abs(difference) > 2 * error

    @property
    def verdict(self) -> str:
        """One sentence: the gain or the loss, and what it took."""
        if self.figure is None:
            return f"adapted in {self.minutes:.0f} minutes; without --task and --train the gain is unknown"
        difference, error = self.gain
        figure = f"{WRITTEN[self.figure]} on {Path(self.measured_on).name} for {self.minutes:.0f} minutes"
        if error is None:
            return f"{100 * difference:+.1f} {figure}, with one seed: not conclusive"
        gain = f"{100 * difference:+.1f} +- {100 * error:.1f} {figure}"
        return gain if self.is_measurable else f"no measurable gain ({gain})"


def adapt(options: AdaptationOptions) -> Adaptation:
    """Adapt a BERT to the text of a field, or resume an earlier call with the same work folder.

    Raises:
        UsageError, DataError, CheckpointError: an input is not usable; names the fix.
    """
    refuse_several_processes("adapting")
    with WorkFolderLock(options.work_dir):
        return _Adapting(options).run()


class _Adapting:
    def __init__(self, options: AdaptationOptions):
        self._options, self._folder = options, Path(options.work_dir)
        self._seconds: dict[str, float] = {}

    def run(self) -> Adaptation:
        """Extend the vocabulary, continue pretraining, measure every model; finished stages are reused."""
        options = self._options
        base = self._begun()
        extension = self._stage("extend", lambda: self._extend(base))
        models = self._models(base, is_extended=extension["pieces"] > 0)
        texts = {name: self._measure(name, model) for name, model in models.items()}
        compared = models if options.compare_stages else {name: models[name] for name in ("base", "adapted")}
        scores, figure, measured_on = self._scores(compared)
        return Adaptation(
            Path(models["adapted"]),
            texts,
            extension["pieces"],
            figure,
            scores,
            measured_on,
            dict(self._seconds),
        )

    def _models(self, base: str, is_extended: bool) -> dict[str, str]:
        """Make the models to measure, by name; those of a single stage stand between base and adapted."""
        start = str(self._path(FOLDERS["extended"])) if is_extended else base
        if self._options.level == "vocabulary":
            return {"base": base, "adapted": start}
        models = {"base": base}
        if is_extended:
            models["extended"] = start
            if self._options.compare_stages:
                models["continued"] = self._continued("continue_base", base, FOLDERS["continued"])
        models["adapted"] = self._continued("continue", start, FOLDERS["adapted"])
        return models

    def _continued(self, stage: str, start: str, folder: str) -> str:
        """A model whose pretraining was continued in a stage; returns its folder."""
        self._stage(stage, lambda: self._continue(start, stage, folder))
        return str(self._path(folder))

    def _path(self, name: str) -> Path:
        return self._folder / name

    def _stage(self, name: str, work: Callable[[], Any]) -> Any:
        """The result of a stage, which runs unless it was done before."""
        file = self._folder / "stages" / f"{name}.json"
        if not file.is_file():
            logging.info("%s", STAGES[name])
            began = time.monotonic()
            result = {"result": work(), "seconds": time.monotonic() - began}
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(file, json.dumps(result, indent=1).encode())
        done = json.loads(file.read_bytes())
        self._seconds[name] = done["seconds"]
        return done["result"]

    def _begun(self) -> str:
        """The base model in a form that all stages accept.

        Raises:
            UsageError: the folder has another adaptation.
        """
        deciding = {name: value for name, value in as_config(self._options).items() if name not in _FREE}
        deciding = json.loads(json.dumps(deciding))
        begun = self._stage("begin", lambda: {"model": self._begin(), "options": deciding})
        for name, value in deciding.items():
            if begun["options"].get(name) != value:
                raise UsageError(
                    "the folder has an adaptation with a different option",
                    where=f"{self._folder} --{name}",
                    found=value,
                    expected=begun["options"].get(name),
                    fix="use another --work_dir",
                )
        return begun["model"]

    def _begin(self) -> str:
        """Read all input, so that errors are reported before the work and leave no files."""
        options, texts, aside = self._options, self._path("text"), self._path("base")
        data = open_task_data(self._finetuning("base", options.model)) if options.train else None
        with _gone_if_refused(texts, aside):
            aside.mkdir(exist_ok=True)
            model = huggingface_folder_of(options.model, aside)
            pretrained = open_encoder(model)
            if data:
                Finetuning(self._finetuning("base", model), data, pretrained)
            write_texts(options, texts)
            if data:
                name = str(options.test) if data.test else "the validation set"
                warn_of_leak_into(texts / TRAIN, data.test or data.valid, name, "the text")
                if options.replay:
                    warn_of_leak_into(
                        texts / REPLAY, data.test or data.valid, name, f"--replay {options.replay}"
                    )
        return model

    def _extend(self, base: str) -> dict[str, Any]:
        """Extend the vocabulary, if it pays off."""
        if self._options.pieces == 0:
            return {"pieces": 0}
        options = ExtensionOptions(
            model=base,
            text=(str(self._path("text") / TRAIN),),
            text_layout="blank",
            pieces=self._options.pieces,
            out=str(self._path(FOLDERS["extended"])),
            force=True,
        )
        try:
            result = extend_vocabulary(options)
        except (DataError, UsageError) as reason:
            logging.info("the vocabulary is not extended: %s", reason)
            return {"pieces": 0}
        saved = 1 - result.after.pieces_per_word / result.before.pieces_per_word
        spelled = result.before.unknown_share - result.after.unknown_share
        pays = self._options.pieces is not None or saved >= WORTH_TOKENS or spelled >= WORTH_UNKNOWN
        logging.info(
            "%d new entries would save %.1f%% of the tokens: %s",
            *(len(result.extension.ids), 100 * saved, "taken" if pays else "left out"),
        )
        return {"pieces": len(result.extension.ids) if pays else 0, "saved": saved}

    def _continue(self, start: str, run: str, folder: str) -> dict[str, float]:
        """Continue pretraining on the field's text in the work folder `run`, and export to `folder`."""
        options, text = self._options, self._path("text")
        positions = load_config(start).max_position_embeddings
        duration: dict[str, Any] = {"num_iters": options.num_iters}
        if options.num_iters is None:
            duration = {"minutes": options.minutes or MINUTES}
        result = pretrain(
            PretrainingOptions(
                mode="data_text",
                train_data=str(text / MIXED),
                eval_data=str(text / FIELD),
                text_layout="blank",
                bert_checkpoint=start,
                only_mlm_loss=True,
                max_seq_length=min(SEQ_LENGTH, positions),
                **duration,
                mask_probability=options.mask_probability,
                batch_size=options.pretraining_batch_size,
                optimizer="adam_w",
                lr=options.pretraining_lr,
                lr_policy="WarmupAnnealing",
                lr_warmup_proportion=0.1,
                weight_decay=0.01,
                grad_norm_clip=1.0,
                amp_opt_level=options.amp_opt_level,
                eval_step_freq=-1,
                seed=options.seed,
                threads=options.threads,
                work_dir=str(self._path(run)),
            )
        )
        export(load_pretrained(result.work_dir), self._path(folder), force=True)
        return {"steps": result.steps, "tokens": result.tokens}

    def _measure(self, name: str, model: str) -> dict[str, ModelFigures]:
        files = {"field": FIELD} | ({"general": GENERAL} if self._options.replay else {})

        def measure() -> dict[str, Any]:
            return {
                text: dataclasses.asdict(figures_on(model, self._path("text") / file))
                for text, file in files.items()
            }

        figures = self._stage(f"measure_{name}", measure)
        return {text: ModelFigures(**values) for text, values in figures.items()}

    def _finetuning(self, name: str, model: str) -> FinetuningOptions:
        options = self._options
        task = {field.name: getattr(options, field.name) for field in dataclasses.fields(TaskOptions)}
        work_dir = str(self._path(f"finetune_{name}"))
        return FinetuningOptions(**task, model=model, seeds=options.seeds, work_dir=work_dir)

    def _scores(self, models: Mapping[str, str]) -> tuple[dict[str, Score], str | None, str]:
        """Fine-tune the models with the same learning rates and seeds."""
        options = self._options
        if not options.train:
            return {}, None, ""
        figure = MAIN_FIGURE[options.task]
        scores: dict[str, Score] = {}
        for name, model in models.items():
            if model == models["base"] and scores:  # the adapted model is the base model
                scores[name] = scores["base"]
                continue
            began = time.monotonic()
            result = finetune(self._finetuning(name, model))
            self._seconds[f"finetune_{name}"] = time.monotonic() - began
            runs: Sequence[Mapping[str, float]] = result.test or result.valid
            scores[name] = Score(*mean_and_deviation(runs, figure), len(runs))
        return scores, figure, options.test or options.valid or options.train


@contextmanager
def _gone_if_refused(*folders: Path) -> Iterator[None]:
    """Remove the folders that the block created, if it raises."""
    new = [folder for folder in folders if not folder.exists()]
    try:
        yield
    except BaseException:
        for folder in new:
            shutil.rmtree(folder, ignore_errors=True)
        raise

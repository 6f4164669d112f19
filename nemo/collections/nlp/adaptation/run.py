"""Adaptation as one function: a BERT and the text of a field in, an adapted BERT and a verdict out.

Each finished stage writes `[work_dir]/stages/<name>.json` and is not repeated; pretraining and fine-tuning
also resume in the middle.
"""

import dataclasses
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

from nemo.collections.nlp.adaptation.inputs import contents_of
from nemo.collections.nlp.adaptation.losses import SEQ_LENGTH, ModelFigures, figures_on
from nemo.collections.nlp.adaptation.result import Adaptation, Score
from nemo.collections.nlp.adaptation.text import (
    FIELD,
    GENERAL,
    MIXED,
    REPLAY,
    TRAIN,
    leak_into,
    write_texts,
)
from nemo.collections.nlp.checkpoints.loading import export, load_pretrained
from nemo.collections.nlp.extension.run import extend_vocabulary, huggingface_folder_of
from nemo.collections.nlp.finetuning.metrics import MAIN_FIGURE, mean_and_deviation
from nemo.collections.nlp.finetuning.model import open_encoder
from nemo.collections.nlp.finetuning.run import RESULTS, Finetuning, finetune, refuse_several_processes
from nemo.collections.nlp.finetuning.task_data import TaskData, open_task_data
from nemo.collections.nlp.models.hub import load_config
from nemo.collections.nlp.options import (
    AdaptationOptions,
    ExtensionOptions,
    FinetuningOptions,
    PretrainingOptions,
)
from nemo.collections.nlp.options.adaptation import MINUTES, AdaptationRunOptions
from nemo.collections.nlp.options.finetuning import ComputingOptions, TaskOptions
from nemo.collections.nlp.pretraining.run import pretrain
from nemo.utils.arguments import as_config, names_deciding, names_of
from nemo.utils.errors import DataError, UsageError
from nemo.utils.files import write_atomically
from nemo.utils.lock import WorkFolderLock
from nemo.utils.logging import logging

STAGES = {
    "begin": "reading texts and model",
    "task": "reading the labeled data",
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
# Options that may change on a resume; those of the task are recorded once there is one.
_FREE = {*names_of(AdaptationRunOptions), *names_deciding(AdaptationOptions, "machine")}
_OF_TASK = names_of(TaskOptions)
_SECONDS = "seconds"


def adapt(options: AdaptationOptions) -> Adaptation:
    """Adapt a BERT to the text of a field, or resume an earlier call with the same work folder.

    Raises:
        UsageError, DataError, CheckpointError: an input is not usable; names the fix.
    """
    refuse_several_processes("adapting")
    with WorkFolderLock(options.work_dir):
        return _Adapting(options).run()


class _Adapting:
    """An adaptation: its options, its work folder, and how long each stage took."""

    def __init__(self, options: AdaptationOptions):
        self._options, self._folder = options, Path(options.work_dir)
        self._seconds: dict[str, float] = {}

    def run(self) -> Adaptation:
        """Extend the vocabulary, continue pretraining, measure every model; finished stages are reused."""
        options = self._options
        self._seconds = self._read(_SECONDS) or {}
        base = self._begun()
        leaks = self._task_taken(base)
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
            {stage: self._seconds[stage] for stage in STAGES if stage in self._seconds},
            leaks,
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
        done = self._read(name)
        if done is None:
            logging.info("%s", STAGES[name])
            with self._timed(name):
                result = work()
            done = {"result": result, "seconds": self._seconds[name]}
            self._write(name, done)
        self._seconds[name] = done["seconds"]
        return done["result"]

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        """Add the duration of the block to that of earlier attempts, even if it fails."""
        began = time.monotonic()
        try:
            yield
        finally:
            self._seconds[name] = self._seconds.get(name, 0.0) + time.monotonic() - began
            if self._path("stages").is_dir():  # an input that is refused leaves no files
                self._write(_SECONDS, self._seconds)

    def _read(self, name: str) -> Any:
        file = self._path("stages") / f"{name}.json"
        return json.loads(file.read_bytes()) if file.is_file() else None

    def _write(self, name: str, content: Any) -> None:
        file = self._path("stages") / f"{name}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, json.dumps(content, indent=1).encode())

    def _deciding(self, of_task: bool) -> dict[str, Any]:
        """The options that may not change once they were used, of the task or all others."""
        options = {name: v for name, v in as_config(self._options).items() if name not in _FREE}
        return json.loads(json.dumps({n: v for n, v in options.items() if (n in _OF_TASK) == of_task}))

    def _begun(self) -> str:
        """The base model in a form that all stages accept.

        Raises:
            UsageError: the folder has another adaptation, or one of other text or of another model.
        """
        contents = contents_of(self._options)

        def begin() -> dict[str, Any]:
            return {"is_exported": self._begin(), "contents": contents, "options": self._deciding(False)}

        begun = self._stage("begin", begin)
        self._refuse_other(self._deciding(False), begun["options"])
        for name, content in contents.items():
            if content and begun["contents"][name] and content != begun["contents"][name]:
                raise UsageError(
                    "has changed since the adaptation began",
                    where=f"{self._folder}, {name}",
                    fix="use another --work_dir",
                )
        return self._exported if begun["is_exported"] else self._options.model

    @property
    def _exported(self) -> str:
        return str(self._path("base") / "model")

    def _refuse_other(self, ours: Mapping[str, Any], begun: Mapping[str, Any]) -> None:
        for name, value in ours.items():
            if begun.get(name, value) != value:  # a folder may lack an option that is newer
                raise UsageError(
                    "the folder has an adaptation with a different option",
                    where=f"{self._folder} --{name}",
                    found=value,
                    expected=begun[name],
                    fix="use another --work_dir",
                )

    def _begin(self) -> bool:
        """Read all input, so that errors are reported before the work and leave no files.

        Returns:
            Whether the model is a run, and was exported to the work folder.
        """
        options, texts, aside = self._options, self._path("text"), self._path("base")
        if options.train:
            _ = self._task_data  # before the model is exported
        with _gone_if_refused(texts, aside):
            aside.mkdir(exist_ok=True)
            model = huggingface_folder_of(options.model, aside)
            self._check(model)
            write_texts(options, texts)
        return model == self._exported

    @cached_property
    def _task_data(self) -> TaskData:
        return open_task_data(self._finetuning("base", self._options.model))

    def _check(self, base: str) -> None:
        """Open the model, and check the task against it."""
        encoder = open_encoder(base)
        if self._options.train:
            Finetuning(self._finetuning("base", base), self._task_data, encoder)

    def _task_taken(self, base: str) -> Sequence[str]:
        """Check the task against model and texts, also if it was added later; warnings of leaks.

        Raises:
            UsageError: the folder has scores of another task.
        """
        ours, known = self._deciding(True), self._read("task")
        if known is None and not self._options.train:
            return []
        if known is not None:
            self._refuse_other(ours, known["result"]["options"])
        taken = self._stage("task", lambda: {"options": ours, "leaks": self._leaks(base)})
        for leak in taken["leaks"]:
            logging.warning("%s", leak)
        return taken["leaks"]

    def _leaks(self, base: str) -> list[str]:
        """Warnings of test examples, or else validation examples, that occur in the text."""
        options, texts, data = self._options, self._path("text"), self._task_data
        self._check(base)
        name = str(options.test) if data.test else "the validation set"
        files = {TRAIN: "the text"} | ({REPLAY: f"--replay {options.replay}"} if options.replay else {})
        found = (leak_into(texts / file, data.test or data.valid, name, of) for file, of in files.items())
        return [leak for leak in found if leak is not None]

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
            len(result.extension.ids),
            100 * saved,
            "taken" if pays else "left out",
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
        shared = (*names_of(TaskOptions), *names_of(ComputingOptions))
        task = {name: getattr(options, name) for name in shared}
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
            task = self._finetuning(name, model)
            with nullcontext() if _is_done(task) else self._timed(f"finetune_{name}"):
                result = finetune(task)
            runs: Sequence[Mapping[str, float]] = result.test or result.valid
            scores[name] = Score(*mean_and_deviation(runs, figure), len(runs))
        return scores, figure, _measured_on(options)


def _is_done(task: FinetuningOptions) -> bool:
    results = Path(task.work_dir) / RESULTS
    return results.is_file() and len(json.loads(results.read_bytes())["valid"]) == task.seeds


def _measured_on(options: AdaptationOptions) -> str:
    """The examples that scores are of, in words."""
    if options.test:
        return Path(options.test).name
    held_out = Path(options.valid).name if options.valid else f"a tenth of {Path(options.train).name}"
    return f"{held_out} (which also selected the learning rate)"


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

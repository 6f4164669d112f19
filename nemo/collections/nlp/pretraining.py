"""Pretraining as one function: options in, a trained BERT in a work folder out."""

import dataclasses
import math
import os
import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nemo.backends.pytorch import DataLayerNM, PtActions, checkpoint
from nemo.collections.nlp.callbacks import lm_bert_callback
from nemo.collections.nlp.callbacks.run_record import RunRecord, duration, evaluations_in
from nemo.collections.nlp.data.tokenizers import TokenizerSpec
from nemo.collections.nlp.hub import read_config as read_bert_config
from nemo.collections.nlp.initialization import start_from_counts
from nemo.collections.nlp.options import PretrainingOptions
from nemo.collections.nlp.pretraining_data import PretrainingData, open_data
from nemo.collections.nlp.pretraining_model import PretrainingModel, build_model, wire
from nemo.core import (
    ActionCallback,
    CheckpointCallback,
    EvaluatorCallback,
    NeuralModuleFactory,
    TrainingPlan,
)
from nemo.utils.arguments import read_config
from nemo.utils.errors import CheckpointError, MissingFileError, UsageError
from nemo.utils.lock import WorkFolderLock
from nemo.utils.logging import logging
from nemo.utils.lr_policies import get_lr_policy


def check_sources(options: PretrainingOptions) -> None:
    """Refuse what cannot be continued from before any work is done on the text.

    Raises:
        MissingFileError, CheckpointError: there is no such file, or no checkpoint.
    """
    if options.bert_checkpoint is not None and not Path(options.bert_checkpoint).is_file():
        raise MissingFileError(
            "no such file", where=options.bert_checkpoint, expected="weights such as BERT.safetensors"
        )
    if options.load_dir is not None and not checkpoint.list_checkpoints(Path(options.load_dir)):
        raise CheckpointError(
            "no checkpoint to continue from",
            where=options.load_dir,
            expected="a folder that holds STEP-<n> folders",
        )


def with_sizes_of_config_file(options: PretrainingOptions) -> PretrainingOptions:
    """The options with the vocabulary and the length of `--config_file`, which wins over the flags."""
    if options.config_file is None:
        return options
    config = read_bert_config(Path(options.config_file))
    logging.info(
        "from %s: vocab_size %d, max_seq_length %d",
        options.config_file,
        config.vocab_size,
        config.max_position_embeddings,
    )
    return dataclasses.replace(
        options, vocab_size=config.vocab_size, max_seq_length=config.max_position_embeddings
    )


def updates_per_epoch(data_layer: DataLayerNM, batches_per_step: int) -> int:
    """Updates in a pass over the data; a last short one counts."""
    return math.ceil(math.ceil(len(data_layer) / data_layer.batch_size) / batches_per_step)


def number_of_updates(options: PretrainingOptions, data: PretrainingData, work_dir: str | Path) -> int:
    """How many updates the whole run has, however its end was given.

    `minutes` are turned into updates by timing a few on a model that is then thrown away; a rerun keeps the
    number of the first run, so that its schedule is the same.
    """
    if options.num_iters != -1:
        return options.num_iters
    if options.epochs is not None:
        return options.epochs * updates_per_epoch(data.train, options.batches_per_step)
    if checkpoint.list_checkpoints(Path(work_dir, "checkpoints")):
        earlier = read_config(PretrainingOptions, Path(work_dir, "config.yaml"))
        if earlier["minutes"] != options.minutes:
            raise UsageError(
                "the run in this folder was planned for another time",
                where=work_dir,
                found=f"--minutes {options.minutes:g}",
                expected=f"--num_iters {earlier['num_iters']}, or --minutes {earlier['minutes']}",
                fix="use another folder to train anew",
            )
        return earlier["num_iters"]
    minutes = options.minutes or 0.0  # given, as neither updates nor epochs are
    seconds = seconds_per_update(options, data)
    updates = max(1, int(minutes * 60 / seconds))
    logging.info("%.2f s an update: %d updates in %g minutes", seconds, updates, minutes)
    return updates


def seconds_per_update(options: PretrainingOptions, data: PretrainingData) -> float:
    """Time training on a model of the same sizes that is then thrown away.

    The lower quartile of a few updates: what else the machine is busy with now will end sooner than training.
    """
    watch = _Stopwatch()
    losses = wire(build_model(options, data.tokenizer), data.train)
    updates = WARM_UP_UPDATES + TIMED_UPDATES
    plan = TrainingPlan.from_params(
        options.optimizer,
        optimization_params(options, updates),
        batches_per_step=options.batches_per_step,
    )
    PtActions(optimization_level=options.amp_opt_level).train([losses.total], plan, [watch])
    return statistics.quantiles(watch.seconds[WARM_UP_UPDATES:], n=4)[0]


WARM_UP_UPDATES, TIMED_UPDATES = 3, 16
STREAM_OPTIONS = ("seed", "max_seq_length", "mask_probability", "short_seq_prob", "batch_size")


class _Stopwatch(ActionCallback):
    """From the end of one update to the end of the next: waiting for data counts."""

    def on_action_start(self) -> None:
        self.seconds: list[float] = []
        self._last = time.monotonic()

    def on_iteration_end(self) -> None:
        now = time.monotonic()
        self.seconds.append(now - self._last)
        self._last = now


def optimization_params(options: PretrainingOptions, max_steps: int) -> dict[str, Any]:
    """The options as `nf.train` takes them."""
    return {
        "lr": options.lr,
        "max_steps": max_steps,
        "betas": (options.beta1, options.beta2),
        "weight_decay": options.weight_decay,
        "grad_norm_clip": options.grad_norm_clip,
    }


@dataclass(frozen=True)
class PretrainingResult:
    """What a run leaves behind, besides its work folder.

    Attributes:
        steps, tokens: finished in all.
        seconds: of this call.
        figures: held-out figures at the end, see `lm_bert_callback.figures`; empty without held-out text.
        figures_before: the same before the first update; empty where they were not asked for.
    """

    work_dir: Path
    model: PretrainingModel
    tokenizer: TokenizerSpec
    steps: int
    tokens: int
    seconds: float
    figures: Mapping[str, float]
    figures_before: Mapping[str, float]


def pretrain(options: PretrainingOptions) -> PretrainingResult:
    """Train a BERT, or go on where an earlier run in the same work folder stopped.

    Raises:
        UsageError, DataError, CheckpointError: what cannot be used, and how to mend it.
    """
    if options.num_gpus != 1 or int(os.environ.get("WORLD_SIZE", "1")) != 1:
        raise UsageError(
            "several processes are not available yet",
            where="--num_gpus",
            found=max(options.num_gpus, int(os.environ.get("WORLD_SIZE", "1"))),
            expected=1,
        )
    if options.mode != "data_text":
        raise UsageError(
            "prepared (HDF5) data is not available yet", found=options.mode, expected="data_text"
        )
    began = time.monotonic()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    work_dir = Path(options.work_dir)
    with WorkFolderLock(work_dir):
        checkpoint.remove_leftovers(work_dir / "checkpoints")
        factory = NeuralModuleFactory(
            local_rank=options.local_rank,
            optimization_level=options.amp_opt_level,
            log_dir=work_dir,
            create_tb_writer=True,
            random_seed=options.seed,
        )
        check_sources(options)
        options = with_sizes_of_config_file(options)
        data = open_data(options, work_dir)
        num_iters = number_of_updates(options, data, work_dir)
        options = dataclasses.replace(options, num_iters=num_iters, num_epochs=None)
        torch.manual_seed(options.seed)  # timing updates has used the generator
        model = build_model(options, data.tokenizer)
        resumes = checkpoint.list_checkpoints(work_dir / "checkpoints")
        if options.initialization == "counts" and not resumes:
            start_from_counts(model.bert, model.mlm, data.train.dataset.store, data.tokenizer.special_ids)
        evaluations = _train(options, factory, data, model)
    trainer = factory.get_trainer()
    seconds = time.monotonic() - began
    logging.info(
        "done: %d updates, %s tokens in %s; checkpoints are in %s",
        trainer.step,
        f"{trainer.items_seen:,}",
        duration(seconds),
        factory.checkpoint_dir,
    )
    return PretrainingResult(
        work_dir,
        model,
        data.tokenizer,
        trainer.step,
        trainer.items_seen,
        seconds,
        evaluations.get(trainer.step, {}),
        evaluations.get(0, {}),
    )


def _train(
    options: PretrainingOptions,
    factory: NeuralModuleFactory,
    data: PretrainingData,
    model: PretrainingModel,
) -> dict[int, dict[str, float]]:
    """Train with logger, evaluator and checkpoints; returns the held-out figures by step."""
    experiment: Any = factory.experiment  # there is one, as log_dir was given
    checkpoint_dir = Path(experiment.checkpoint_dir)
    losses = wire(model, data.train)
    logging.info("%s weights, a vocabulary of %d", f"{model.num_weights:,}", data.tokenizer.vocab_size)
    record = RunRecord(experiment, losses.by_name(), options.train_step_freq, options.num_iters)
    callbacks: list[ActionCallback] = [_Configuration(options, model, experiment), record]
    if data.eval is not None:
        callbacks.append(
            EvaluatorCallback(
                [wire(model, data.eval).total],
                lm_bert_callback.eval_iter_callback,
                lambda state: record.evaluated(lm_bert_callback.figures(state)),
                eval_step=options.num_iters if options.eval_step_freq == -1 else options.eval_step_freq,
                eval_at_start=options.eval_step_freq != -1,
            )
        )
    callbacks.append(
        CheckpointCallback(
            checkpoint_dir,
            load_from_folder=options.load_dir,
            step_freq=options.save_step_freq,
            epoch_freq=options.save_epoch_freq,
            checkpoints_to_keep=options.checkpoints_to_keep,
            extra_files=checkpoint_files(model, data.tokenizer),
            identity={"tokenizer": data.tokenizer.fingerprint},
            # Single options first, so that a refusal names the one that differs.
            stream={
                **{name: getattr(options, name) for name in STREAM_OPTIONS},
                "text": data.train.dataset.fingerprint,
            },
        )
    )
    policy = None
    if options.lr_policy is not None:
        policy = get_lr_policy(
            options.lr_policy, total_steps=options.num_iters, warmup_ratio=options.lr_warmup_proportion
        )
    try:
        factory.train(
            [losses.total],
            optimizer=options.optimizer,
            optimization_params=optimization_params(options, options.num_iters),
            callbacks=callbacks,
            lr_policy=policy,
            batches_per_step=options.batches_per_step,
        )
    except BaseException as problem:  # Ctrl-C too: status.json always tells the truth
        experiment.write_status(state="stopped", problem=str(problem) or type(problem).__name__)
        raise
    return evaluations_in(experiment.metrics_path)


class _Configuration(ActionCallback):
    """Writes down what is run; only once it is clear that the work folder is not another run's."""

    def __init__(self, options: PretrainingOptions, model: PretrainingModel, experiment: Any):
        self.options, self.model, self.experiment = options, model, experiment

    def on_action_start(self) -> None:
        self.experiment.write_config(dataclasses.asdict(self.options))
        self.model.bert.config.to_json_file(self.experiment.checkpoint_dir / "bert-config.json")


def checkpoint_files(model: PretrainingModel, tokenizer: TokenizerSpec) -> dict[str, bytes]:
    """What a checkpoint carries along, so that it can be used by itself: configuration and vocabulary."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save(Path(folder))
        files = {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}
    return {"bert-config.json": model.bert.config.to_json_string().encode(), **files}

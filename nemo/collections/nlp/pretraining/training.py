"""Trains a run: losses, callbacks and status."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from nemo.backends.pytorch.distributed.world import World
from nemo.backends.pytorch.optim.optimizers import default_betas
from nemo.collections.nlp.callbacks import lm_bert_callback
from nemo.collections.nlp.callbacks.best_so_far import BestSoFar, Patience
from nemo.collections.nlp.callbacks.predictions import Predictions
from nemo.collections.nlp.callbacks.run_record import RunRecord, evaluations_in, newest_checkpoint
from nemo.collections.nlp.callbacks.trackers import Trackers
from nemo.collections.nlp.nm.pretraining_model import wire
from nemo.collections.nlp.options import PretrainingOptions
from nemo.collections.nlp.options.mask_rate import mask_rates
from nemo.collections.nlp.pretraining.duration import EndOnTime, Overhead, lr_policy
from nemo.collections.nlp.pretraining.mask_schedule import MaskSchedule
from nemo.collections.nlp.pretraining.rate_change import RateChange
from nemo.collections.nlp.pretraining.run_files_writer import RunFilesWriter, checkpoint_files
from nemo.collections.nlp.pretraining.setup import Run
from nemo.core import (
    ActionCallback,
    CheckpointCallback,
    EvaluatorCallback,
    NeuralModuleFactory,
    NmTensor,
)
from nemo.utils.arguments import as_config, names_deciding
from nemo.utils.errors import Preempted
from nemo.utils.logging import logging
from nemo.utils.progress import MOST_SILENCE, working
from nemo.utils.stopping import Stop

BYTES_SAVED_PER_WEIGHT = 12
"""Per weight in a checkpoint: the weight and two moments, float32."""


def train(
    run: Run, factory: NeuralModuleFactory, world: World, began: float, files: RunFilesWriter
) -> tuple[dict[int, dict[str, float]], bool]:
    """Train with logger, evaluator and checkpoints.

    Args:
        began: start of the run's minutes, by `time.monotonic()`.
        files: records what the run is.

    Returns:
        The held-out figures by step; and whether the loss ended far above that of a uniform prediction.
    """
    options = run.options
    work_folder: Any = factory.work_folder  # exists, because log_dir was given
    losses = wire(run.model, run.data.train, run.options.nsp_weight)
    trackers = Trackers(options.tracker, work_folder, as_config(options))
    record = _record(run, work_folder, losses.by_name(), trackers)
    held_out = None if run.data.eval is None else HeldOutEvaluation(run)
    checkpoints = _checkpoints(run, Path(work_folder.checkpoint_dir), factory.world_size)
    callbacks: list[ActionCallback] = [files, trackers, record]
    if run.earlier_options is not None:
        callbacks.append(RateChange(run.earlier_options, options, run.plan))
    if run.data.tokenizer is not None:
        data = run.data.eval or run.data.train
        callbacks.append(Predictions(work_folder, run.model, run.data.tokenizer, data))
    best = None
    if held_out is not None:
        callbacks.extend(held_out.callbacks)
        if options.keep_best or options.patience is not None:
            best = BestSoFar(work_folder.metrics_path, checkpoints if options.keep_best else None, world)
            held_out.listeners.append(lambda figures: best.evaluated(record.step, figures))
            callbacks.append(best)
        held_out.listeners.append(record.evaluated)
    callbacks.append(checkpoints)
    end = _end_on_time(run, held_out, checkpoints, began, files, world) if run.ends_on_time else None
    callbacks.extend(_mask_schedules(run, end, factory.world_size))
    if end is not None:
        record.is_planned = lambda: end.step_plan.is_settled
        callbacks.append(end)
    if best is not None and options.patience is not None:
        callbacks.append(Patience(best, options.patience, world))
    shown = working("training", view=record.view, silence=MOST_SILENCE)
    with _status_of(work_folder, files), trackers, shown:
        factory.train(
            [losses.total],
            optimizer=options.optimizer,
            optimization_params=optimization_params(options, run.plan.total),
            callbacks=callbacks,
            lr_policy=lr_policy(options, run.plan),
            batches_per_step=options.batches_per_step,
            when_not_finite=options.when_not_finite,
        )
    return evaluations_in(work_folder.metrics_path), record.has_diverged


def _mask_schedules(run: Run, end: EndOnTime | None, num_processes: int) -> list[MaskSchedule]:
    """The mask schedule in a list, or an empty list if the rate is constant."""
    first, last = mask_rates(run.options.mask_probability)
    if first == last:
        return []
    masks = MaskSchedule(
        first,
        last,
        run.data.train,
        run.options.batches_per_step,
        num_processes,
        plan=lambda: run.plan if end is None else end.step_plan,
    )
    run.data.train.mask_schedule = masks
    return [masks]


def _record(run: Run, work_folder: Any, losses: Mapping[str, NmTensor], trackers: Trackers) -> RunRecord:
    vocab_size = run.model.bert.settings.vocab_size
    logging.info("%s weights, %s vocabulary entries", f"{run.model.num_weights:,}", f"{vocab_size:,}")
    is_text = run.options.mode == "data_text"
    entropy = run.data.train.dataset.store.manifest["unigram_entropy"] if is_text else None
    return RunRecord(work_folder, losses, run.options.train_step_freq, entropy, vocab_size, trackers)


class HeldOutEvaluation:
    """Evaluation on held-out data.

    Attributes:
        callbacks: the callbacks to train with.
        listeners: called with the figures of each evaluation; the last one returns TensorBoard's scalars.
        on_batch: called after each batch.
    """

    def __init__(self, run: Run):
        options = run.options
        assert run.data.eval is not None
        self.listeners: list[Callable[[dict[str, float]], Any]] = []
        self.on_batch: Callable[[], None] | None = None
        self.evaluator = EvaluatorCallback(
            [wire(run.model, run.data.eval).total],
            self._evaluated_batch,
            self._evaluated,
            # It always evaluates at the end.
            eval_step=sys.maxsize if options.eval_step_freq == -1 else options.eval_step_freq,
            eval_at_start=False,
        )
        self.callbacks: list[ActionCallback] = [self.evaluator]
        # The quality of an initial checkpoint is always of interest.
        if not run.resumes and (run.initial is not None or options.eval_step_freq != -1):
            self.callbacks.append(_EvaluateFirst(self.evaluator))

    def _evaluated_batch(self, batch: Any, state: dict[str, Any]) -> None:
        lm_bert_callback.eval_iter_callback(batch, state)
        if self.on_batch is not None:
            self.on_batch()

    def _evaluated(self, state: dict[str, Any]) -> Any:
        figures = lm_bert_callback.figures(state)
        return [listener(figures) for listener in self.listeners][-1]


class _EvaluateFirst(ActionCallback):
    """Evaluates before the first step."""

    def __init__(self, evaluator: EvaluatorCallback):
        self.evaluator = evaluator

    def on_action_start(self) -> None:
        self.evaluator.evaluate()


def _checkpoints(run: Run, folder: Path, world_size: int) -> CheckpointCallback:
    options, data, settings = run.options, run.data, run.model.bert.settings
    samples_per_step = options.batch_size * options.batches_per_step * world_size
    return CheckpointCallback(
        folder,
        load_from_folder=None if run.initial is None else run.initial.run,
        step_freq=options.save_step_freq,
        epoch_freq=options.save_epoch_freq,
        checkpoints_to_keep=options.checkpoints_to_keep,
        extra_files=checkpoint_files(run.model, data.tokenizer),
        # Also single options, so that a refusal names the one that differs.
        identity={
            "tokenizer": "none" if data.tokenizer is None else data.tokenizer.fingerprint,
            **{name: getattr(options, name) for name in names_deciding(PretrainingOptions, "model")},
            # Sizes are visible in the tensors; these are not.
            "num_attention_heads": settings.num_attention_heads,
            "hidden_act": settings.hidden_act,
        },
        stream={
            **{name: getattr(options, name) for name in names_deciding(PretrainingOptions, "samples")},
            # However samples are divided among batches and processes.
            "samples_per_step": samples_per_step if options.tokens_per_batch is None else None,
            "text" if options.mode == "data_text" else "shards": data.train.dataset.fingerprint,
        },
    )


def _end_on_time(
    run: Run,
    held_out: HeldOutEvaluation | None,
    checkpoints: CheckpointCallback,
    began: float,
    files: RunFilesWriter,
    world: World,
) -> EndOnTime:
    options = run.options
    assert options.minutes is not None
    overhead = Overhead(
        None if held_out is None else held_out.evaluator,
        checkpoints,
        eval_batches=0 if run.data.eval is None else run.data.eval.num_batches(0),
        batches_per_step=options.batches_per_step,
        checkpoint_bytes=BYTES_SAVED_PER_WEIGHT * run.model.num_weights,
    )
    end = EndOnTime(
        minutes=options.minutes,
        began=began,
        step_plan=run.plan,
        first_step=run.first_step,
        most_steps=run.steps_at_most,
        overhead=overhead,
        policy=partial(lr_policy, options),
        write_down=files.write,
        world=world,
    )
    if held_out is not None:
        held_out.on_batch = end.evaluated_batch
    return end


@contextmanager
def _status_of(work_folder: Any, files: RunFilesWriter) -> Iterator[None]:
    """Record in `status.json` how training ended, including by Ctrl-C."""
    try:
        yield
    except BaseException as problem:
        if files.before.has_begun:
            work_folder.write_status(
                state="preempted" if isinstance(problem, Preempted | Stop) else "stopped",
                code=getattr(problem, "kind", type(problem).__name__),
                problem=str(problem) or type(problem).__name__,
                checkpoint=newest_checkpoint(work_folder),
            )
        raise
    work_folder.write_status(state="finished", checkpoint=newest_checkpoint(work_folder))


def optimization_params(options: PretrainingOptions, max_steps: int) -> dict[str, Any]:
    """The options as `nf.train` takes them."""
    beta1, beta2 = default_betas(options.optimizer)
    return {
        "lr": options.lr,
        "lr_embeddings": options.lr_embeddings,
        "lr_head": options.lr_head,
        "max_steps": max_steps,
        "betas": (
            beta1 if options.beta1 is None else options.beta1,
            beta2 if options.beta2 is None else options.beta2,
        ),
        "weight_decay": options.weight_decay,
        "grad_norm_clip": options.grad_norm_clip,
    }

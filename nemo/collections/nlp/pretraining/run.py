"""Pretraining as one function: options in, a trained BERT in a work folder out."""

import os
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch

from nemo.backends.pytorch import device_for, join
from nemo.backends.pytorch.checkpoints import checkpoint
from nemo.backends.pytorch.distributed.world import World, refuse_other_world
from nemo.backends.pytorch.machine import other_work
from nemo.collections.nlp.callbacks.held_out_losses import best_step, finite_mlm_losses
from nemo.collections.nlp.callbacks.trackers import TENSORBOARD, refuse_missing
from nemo.collections.nlp.data.tokenizers import TokenizerSpec
from nemo.collections.nlp.nm.pretraining_model import PretrainingModel
from nemo.collections.nlp.options import PretrainingOptions
from nemo.collections.nlp.pretraining.run_files_writer import RecipeNotes, RunFilesWriter
from nemo.collections.nlp.pretraining.setup import Run, check_same_run, prepare_run
from nemo.collections.nlp.pretraining.training import train
from nemo.core import NeuralModuleFactory
from nemo.utils.errors import StorageError
from nemo.utils.lock import WorkFolderLock
from nemo.utils.logging import logging
from nemo.utils.progress import working
from nemo.utils.refusal import RestoreOnFailure
from nemo.utils.stopwatch import duration
from nemo.utils.work_folder import LOG_FILES, MADE_AT_ONCE


@dataclass(frozen=True)
class PretrainingResult:
    """The result of a run, besides its work folder.

    Attributes:
        tokenizer: None for shards without one.
        steps, tokens: totals of the run.
        seconds: duration of this call.
        figures: held-out figures at the end, see `lm_bert_callback.figures`; empty without held-out text.
        figures_before: the same before the run's first step; empty if not evaluated.
    """

    work_dir: Path
    model: PretrainingModel
    tokenizer: TokenizerSpec | None
    steps: int
    tokens: int
    seconds: float
    figures: Mapping[str, float]
    figures_before: Mapping[str, float]


def pretrain(options: PretrainingOptions, began: float | None = None) -> PretrainingResult:
    """Train a BERT, or resume the run in the same work folder.

    Args:
        began: start of the minutes of `options`, by `time.monotonic()`; None: now.

    Raises:
        UsageError, DataError, CheckpointError: something that cannot be used, with the fix.
    """
    began = time.monotonic() if began is None else began
    with processes_of(options) as world:
        return pretrain_together(options, world, began)


def processes_of(options: PretrainingOptions) -> World:
    """The processes that train together, as started by the launcher; sets the threads of this one.

    Raises:
        UsageError: their number differs from the options.
    """
    refuse_missing(options.tracker)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    elif options.num_gpus == 1 and device_for(None).type == "cpu" and (busy := other_work()):
        logging.warning(
            "other work uses the cores (%.1f running threads on %d cores): multithreaded steps are slow on "
            "busy cores; try --threads 1",
            busy,
            torch.get_num_threads(),
        )
    if options.num_gpus != 1 or "num_gpus" in options.given:
        refuse_other_world(options.num_gpus)
    local_rank = options.local_rank or int(os.environ.get("LOCAL_RANK", "0"))
    return join(device_for(None, local_rank), options.hang_timeout)


def _tell_result(first: Mapping[str, float], last: Mapping[str, float]) -> None:
    """Log the held-out losses before and after, and what they mean if they are high."""
    if first and last:
        logging.info(
            "held-out MLM loss %.2f -> %.2f (before -> after, unigram entropy %.2f)",
            first["mlm_loss"],
            last["mlm_loss"],
            last["unigram_entropy"],
        )
    if first and last and last["mlm_loss"] > first["mlm_loss"]:
        logging.warning("the held-out loss rose: too many passes over the text, or too high a learning rate")
    elif last and last["mlm_loss"] >= last["unigram_entropy"]:
        logging.warning(
            "the held-out loss ended above the unigram entropy: the model has not learned to use context "
            "yet; train longer, or on more text"
        )


def _limit(run: Run, step: int) -> str:
    """What ended a run that has minutes, for its last line."""
    if not run.ends_on_time:
        return ""
    if step == run.steps_at_most:
        return f", all of --num_epochs {run.options.num_epochs}"
    return f" (--minutes {run.options.minutes:g})"


def pretrain_together(
    options: PretrainingOptions, world: World, began: float, notes: RecipeNotes | None = None
) -> PretrainingResult:
    """`pretrain` for processes that have joined; `notes`: facts known in advance, or None."""
    work_dir = Path(options.work_dir)
    with ExitStack() as stack:
        before = RestoreOnFailure(work_dir, made=(*MADE_AT_ONCE, "tokenizer"), appended=[LOG_FILES])
        if world.rank == 0:  # for all processes
            stack.enter_context(WorkFolderLock(work_dir))
            stack.enter_context(before)
            checkpoint.remove_leftovers(work_dir / "checkpoints")
        world.barrier("rank 0 takes the work folder")
        factory = NeuralModuleFactory(
            local_rank=options.local_rank,
            optimization_level=options.amp_opt_level,
            log_dir=work_dir,
            create_tb_writer=TENSORBOARD in options.tracker,
            random_seed=options.seed,
            gradient_dtype="bfloat16" if options.compress_gradients else None,
            shard=options.shard,
        )
        stack.callback(factory.close)
        with working("opening the data, building the model"):
            run = prepare_run(options, work_dir, world)
        check_same_run(run, world)
        files = RunFilesWriter(run, factory.work_folder, before, world.size, notes or RecipeNotes())
        evaluations, has_diverged = train(run, factory, world, began, files)
        trainer = factory.get_trainer()
        seconds = time.monotonic() - began
        log = logging.warning if has_diverged else logging.info
        log(
            "%s: %d steps, %s tokens in %s%s; checkpoints are in %s",
            "ended, but the model has diverged (see above)" if has_diverged else "done",
            trainer.step,
            f"{trainer.items_seen:,}",
            duration(seconds),
            _limit(run, trainer.step),
            factory.checkpoint_dir,
        )
        first, last = (evaluations.get(step, {}) for step in (run.first_step, trainer.step))
        _tell_result(first, last)
        if world.rank == 0:
            _name_best(evaluations, Path(factory.checkpoint_dir or work_dir), trainer.step)
            if options.report:
                _report(work_dir)
    return PretrainingResult(
        work_dir, run.model, run.data.tokenizer, trainer.step, trainer.items_seen, seconds, last, first
    )


def _name_best(evaluations: Mapping[int, Mapping[str, float]], folder: Path, last_step: int) -> None:
    """Log if the best checkpoint is not the last one."""
    kept = {step: figures for step, figures in evaluations.items() if (folder / f"STEP-{step}").is_dir()}
    losses = finite_mlm_losses(kept)
    best = best_step(losses)
    if best is not None and best != last_step:
        logging.info(
            "the best checkpoint is STEP-%d, with a held-out MLM loss of %.2f; nemo-bert export uses it",
            best,
            losses[best],
        )


def _report(work_dir: Path) -> None:
    """Write the report of the run; if that fails, log a warning, because the training itself succeeded."""
    from nemo.collections.nlp.report import REPORT, write_report

    try:
        with working("writing the report"):
            page = write_report([work_dir], work_dir / REPORT)
        logging.info("report: %s", page)
    except StorageError as problem:
        logging.warning("no report was written: %s; to try again: nemo-bert report %s", problem, work_dir)

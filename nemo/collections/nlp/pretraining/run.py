"""Pretraining as one function: options in, a trained BERT in a work folder out."""

import dataclasses
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

import nemo
from nemo.backends.pytorch import join, place
from nemo.backends.pytorch.checkpoints import checkpoint
from nemo.backends.pytorch.distributed.world import World, refuse_other_world
from nemo.backends.pytorch.optim.optimizers import own_betas
from nemo.collections.nlp.callbacks import lm_bert_callback
from nemo.collections.nlp.callbacks.best_so_far import BestSoFar, Patience
from nemo.collections.nlp.callbacks.guesses import Guesses
from nemo.collections.nlp.callbacks.run_record import RunRecord, evaluations_in, newest_checkpoint
from nemo.collections.nlp.checkpoints.initial_checkpoint import (
    InitialCheckpoint,
    find_initial_checkpoint,
    settled_sizes,
    take_weights,
    with_sizes,
)
from nemo.collections.nlp.data.tokenizers import TokenizerSpec
from nemo.collections.nlp.models.hub import bert_config
from nemo.collections.nlp.nm.pretraining_model import PretrainingModel, build_model, sizes_of_model, wire
from nemo.collections.nlp.options import PretrainingOptions
from nemo.collections.nlp.pretraining.about import about
from nemo.collections.nlp.pretraining.data import PretrainingData, open_data
from nemo.collections.nlp.pretraining.duration import Around, EndOnTime, lr_policy, planned_steps
from nemo.collections.nlp.pretraining.earlier_run import (
    config_of_run,
    options_of_run,
    refuse_other_sizes,
    refuse_other_start,
)
from nemo.collections.nlp.pretraining.initialization import start_from_counts, start_head_from_frequencies
from nemo.collections.nlp.pretraining.rate_change import RateChange
from nemo.collections.nlp.pretraining.shards import open_shards, with_length_of_rows
from nemo.core import (
    ActionCallback,
    CheckpointCallback,
    EvaluatorCallback,
    NeuralModuleFactory,
)
from nemo.utils.arguments import as_config, names_deciding
from nemo.utils.errors import Preempted, StorageError, UsageError
from nemo.utils.experiment import LOG_FILES, MADE_AT_ONCE
from nemo.utils.lock import WorkFolderLock
from nemo.utils.logging import logging
from nemo.utils.progress import MOST_SILENCE, working
from nemo.utils.refusal import AsItWas
from nemo.utils.step_plan import StepPlan
from nemo.utils.stopping import Stop
from nemo.utils.stopwatch import duration


def optimization_params(options: PretrainingOptions, max_steps: int) -> dict[str, Any]:
    """The options as `nf.train` takes them."""
    beta1, beta2 = own_betas(options.optimizer)
    return {
        "lr": options.lr,
        "max_steps": max_steps,
        "betas": (
            beta1 if options.beta1 is None else options.beta1,
            beta2 if options.beta2 is None else options.beta2,
        ),
        "weight_decay": options.weight_decay,
        "grad_norm_clip": options.grad_norm_clip,
    }


BYTES_SAVED_PER_WEIGHT = 12
"""In a checkpoint: itself and two moments, float32."""


@dataclass(frozen=True)
class PretrainingResult:
    """What a run leaves behind, besides its work folder.

    Attributes:
        tokenizer: None where shards were trained on without it.
        steps, tokens: finished in all.
        seconds: of this call.
        figures: held-out figures at the end, see `lm_bert_callback.figures`; empty without held-out text.
        figures_before: the same before the run's first step; empty where they were not asked for.
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
    """Train a BERT, or go on where an earlier run in the same work folder stopped.

    Args:
        began: when the minutes of `options` did, of `time.monotonic()`; None is now.

    Raises:
        UsageError, DataError, CheckpointError: what cannot be used, and how to mend it.
    """
    began = time.monotonic() if began is None else began
    with processes_of(options) as world:
        return pretrain_together(options, world, began)


def processes_of(options: PretrainingOptions) -> World:
    """The processes that train together, as the launcher has started them; this one has its threads.

    Raises:
        UsageError: they are not as many as the options say.
    """
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    if options.num_gpus != 1 or "num_gpus" in options.given:
        refuse_other_world(options.num_gpus)
    local_rank = options.local_rank or int(os.environ.get("LOCAL_RANK", "0"))
    return join(place(None, local_rank), options.hang_timeout)


def pretrain_together(
    options: PretrainingOptions, world: World, began: float, remarks: str = ""
) -> PretrainingResult:
    """`pretrain`, by processes that have met.

    Args:
        remarks: lines that `config.yaml` begins with, as comments.
    """
    work_dir = Path(options.work_dir)
    with ExitStack() as stack:
        before = AsItWas(work_dir, made=(*MADE_AT_ONCE, "tokenizer"), appended=[LOG_FILES])
        if world.rank == 0:  # for all of them
            stack.enter_context(WorkFolderLock(work_dir))
            stack.enter_context(before)
            checkpoint.remove_leftovers(work_dir / "checkpoints")
        world.barrier("rank 0 takes the work folder")
        factory = NeuralModuleFactory(
            local_rank=options.local_rank,
            optimization_level=options.amp_opt_level,
            log_dir=work_dir,
            create_tb_writer=True,
            random_seed=options.seed,
            gradient_dtype="bfloat16" if options.compress_gradients else None,
            shard=options.shard,
        )
        stack.callback(factory.close)
        with working("opening the data, making the model"):
            run = prepare(options, work_dir, world)
        _refuse_other_run(run, world)
        evaluations, has_diverged = _train(run, factory, world, began, before, remarks)
        trainer = factory.get_trainer()
        seconds = time.monotonic() - began
        log = logging.warning if has_diverged else logging.info
        log(
            "%s: %d steps, %s tokens in %s%s; checkpoints are in %s",
            "ended, but the model has diverged (see above)" if has_diverged else "done",
            trainer.step,
            f"{trainer.items_seen:,}",
            duration(seconds),
            f" (--minutes {options.minutes:g})" if run.ends_on_time else "",
            factory.checkpoint_dir,
        )
        first, last = (evaluations.get(step, {}) for step in (run.first_step, trainer.step))
        if first and last:
            logging.info(
                "held-out MLM loss %.2f -> %.2f (before -> after, unigram entropy %.2f)",
                first["mlm_loss"],
                last["mlm_loss"],
                last["unigram_entropy"],
            )
        if world.rank == 0:
            _report(work_dir)
    return PretrainingResult(
        work_dir, run.model, run.data.tokenizer, trainer.step, trainer.items_seen, seconds, last, first
    )


def _report(work_dir: Path) -> None:
    """Write the page on the run; what is trained is trained, whatever becomes of it."""
    from nemo.collections.nlp.report import REPORT, write_report

    try:
        with working("writing the report"):
            page = write_report([work_dir], work_dir / REPORT)
        logging.info("report: %s", page)
    except StorageError as problem:
        logging.warning("no report was written: %s; to try again: nemo-bert report %s", problem, work_dir)


@dataclass(frozen=True)
class Run:
    """What is trained, on what, and where it starts.

    Attributes:
        options: with everything settled: sizes, and the end as `num_iters`, unless it `ends_on_time`.
        plan: its steps; that of a run that `ends_on_time` is settled while it goes on.
        initial: what it starts from, if not from random weights.
        resumes: it goes on in its own work folder.
    """

    options: PretrainingOptions
    data: PretrainingData
    model: PretrainingModel
    initial: InitialCheckpoint | None
    resumes: bool
    plan: StepPlan

    @property
    def ends_on_time(self) -> bool:
        """Do minutes end it?"""
        return self.options.minutes is not None and self.options.num_iters == -1

    @property
    def earlier_options(self) -> PretrainingOptions | None:
        """Those of the run that goes on, here or from another work folder; None where nobody knows."""
        if self.resumes:
            work_dir: Path | None = Path(self.options.work_dir)
        else:
            work_dir = (
                None if self.initial is None or self.initial.run is None else self.initial.run.parents[1]
            )
        return None if work_dir is None else options_of_run(work_dir)

    @property
    def first_step(self) -> int:
        """Steps that were made in another work folder."""
        return 0 if self.initial is None else self.initial.step


def prepare(options: PretrainingOptions, work_dir: Path, world: World | None = None) -> Run:
    """Settle what the options leave open, open the data, and make the model.

    Args:
        world: who prepares the same; process 0 makes what they share.

    Raises:
        UsageError, DataError, CheckpointError: what cannot be used, and how to mend it.
    """
    world = world or World()
    resumes = world.broadcast_object(lambda: bool(checkpoint.list_checkpoints(work_dir / "checkpoints")))
    if resumes and world.rank == 0:
        refuse_other_start(options, work_dir)
    initial = find_initial_checkpoint(options)
    options, config = with_sizes(options, initial)
    earlier = world.broadcast_object(lambda: config_of_run(work_dir))
    if earlier is not None:  # before any work
        refuse_other_sizes(settled_sizes(options, config), earlier, work_dir)
    if options.mode == "data_preprocessed":
        data = world.in_turn(lambda: open_shards(options, initial))
        options = with_length_of_rows(options, data)
    else:
        data = world.in_turn(lambda: open_data(options, work_dir, initial))
    first_step = 0 if initial is None else initial.step
    plan = StepPlan.parse(
        world.broadcast_object(lambda: str(planned_steps(options, data, work_dir, first_step, world.size)))
    )
    if first_step >= plan.total and not resumes:
        raise UsageError(
            "nothing is left to train",
            where=f"--load_dir {options.load_dir}",
            found=f"{first_step} steps",
            expected=f"fewer than the {plan.total} that the run has in all",
            fix="raise --num_iters or --num_epochs",
        )
    options = dataclasses.replace(options, num_epochs=None, step_plan=None)
    if options.minutes is None or options.num_iters != -1:
        options = dataclasses.replace(options, **_as_options(plan))
    torch.manual_seed(options.seed)
    if earlier is not None:
        sizes = sizes_of_model(options, data.tokenizer, config)
        # With another tokenizer it is that which the checkpoint refuses, not a size that follows from it.
        if data.tokenizer is None or sizes["vocab_size"] == earlier["vocab_size"]:
            refuse_other_sizes(sizes, earlier, work_dir)
            config = bert_config(earlier, work_dir)
    model = build_model(options, data.tokenizer, config)
    if not resumes and initial is not None and initial.run is None:
        taken = take_weights(model, initial)
        if str(model.mlm) not in taken:
            counts, special_ids = data.token_counts(model.bert.config.vocab_size)
            start_head_from_frequencies(model.bert, model.mlm, counts, special_ids)
            logging.info("the MLM head starts from the frequencies of the tokens, and the word embeddings")
    if not resumes and initial is None and options.initialization == "counts":
        assert data.tokenizer is not None  # counts are of text
        start_from_counts(model.bert, model.mlm, data.train.dataset.store, data.tokenizer.special_ids)
    return Run(options, data, model, initial, resumes, plan)


def _refuse_other_run(run: Run, world: World) -> None:
    """See that all processes train the same model on the same data.

    Raises:
        DistributedError: names the process, and what differs.
    """
    # Paths and the like may differ: the data and the tokenizer are compared themselves.
    of_machine = names_deciding(PretrainingOptions, "machine")
    options = {n: v for n, v in dataclasses.asdict(run.options).items() if n not in of_machine}
    tokenizer, evaluation = run.data.tokenizer, run.data.eval
    world.check_same(
        versions={"nemo-bert": nemo.__version__, "torch": torch.__version__},
        **options,  # before what follows from them, as the first difference is the one reported
        tokenizer=None if tokenizer is None else tokenizer.fingerprint,
        training_data=run.data.train.dataset.fingerprint,
        evaluation_data=None if evaluation is None else evaluation.dataset.fingerprint,
        config=run.model.bert.config.to_dict(),
    )


def _train(
    run: Run,
    factory: NeuralModuleFactory,
    world: World,
    began: float,
    before: AsItWas,
    remarks: str,
) -> tuple[dict[int, dict[str, float]], bool]:
    """Train with logger, evaluator and checkpoints.

    Returns:
        The held-out figures by step; and whether the loss ended far above that of a guess.
    """
    options, data, model = run.options, run.data, run.model
    experiment: Any = factory.experiment  # there is one, as log_dir was given
    checkpoint_dir = Path(experiment.checkpoint_dir)
    losses = wire(model, data.train)
    logging.info("%s weights, a vocabulary of %d", f"{model.num_weights:,}", model.bert.config.vocab_size)
    entropy = data.train.dataset.store.manifest["unigram_entropy"] if options.mode == "data_text" else None
    vocab_size = model.bert.config.vocab_size
    record = RunRecord(experiment, losses.by_name(), options.train_step_freq, entropy, vocab_size)
    configuration = _Beginning(options, run.plan, data, model, experiment, before, world.size, remarks)
    callbacks: list[ActionCallback] = [configuration, record]
    if run.earlier_options is not None:
        callbacks.append(RateChange(run.earlier_options, options, run.plan))
    if data.tokenizer is not None:
        callbacks.append(Guesses(experiment, model, data.tokenizer, data.eval or data.train))
    samples_per_step = options.batch_size * options.batches_per_step * factory.world_size
    evaluator = None
    best: BestSoFar | None = None
    end_on_time: EndOnTime | None = None

    def evaluated_batch(batch: Any, state: dict[str, Any]) -> None:
        lm_bert_callback.eval_iter_callback(batch, state)
        if end_on_time is not None:
            end_on_time.evaluated_batch()

    def evaluated(state: dict[str, Any]) -> dict[str, float]:
        figures = lm_bert_callback.figures(state)
        if best is not None:
            best.evaluated(record.step, figures)
        return record.evaluated(figures)

    if data.eval is not None:
        evaluator = EvaluatorCallback(
            [wire(model, data.eval).total],
            evaluated_batch,
            evaluated,
            # At the end it evaluates anyway.
            eval_step=sys.maxsize if options.eval_step_freq == -1 else options.eval_step_freq,
            eval_at_start=False,
        )
        callbacks.append(evaluator)
        # What was learned before is of interest in any case.
        if not run.resumes and (run.initial is not None or options.eval_step_freq != -1):
            callbacks.append(_EvaluateFirst(evaluator))
    checkpoints = CheckpointCallback(
        checkpoint_dir,
        load_from_folder=None if run.initial is None else run.initial.run,
        step_freq=options.save_step_freq,
        epoch_freq=options.save_epoch_freq,
        checkpoints_to_keep=options.checkpoints_to_keep,
        extra_files=checkpoint_files(model, data.tokenizer),
        # Single options as well, so that a refusal names the one that differs.
        identity={
            "tokenizer": "none" if data.tokenizer is None else data.tokenizer.fingerprint,
            **{name: getattr(options, name) for name in names_deciding(PretrainingOptions, "model")},
            # Sizes show in the tensors; these do not.
            "num_attention_heads": model.bert.config.num_attention_heads,
            "hidden_act": model.bert.config.hidden_act,
        },
        stream={
            **{name: getattr(options, name) for name in names_deciding(PretrainingOptions, "samples")},
            # However they are shared out to batches and processes.
            "samples_per_step": samples_per_step if options.tokens_per_batch is None else None,
            "text" if options.mode == "data_text" else "shards": data.train.dataset.fingerprint,
        },
    )
    if evaluator is not None and (options.keep_best or options.patience is not None):
        best = BestSoFar(experiment.metrics_path, checkpoints if options.keep_best else None, world)
        callbacks.append(best)
    callbacks.append(checkpoints)
    policy = partial(lr_policy, options)
    if run.ends_on_time:
        assert options.minutes is not None
        around = Around(
            evaluator,
            checkpoints,
            eval_batches=0 if data.eval is None else data.eval.num_batches(0),
            batches_per_step=options.batches_per_step,
            checkpoint_bytes=BYTES_SAVED_PER_WEIGHT * model.num_weights,
        )
        end_on_time = EndOnTime(
            options.minutes, began, run.plan, run.first_step, around, policy, configuration.write, world
        )
        callbacks.append(end_on_time)
    if best is not None and options.patience is not None:
        callbacks.append(Patience(best, options.patience, world))
    try:
        with working("training", render=record.view.render, silence=MOST_SILENCE):
            factory.train(
                [losses.total],
                optimizer=options.optimizer,
                optimization_params=optimization_params(options, run.plan.total),
                callbacks=callbacks,
                lr_policy=policy(run.plan),
                batches_per_step=options.batches_per_step,
                when_not_finite=options.when_not_finite,
            )
    except BaseException as problem:  # Ctrl-C too: status.json always tells the truth
        if before.has_begun:
            experiment.write_status(
                state="preempted" if isinstance(problem, Preempted | Stop) else "stopped",
                code=getattr(problem, "kind", type(problem).__name__),
                problem=str(problem) or type(problem).__name__,
                checkpoint=newest_checkpoint(experiment),
            )
        raise
    experiment.write_status(state="finished", checkpoint=newest_checkpoint(experiment))
    return evaluations_in(experiment.metrics_path), record.has_diverged


class _EvaluateFirst(ActionCallback):
    """Evaluates what a run starts with."""

    def __init__(self, evaluator: EvaluatorCallback):
        self.evaluator = evaluator

    def on_action_start(self) -> None:
        self.evaluator.evaluate()


class _Beginning(ActionCallback):
    """Writes down what is run; only once it is clear that the work folder is not another run's."""

    def __init__(
        self,
        options: PretrainingOptions,
        plan: StepPlan,
        data: PretrainingData,
        model: PretrainingModel,
        experiment: Any,
        before: AsItWas,
        num_processes: int,
        remarks: str,
    ):
        self.options, self.plan, self.data, self.model = options, plan, data, model
        self.experiment, self.before, self.num_processes = experiment, before, num_processes
        self.remarks = remarks

    def on_action_start(self) -> None:
        self.before.begins()
        if self.global_rank != 0:
            return
        self.write(self.plan)
        self.model.bert.config.to_json_file(self.experiment.checkpoint_dir / "bert-config.json")
        with working("looking at the text"):
            facts = about(self.options, self.data, self.model, self.num_processes)
        self.experiment.write_json("about.json", facts)

    def write(self, plan: StepPlan) -> None:
        """Write the options down, with the steps as they are planned now."""
        is_known = plan.is_settled or self.options.num_iters != -1
        steps = _as_options(plan) if is_known else {}
        config = as_config(dataclasses.replace(self.options, **steps))
        self.experiment.write_config(config, self.remarks)


def _as_options(plan: StepPlan) -> dict[str, Any]:
    return {"num_iters": plan.total, "step_plan": str(plan) if plan.is_settled else None}


def checkpoint_files(model: PretrainingModel, tokenizer: TokenizerSpec | None) -> dict[str, bytes]:
    """What a checkpoint carries along, so that it can be used by itself: configuration and vocabulary."""
    with tempfile.TemporaryDirectory() as folder:
        if tokenizer is not None:
            tokenizer.save(Path(folder))
        files = {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}
    return {"bert-config.json": model.bert.config.to_json_string().encode(), **files}

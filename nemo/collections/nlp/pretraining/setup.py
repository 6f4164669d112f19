"""From options to everything a run needs: sizes, data, model and steps."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import nemo
from nemo.backends.pytorch.checkpoints import checkpoint
from nemo.backends.pytorch.distributed.world import World
from nemo.collections.nlp.checkpoints.initial_checkpoint import (
    InitialCheckpoint,
    find_initial_checkpoint,
    settled_sizes,
    take_weights,
    with_sizes,
)
from nemo.collections.nlp.models.bert_settings import BertSettings
from nemo.collections.nlp.nm.pretraining_model import PretrainingModel, build_model, sizes_of_model
from nemo.collections.nlp.options import PretrainingOptions
from nemo.collections.nlp.pretraining.duration import planned_steps, steps_at_most
from nemo.collections.nlp.pretraining.earlier_run import (
    options_of_run,
    refuse_other_sizes,
    refuse_other_start,
    settings_of_run,
)
from nemo.collections.nlp.pretraining.initialization import start_from_counts, start_head_from_frequencies
from nemo.collections.nlp.pretraining.shards import open_shards, with_length_of_rows
from nemo.collections.nlp.pretraining.text_data import PretrainingData, open_data
from nemo.utils.arguments import names_deciding
from nemo.utils.errors import UsageError
from nemo.utils.logging import logging
from nemo.utils.step_plan import StepPlan


@dataclass(frozen=True)
class Run:
    """A run that is ready to train.

    Attributes:
        options: the options with all choices made: sizes, and the end as `num_iters` unless it
            `ends_on_time`.
        plan: its steps; for a run that `ends_on_time` it changes during the run.
        steps_at_most: step limit of a run that `ends_on_time`; None: it uses all its time.
        initial: the initial checkpoint; None for random weights.
        resumes: whether it resumes in its own work folder.
    """

    options: PretrainingOptions
    data: PretrainingData
    model: PretrainingModel
    initial: InitialCheckpoint | None
    resumes: bool
    plan: StepPlan
    steps_at_most: int | None

    @property
    def ends_on_time(self) -> bool:
        """Whether the run ends after a given time."""
        return self.options.minutes is not None and self.options.num_iters == -1

    @property
    def earlier_options(self) -> PretrainingOptions | None:
        """The options of the run being continued, here or from another work folder; None if unknown."""
        if self.resumes:
            work_dir: Path | None = Path(self.options.work_dir)
        else:
            work_dir = (
                None if self.initial is None or self.initial.run is None else self.initial.run.parents[1]
            )
        return None if work_dir is None else options_of_run(work_dir)

    @property
    def first_step(self) -> int:
        """Steps made in another work folder."""
        return _first_step(self.initial)


def prepare_run(options: PretrainingOptions, work_dir: Path, world: World | None = None) -> Run:
    """Make the choices that the options leave open, open the data, and build the model.

    Args:
        world: the processes that prepare the same run; rank 0 makes what they share.

    Raises:
        UsageError, DataError, CheckpointError: something that cannot be used, with the fix.
    """
    world = world or World()
    resumes, initial = _what_exists(options, work_dir, world)
    sized, settings = with_sizes(options, initial)
    earlier = _earlier_settings(work_dir, world)
    if earlier is not None:  # before any work
        refuse_other_sizes(settled_sizes(sized, settings), earlier, work_dir)
    sized, data = _open(sized, work_dir, initial, world)
    _refuse_without_held_out(options, data)
    plan, at_most = _steps(sized, data, work_dir, initial, world)
    if not resumes:
        refuse_if_over(sized, _first_step(initial), plan.total)
    settled = _with_end(sized, plan)
    if earlier is not None:
        settings = _settings_to_resume(settled, data, settings, earlier, work_dir)
    torch.manual_seed(settled.seed)
    model = build_model(settled, data.tokenizer, settings)
    if not resumes:
        _start_weights(model, settled, data, initial)
    return Run(settled, data, model, initial, resumes, plan, at_most)


def _refuse_without_held_out(options: PretrainingOptions, data: PretrainingData) -> None:
    """Refuse options that compare held-out losses if there is no held-out data."""
    if data.eval is not None:
        return
    if options.patience is not None or (options.keep_best and "keep_best" in options.given):
        name = "patience" if options.patience is not None else "keep_best"
        raise UsageError("there is no held-out data", where=f"--{name}", fix="give it: --eval_data")


def _what_exists(
    options: PretrainingOptions, work_dir: Path, world: World
) -> tuple[bool, InitialCheckpoint | None]:
    """Whether the run resumes in its own work folder, and the initial checkpoint, if there is one."""
    resumes = world.broadcast_object(lambda: bool(checkpoint.list_checkpoints(work_dir / "checkpoints")))
    if resumes and world.rank == 0:
        refuse_other_start(options, work_dir)
    return resumes, find_initial_checkpoint(options)


def _earlier_settings(work_dir: Path, world: World) -> BertSettings | None:
    """The settings of the model that the work folder has checkpoints of."""
    found = world.broadcast_object(lambda: settings_of_run(work_dir))
    return None if found is None else BertSettings.parse(found, work_dir)


def _open(
    options: PretrainingOptions, work_dir: Path, initial: InitialCheckpoint | None, world: World
) -> tuple[PretrainingOptions, PretrainingData]:
    """The data, and the options with the length of its rows, which shards fix."""
    if options.mode == "data_preprocessed":
        data = world.in_turn(lambda: open_shards(options, initial))
        return with_length_of_rows(options, data), data
    return options, world.in_turn(lambda: open_data(options, work_dir, initial))


def _steps(
    options: PretrainingOptions,
    data: PretrainingData,
    work_dir: Path,
    initial: InitialCheckpoint | None,
    world: World,
) -> tuple[StepPlan, int | None]:
    """The steps as rank 0 plans them, and after how many a run that ends on time ends early."""
    at_most = world.broadcast_object(lambda: steps_at_most(options, data, world.size))

    def plan() -> str:  # what is broadcast must be JSON
        return str(planned_steps(options, data, work_dir, _first_step(initial), world.size, at_most))

    return StepPlan.parse(world.broadcast_object(plan)), at_most


def _first_step(initial: InitialCheckpoint | None) -> int:
    """Steps made in another work folder."""
    return 0 if initial is None else initial.step


def _with_end(options: PretrainingOptions, plan: StepPlan) -> PretrainingOptions:
    """The options with the end as a number of steps, unless the run ends on time."""
    if options.minutes is None or options.num_iters != -1:
        return dataclasses.replace(options, **as_options(plan))
    return dataclasses.replace(options, step_plan=None)


def _settings_to_resume(
    options: PretrainingOptions,
    data: PretrainingData,
    settings: BertSettings | None,
    earlier: BertSettings,
    work_dir: Path,
) -> BertSettings | None:
    """The settings of the run to resume, once the data has settled the last sizes."""
    sizes = sizes_of_model(options, data.tokenizer, settings)
    # With another tokenizer, the checkpoint must refuse the tokenizer, not a size that follows from it.
    if data.tokenizer is not None and sizes["vocab_size"] != earlier.vocab_size:
        return settings
    refuse_other_sizes(sizes, earlier, work_dir)
    return earlier


def _start_weights(
    model: PretrainingModel,
    options: PretrainingOptions,
    data: PretrainingData,
    initial: InitialCheckpoint | None,
) -> None:
    """Load or compute the initial weights of a new model, unless they are random or those of a run."""
    if initial is not None and initial.run is None:
        taken = take_weights(model, initial)
        if str(model.mlm) not in taken:
            counts, special_ids = data.token_counts(model.bert.settings.vocab_size)
            start_head_from_frequencies(model.bert, model.mlm, counts, special_ids)
            logging.info("the MLM head starts from token frequencies and the word embeddings")
    if initial is None and options.initialization == "counts":
        assert data.tokenizer is not None  # text always has one
        start_from_counts(model.bert, model.mlm, data.train.dataset.store, data.tokenizer.special_ids)


def refuse_if_over(options: PretrainingOptions, first_step: int, total: int) -> None:
    """Raises a UsageError if the initial checkpoint has already reached the last step."""
    if first_step >= total:
        raise UsageError(
            "nothing left to train",
            where=f"--load_dir {options.load_dir}",
            found=f"{first_step} steps",
            expected=f"fewer than the {total} of the whole run",
            fix="raise --num_iters or --num_epochs",
        )


def check_same_run(run: Run, world: World) -> None:
    """Check that all processes train the same model on the same data.

    Raises:
        DistributedError: they do not; names the process and what differs.
    """
    # Paths may differ between machines: data and tokenizer are compared by content.
    of_machine = names_deciding(PretrainingOptions, "machine")
    options = {n: v for n, v in dataclasses.asdict(run.options).items() if n not in of_machine}
    tokenizer, evaluation = run.data.tokenizer, run.data.eval
    world.check_same(
        versions={"nemo-bert": nemo.__version__, "torch": torch.__version__},
        **options,  # before what follows from them, because the first difference is reported
        tokenizer=None if tokenizer is None else tokenizer.fingerprint,
        training_data=run.data.train.dataset.fingerprint,
        evaluation_data=None if evaluation is None else evaluation.dataset.fingerprint,
        config=run.model.bert.settings.to_dict(),
    )


def with_steps(options: PretrainingOptions, plan: StepPlan) -> PretrainingOptions:
    """The options with the steps of the plan, unless it was made before anything was measured."""
    is_known = plan.is_settled or options.num_iters != -1
    return dataclasses.replace(options, **as_options(plan)) if is_known else options


def as_options(plan: StepPlan) -> dict[str, Any]:
    """The end of a run as options: a number of steps, whatever it came from."""
    settled = str(plan) if plan.is_settled else None
    return {"num_iters": plan.total, "num_epochs": None, "step_plan": settled}

"""Runs a few real steps of a run, in a separate process so that its memory use is the run's."""

import dataclasses
import itertools
import resource
import time
from pathlib import Path
from typing import Any

import torch

from nemo.collections.nlp.callbacks.predictions import Predictions
from nemo.collections.nlp.nm.pretraining_model import wire
from nemo.collections.nlp.options import PretrainingOptions
from nemo.collections.nlp.options.mask_rate import mask_rates
from nemo.collections.nlp.pretraining.about import about
from nemo.collections.nlp.pretraining.duration import TIMED_EVAL_BATCHES, lr_policy
from nemo.collections.nlp.pretraining.run_files_writer import checkpoint_files
from nemo.collections.nlp.pretraining.setup import Run, prepare_run
from nemo.collections.nlp.pretraining.training import optimization_params
from nemo.collections.nlp.report import REPORT, write_report
from nemo.core import ActionCallback, NeuralModuleFactory
from nemo.utils.arguments import as_config
from nemo.utils.step_plan import StepPlan
from nemo.utils.work_folder import WorkFolder

LEAST_STEPS, MOST_STEPS = 6, 200
"""Least and largest number of steps of a trial."""
FIRST_STEPS = 2
"""First steps that are not timed, because they also set up what later steps reuse."""
MOST_SECONDS = 40.0
"""Maximum seconds of a trial; once they have passed, one step after the first ones is enough."""
LATER_BYTES = 40_000_000
"""Memory that a run's process needs later than a trial shows, for rare shapes."""
LINES_OF_REPORT = 50
SAVED = "saved"
GOLDEN_RATIO = 0.618034  # its multiples modulo 1 are evenly spread


@dataclasses.dataclass(frozen=True)
class Trial:
    """What a trial measured.

    Attributes:
        weights: number of weights, heads included.
        vocabulary: number of entries.
        start_seconds: from the start of the process to the first step, without the first evaluation.
        step_seconds: duration of a step.
        step_tokens: real tokens in a step.
        padding_share: share of the positions in its batches.
        steps_per_epoch: steps in a pass over the text.
        evaluation_seconds: duration of an evaluation; 0 without held-out text.
        save_seconds: duration of saving a checkpoint, until it is on disk.
        report_seconds: duration of writing the report; 0 without one.
        checkpoint_bytes: size of a checkpoint on disk.
        peak_bytes: peak memory of the GPU or the process.
        unigram_entropy: of the training text, in nats; None for shards.
    """

    weights: int
    vocabulary: int
    start_seconds: float
    step_seconds: float
    step_tokens: float
    padding_share: float
    steps_per_epoch: int
    evaluation_seconds: float
    save_seconds: float
    report_seconds: float
    checkpoint_bytes: int
    peak_bytes: int
    unigram_entropy: float | None


class _TimedTrial(ActionCallback):
    """Times steps, a few evaluation batches and a checkpoint, then ends the training."""

    def __init__(self, run: Run, options: PretrainingOptions, work_folder: WorkFolder, seconds: float):
        self._run, self._options, self.work_folder, self._seconds = run, options, work_folder, seconds
        self.is_over = False
        self.marks: list[tuple[float, int]] = []
        self.evaluation_seconds = self.save_seconds = 0.0

    def on_action_start(self) -> None:
        facts = about(self._options, self._run.data, self._run.model, 1)  # as a run does; it takes time
        self.work_folder.write_json("about.json", facts)
        self.began = time.monotonic()
        held_out = self._run.data.eval
        if held_out is not None:
            batches = iter(self.action.evaluate([wire(self._run.model, held_out).total]))
            next(batches)  # the first one is slow
            then = time.monotonic()
            number = sum(1 for _ in itertools.islice(batches, 2 * TIMED_EVAL_BATCHES)) or 1
            each = (time.monotonic() - then) / number
            self.evaluation_seconds = each * held_out.num_batches(0)
        self.marks.append((time.monotonic(), self.action.items_seen))

    def on_iteration_end(self) -> None:
        if self.is_over:
            return
        self.marks.append((time.monotonic(), self.action.items_seen))
        taken = self.marks[-1][0] - self.marks[0][0]
        is_enough = self.step >= LEAST_STEPS and taken >= self._seconds
        is_slow = self.step > FIRST_STEPS and taken >= MOST_SECONDS
        if is_enough or is_slow or self.step >= MOST_STEPS:
            self._save(wait=False)  # one more step while it is being written: peak memory
            self.is_over = True
            self.action.plan = dataclasses.replace(self.action.plan, max_steps=self.step + 1)

    def on_action_end(self) -> None:
        self.action.is_saved()
        then = time.monotonic()
        self._save(wait=True)
        self.save_seconds = time.monotonic() - then

    def _save(self, wait: bool) -> None:
        files = checkpoint_files(self._run.model, self._run.data.tokenizer)
        self.action.save(self.work_folder.work_dir / SAVED / str(wait), 1, files, {}, wait)


def try_steps(options: PretrainingOptions, began: float, seconds: float) -> Trial:
    """Run the first steps of a run.

    Args:
        options: `work_dir` is a temporary folder.
        began: start of the process, as `time.monotonic()`.
        seconds: approximate time for steps.

    Raises:
        UsageError, DataError, MemoryShortageError: as the run would.
    """
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    options = dataclasses.replace(
        options, num_iters=MOST_STEPS + 1, num_epochs=None, minutes=None, step_plan=None
    )
    factory = NeuralModuleFactory(
        optimization_level=options.amp_opt_level,
        log_dir=options.work_dir,
        create_tb_writer=True,
        random_seed=options.seed,
    )
    run = prepare_run(options, Path(options.work_dir))
    if not options.draws_no_masks:
        first, last = mask_rates(options.mask_probability)
        # The run's mean rate, and as many different numbers of masked tokens, because memory grows with them.
        run.data.train.mask_schedule = lambda batches: first + (last - first) * (batches * GOLDEN_RATIO % 1)
    work_folder: Any = factory.work_folder  # not None, because log_dir was given
    watch = _TimedTrial(run, options, work_folder, seconds)
    _train(factory, run, options, watch)
    report_seconds = _seconds_of_report(work_folder, options) if options.report else 0.0
    factory.close()
    return _measured(watch, run, options, began, report_seconds)


def _train(factory: NeuralModuleFactory, run: Run, options: PretrainingOptions, watch: _TimedTrial) -> None:
    """Train as a run does, predictions included, until `watch` ends it."""
    callbacks: list[ActionCallback] = [watch]
    if run.data.tokenizer is not None:
        callbacks.insert(
            0, Predictions(watch.work_folder, run.model, run.data.tokenizer, run.data.eval or run.data.train)
        )
    factory.train(
        [wire(run.model, run.data.train, options.nsp_weight).total],
        optimizer=options.optimizer,
        optimization_params=optimization_params(options, MOST_STEPS + 1),
        callbacks=callbacks,
        lr_policy=lr_policy(options, StepPlan.of(MOST_STEPS + 1)),
        batches_per_step=options.batches_per_step,
    )


def _measured(
    watch: _TimedTrial, run: Run, options: PretrainingOptions, began: float, report_seconds: float
) -> Trial:
    first = min(FIRST_STEPS, len(watch.marks) - 2)
    (then, before), (now, after) = watch.marks[first], watch.marks[-1]
    steps = len(watch.marks) - 1 - first
    tokens = (after - before) / steps
    train = run.data.train
    saved = Path(options.work_dir, SAVED, "True").rglob("*")
    manifest: dict[str, Any] = getattr(getattr(train.dataset, "store", None), "manifest", {})
    return Trial(
        weights=run.model.num_weights,
        vocabulary=run.model.bert.settings.vocab_size,
        start_seconds=watch.began - began,
        step_seconds=(now - then) / steps,
        step_tokens=tokens,
        padding_share=_padding_share(run),
        steps_per_epoch=-(-train.num_batches(0) // options.batches_per_step),
        evaluation_seconds=watch.evaluation_seconds,
        save_seconds=watch.save_seconds,
        report_seconds=report_seconds,
        checkpoint_bytes=sum(file.stat().st_size for file in saved if file.is_file()),
        peak_bytes=_peak_bytes(),
        unigram_entropy=manifest.get("unigram_entropy"),
    )


def _seconds_of_report(work_folder: WorkFolder, options: PretrainingOptions) -> float:
    """Write a report like the run's, because that takes memory, too."""
    began = time.monotonic()
    work_folder.write_config(as_config(options))
    for step in range(LINES_OF_REPORT):
        work_folder.append_metrics(
            {"step": step, "loss": 1.0, "mlm_loss": 1.0, "lr": 1.0, "tokens_per_s": 1.0}
        )
    write_report([work_folder.work_dir], work_folder.work_dir / REPORT)
    return time.monotonic() - began


def _padding_share(run: Run) -> float:
    """The share of padding in the first batches."""
    train = run.data.train
    positions = tokens = 0
    for batch in itertools.islice(train.batches(0), 20):
        mask = batch[list(train.output_ports).index("input_mask")]
        positions += mask.numel()
        tokens += int(mask.sum())
    return 1 - tokens / max(1, positions)


def _peak_bytes() -> int:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_reserved()
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss + LATER_BYTES

"""The number of steps in a run: given by its options, or as many as fit into `--minutes`.

With `--minutes`, the number is not known in advance: after two steps at the beginning of the warm-up it is
planned from their duration, and planned again when the duration changes. All plans are kept, also in
`config.yaml`, because the learning rates of a run follow from them.
"""

import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nemo.backends.pytorch import DataLayerNM
from nemo.backends.pytorch.checkpoints import checkpoint
from nemo.backends.pytorch.distributed.world import World
from nemo.collections.nlp.options import PretrainingOptions
from nemo.collections.nlp.options.pretraining import SCHEDULE_PARAMETERS
from nemo.collections.nlp.pretraining.earlier_run import earlier_options
from nemo.collections.nlp.pretraining.text_data import PretrainingData
from nemo.core import ActionCallback, CheckpointCallback, EvaluatorCallback
from nemo.core.plan import LrPolicy
from nemo.utils.errors import UsageError
from nemo.utils.logging import logging
from nemo.utils.lr_policies import get_lr_policy
from nemo.utils.step_plan import StepPlan
from nemo.utils.stopwatch import duration

STEPS_PER_SECOND_AT_MOST = 1000
"""More than any model needs: the first plan should be too long rather than too short."""
COUNTED_EPOCHS = 50
"""With `--minutes`, the batches of this many epochs are counted; further ones are assumed to have as many."""
LOGGED_CHANGE = 0.2
"""Share of the planned steps; a larger change is logged."""
TOLERANCE = 0.03
"""Share of the time; a plan that misses the end by less is kept."""
LATE = 0.1
"""Share of the time; a run that ends later by more logs a warning."""
TIME_BETWEEN_PLANS = 0.05
"""The steps are planned again at the latest after this share of the run's time."""
LEAST_TRAINING = 0.5
"""Training gets at least this share of the run's time, however long startup and the end take."""
TIMED_EVAL_BATCHES = 4
"""The duration of the first evaluation is estimated after this many of its batches."""
FORWARD_SHARE = 0.4
"""Until an evaluation was timed, its batch is assumed to take this share of the time of a training batch."""
SAVED_BYTES_PER_SECOND = 200e6
"""Until a checkpoint was timed, it is assumed to be written at this rate."""


def steps_per_epoch(data_layer: DataLayerNM, batches_per_step: int, epoch: int = 0) -> int:
    """Steps in a pass over the data, including a last short one."""
    return math.ceil(data_layer.num_batches(epoch) / batches_per_step)


def steps_in_epochs(data: PretrainingData, batches_per_step: int, epochs: int) -> int:
    """Steps in the first epochs; with tokens_per_batch, epochs differ in length."""
    if data.train.tokens_per_batch is None:
        return epochs * steps_per_epoch(data.train, batches_per_step)
    logging.info("counting the batches of %d epochs", epochs)
    # The first epoch last, because its pairs are used next.
    return sum(steps_per_epoch(data.train, batches_per_step, epoch) for epoch in reversed(range(epochs)))


def steps_at_most(options: PretrainingOptions, data: PretrainingData, num_processes: int = 1) -> int | None:
    """The steps in the epochs of a run that also has minutes; None if its epochs do not limit it."""
    if options.minutes is None or options.num_iters != -1 or options.num_epochs is None:
        return None
    counted = min(options.num_epochs, COUNTED_EPOCHS)
    steps = steps_in_epochs(data, options.batches_per_step * num_processes, counted)
    return math.ceil(steps * options.num_epochs / counted)


def planned_steps(
    options: PretrainingOptions,
    data: PretrainingData,
    work_dir: str | Path,
    first_step: int = 0,
    num_processes: int = 1,
    at_most: int | None = None,
) -> StepPlan:
    """The number of steps in the whole run, as far as known before it begins.

    Args:
        first_step: steps made in another work folder; `minutes` are added to them.
        num_processes: number of processes that train together.
        at_most: see `steps_at_most`.

    Raises:
        UsageError: the run in `work_dir` was planned for a different duration.
    """
    if options.steps is not None:
        plan = None if options.step_plan is None else StepPlan.parse(options.step_plan)
        return plan if plan and plan.total == options.steps else StepPlan.of(options.steps)
    if options.epochs is not None:
        return StepPlan.of(steps_in_epochs(data, options.batches_per_step * num_processes, options.epochs))
    if checkpoint.list_checkpoints(Path(work_dir, "checkpoints")):
        earlier = earlier_options(Path(work_dir), "how many steps were planned", "give --num_iters")
        if earlier["minutes"] != options.minutes:
            raise UsageError(
                "the run in this folder was planned for a different duration",
                where=work_dir,
                found=f"--minutes {options.minutes:g}",
                expected=f"--num_iters {earlier['num_iters']}, or --minutes {earlier['minutes']}",
                fix="use another folder for a new run",
            )
        if earlier.get("step_plan"):
            return StepPlan.parse(earlier["step_plan"])
        if earlier["num_iters"] != -1:
            return StepPlan.of(earlier["num_iters"])
    minutes = options.minutes or 0.0  # given, because neither steps nor epochs are
    in_time = first_step + 1 + math.ceil(minutes * 60 * STEPS_PER_SECOND_AT_MOST)
    return StepPlan.of(in_time if at_most is None else min(in_time, at_most))


def lr_policy(options: PretrainingOptions, plan: StepPlan) -> LrPolicy | None:
    """The learning-rate schedule of the options, which at every step follows the current plan.

    Raises:
        UsageError: its parameters are invalid.
    """
    name = options.lr_policy
    if name is None:
        return None
    numbers = {argument: getattr(options, option) for option, argument in SCHEDULE_PARAMETERS.items()}
    given = {argument: value for argument, value in numbers.items() if value is not None}
    policies = {
        total: get_lr_policy(name, total_steps=total, warmup_ratio=options.lr_warmup_proportion, **given)
        for _, total in plan.changes
    }
    return lambda lr, step, epoch: policies[plan.at(step)](lr, step, epoch)


@dataclass(frozen=True)
class Overhead:
    """Everything besides steps that takes time.

    Attributes:
        evaluator, checkpoints: the callbacks that do it and time it; no evaluator without held-out data.
        eval_batches: number of batches in an evaluation.
        batches_per_step: number of micro-batches in a training step.
        checkpoint_bytes: size of a checkpoint.
    """

    evaluator: EvaluatorCallback | None
    checkpoints: CheckpointCallback
    eval_batches: int
    batches_per_step: int
    checkpoint_bytes: int

    @property
    def seconds(self) -> float:
        """Seconds spent so far."""
        evaluating = 0.0 if self.evaluator is None else self.evaluator.time_spent.seconds
        return evaluating + self.checkpoints.time_spent.seconds

    def seconds_per_step(self, seconds_per_step: float, steps: int) -> float:
        """Seconds of evaluating and saving per step, after `steps` steps."""
        evaluating = 0.0
        if self.evaluator is not None and self.evaluator.eval_step is not None:
            evaluating = self._evaluation(seconds_per_step) / self.evaluator.eval_step
        return evaluating + self.checkpoints.time_spent.seconds / max(1, steps)

    def seconds_at_end(self, seconds_per_step: float) -> float:
        """Seconds for the last evaluation, and for writing the last checkpoint."""
        written = self.checkpoint_bytes / SAVED_BYTES_PER_SECOND
        return self._evaluation(seconds_per_step) + max(self.checkpoints.time_spent.mean or 0.0, written)

    def _evaluation(self, seconds_per_step: float) -> float:
        if self.evaluator is None:
            return 0.0
        timed = self.evaluator.time_spent.mean
        if timed is not None:
            return timed
        return FORWARD_SHARE * seconds_per_step / self.batches_per_step * self.eval_batches


class EndOnTime(ActionCallback):
    """Plans the steps of a run so that it ends `minutes` after it began, including evaluations and saves.

    It ends earlier if it has made `most_steps`.

    Put it last among the callbacks. Training gets at least half of the time, however long the rest takes. A
    run that resumes in its own folder gets the share of the time that corresponds to its remaining steps.
    Rank 0 decides for all.

    Args:
        minutes: duration of the whole run.
        began: when it began, by `time.monotonic()`.
        step_plan: the current plan of the steps.
        first_step: steps made in another work folder.
        most_steps: maximum number of steps; None: as many as fit into the time.
        overhead: everything else that takes time.
        policy: gives the learning rates of a plan.
        write_down: saves a plan.
        world: the processes that train together.
    """

    def __init__(
        self,
        minutes: float,
        began: float,
        step_plan: StepPlan,
        first_step: int,
        most_steps: int | None,
        overhead: Overhead,
        policy: Callable[[StepPlan], LrPolicy | None],
        write_down: Callable[[StepPlan], None],
        world: World,
    ):
        self.step_plan = step_plan
        self.seconds = 60 * minutes
        self._began = began
        self._first_step = first_step
        self._most_steps = math.inf if most_steps is None else most_steps
        self._overhead = overhead
        self._policy = policy
        self._write_down = write_down
        self._world = world
        self._start: float | None = None
        self._evaluated, self._first_evaluated = 0, 0.0
        self._said_late = False

    def evaluated_batch(self) -> None:
        """After an evaluation batch: shows before the first step whether evaluations take too long."""
        if self._start is not None:
            return
        now = time.monotonic()
        if self._evaluated == 0:
            self._first_evaluated = now
        self._evaluated += 1
        if self._evaluated >= TIMED_EVAL_BATCHES:
            each = (now - self._first_evaluated) / (self._evaluated - 1)
            evaluation = each * self._overhead.eval_batches
            self._warn_if_late(self._first_evaluated - self._began + evaluation, evaluation)

    def on_action_start(self) -> None:
        self._start = self._time = time.monotonic()
        total, done = self.step_plan.total - self._first_step, self.step - self._first_step
        if done > 0:
            self._began = self._start
            if self.step_plan.is_settled:
                self.seconds *= max(0, total - done) / total
        self._overhead_before = self._overhead.seconds
        self._made, self._next = 0, 1
        self._marks: list[tuple[int, float]] = []
        self._warn_if_late(self._start - self._began, self._overhead.seconds_at_end(0.0))

    def on_iteration_end(self) -> None:
        self._made += 1
        if self._made < self._next:
            return
        total, self._next = self._world.broadcast_object(self._decide)
        if total != self.step_plan.total or (self._made > 1 and not self.step_plan.is_settled):
            self.step_plan = self.step_plan.changed(self.step, total)
            self.action.plan = dataclasses.replace(
                self.action.plan, max_steps=total, lr_policy=self._policy(self.step_plan)
            )
            self._write_down(self.step_plan)

    def _decide(self) -> tuple[int, int]:
        """The total steps of the run, and after how many steps of this process to decide again."""
        assert self._start is not None
        self._time = time.monotonic()
        training = self._time - self._start - (self._overhead.seconds - self._overhead_before)
        self._marks.append((self._made, training))
        start = self._start - self._began
        if self._made == 1:  # the first step sets up much that is reused, so its duration means nothing
            takes = self._seconds(start, self._overhead.seconds_at_end(0.0))
            return self.step if self._time >= self._began + takes else self.step_plan.total, 2
        pace = self._pace()
        each = pace + self._overhead.seconds_per_step(pace, self._made)
        at_end = self._overhead.seconds_at_end(pace)
        self._warn_if_late(start, at_end)
        takes = self._seconds(start, at_end)
        total = self._steps_in_all(self._began + takes - at_end - self._time, each)
        if total != self.step_plan.total or not self.step_plan.is_settled:
            if total == self._most_steps:
                takes = self._time - self._began + (total - self.step) * each + at_end
            self._log_plan(total, takes, pace, each)
        next_in = min(self._made, int(TIME_BETWEEN_PLANS * self.seconds / each), total - self.step)
        return total, self._made + max(1, next_in)

    def _steps_in_all(self, left: float, each: float) -> int:
        """The total steps if `left` seconds remain and a step, with its overhead, takes `each`."""
        planned = self.step_plan.total
        # A step that was planned, made and lost before a resume.
        if self.step <= self.step_plan.changes[-1][0]:
            return planned
        if abs((planned - self.step) * each - left) <= TOLERANCE * self.seconds:
            return planned
        # One more step if there is no time for any, so that the record has a row for the last step.
        in_time = max(self.step + round(left / each), min(self.step + 1, planned))
        return max(self.step, int(min(in_time, self._most_steps)))

    def _pace(self) -> float:
        """Seconds per step, over the second half of the steps made: the first ones are slow."""
        made, training = self._marks[-1]
        then, before = [mark for mark in self._marks[:-1] if mark[0] <= max(made / 2, 1)][-1]
        return (training - before) / (made - then)

    def _seconds(self, start: float, at_end: float) -> float:
        """Seconds that the whole run takes, with everything before and after training."""
        return max(self.seconds, start + LEAST_TRAINING * self.seconds + at_end)

    def _log_plan(self, total: int, takes: float, pace: float, each: float) -> None:
        """Log the first plan, and large changes; small ones only for debugging."""
        before = self.step_plan.total if self.step_plan.is_settled else None
        is_news = before is None or abs(total - before) > LOGGED_CHANGE * before
        others = f", {1 - pace / each:.0%} of the time evaluating and saving" if each > 1.05 * pace else ""
        (logging.info if is_news else logging.debug)(
            "planned after step %d: %s steps in total%s%s, to end after %s (%.3g s per step%s)",
            self.step,
            f"{total:,}",
            " (all epochs)" if total == self._most_steps else "",
            "" if before is None else f" instead of {before:,}",
            duration(takes),
            pace,
            others,
        )

    def _warn_if_late(self, start: float, at_end: float) -> None:
        """Warn once, as soon as it is known that the run will end late."""
        takes = max(self._seconds(start, at_end), time.monotonic() - self._began + at_end)
        if self._said_late or takes <= (1 + LATE) * self.seconds or self.global_rank != 0:
            return
        self._said_late = True
        logging.warning(
            "the run will take about %s instead of %s: its startup takes %s, its last evaluation and "
            "checkpoint about %s, and training gets at least half of the time",
            duration(takes),
            duration(self.seconds),
            duration(start),
            duration(at_end),
        )

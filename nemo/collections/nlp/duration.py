"""How many steps a run has: as its options say, or as many as fit into `--minutes`.

With `--minutes` nothing is known beforehand: two steps are made at the very beginning of the warm-up, and
from then on the number of steps is planned from how long they take, and planned again when that changes. All
plans are kept, in `config.yaml` too, as the learning rates of a run follow from them.
"""

import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nemo.backends.pytorch import DataLayerNM, checkpoint
from nemo.backends.pytorch.distributed import World
from nemo.collections.nlp.callbacks.run_record import duration
from nemo.collections.nlp.options import PretrainingOptions
from nemo.collections.nlp.pretraining_data import PretrainingData
from nemo.core import ActionCallback, CheckpointCallback, EvaluatorCallback
from nemo.core.plan import LrPolicy
from nemo.utils.arguments import read_config
from nemo.utils.errors import UsageError
from nemo.utils.logging import logging
from nemo.utils.lr_policies import get_lr_policy
from nemo.utils.step_plan import StepPlan

STEPS_PER_SECOND_AT_MOST = 1000
"""More than any model makes: the first plan is too long rather than too short."""
TOLERANCE = 0.03
"""Of the time; a plan that misses the end by less is kept."""
LATE = 0.1
"""Of the time; a run that ends later by more says so."""
TIME_BETWEEN_PLANS = 0.05
"""Of the time, at most."""
LEAST_TRAINING = 0.5
"""Of the time, whatever comes before and after it takes."""
FORWARD_SHARE = 0.4
"""Of a training batch's time that an evaluation batch takes, until one was timed."""
SAVED_BYTES_PER_SECOND = 200e6
"""At which checkpoints are written, until one was timed."""


def steps_per_epoch(data_layer: DataLayerNM, batches_per_step: int, epoch: int = 0) -> int:
    """Steps in a pass over the data; a last short one counts."""
    return math.ceil(data_layer.num_batches(epoch) / batches_per_step)


def steps_in_epochs(data: PretrainingData, batches_per_step: int, epochs: int) -> int:
    """Steps in the first so many epochs; with tokens_per_batch, epochs differ in length."""
    if data.train.tokens_per_batch is None:
        return epochs * steps_per_epoch(data.train, batches_per_step)
    logging.info("counting the batches of %d epochs", epochs)
    # The first one last, as its pairs are the next to be used.
    return sum(steps_per_epoch(data.train, batches_per_step, epoch) for epoch in reversed(range(epochs)))


def planned_steps(
    options: PretrainingOptions,
    data: PretrainingData,
    work_dir: str | Path,
    first_step: int = 0,
    num_processes: int = 1,
) -> StepPlan:
    """How many steps the whole run has, as far as that is known before it begins.

    Args:
        first_step: steps that were made elsewhere; `minutes` come on top of them.
        num_processes: that train together.

    Raises:
        UsageError: the run in `work_dir` was given another time.
    """
    if options.updates is not None:
        plan = None if options.step_plan is None else StepPlan.parse(options.step_plan)
        return plan if plan and plan.total == options.updates else StepPlan.of(options.updates)
    if options.epochs is not None:
        return StepPlan.of(steps_in_epochs(data, options.batches_per_step * num_processes, options.epochs))
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
        if earlier.get("step_plan"):
            return StepPlan.parse(earlier["step_plan"])
        if earlier["num_iters"] != -1:
            return StepPlan.of(earlier["num_iters"])
    minutes = options.minutes or 0.0  # given, as neither steps nor epochs are
    return StepPlan.of(first_step + 1 + math.ceil(minutes * 60 * STEPS_PER_SECOND_AT_MOST))


def lr_policy(options: PretrainingOptions, plan: StepPlan) -> LrPolicy | None:
    """The schedule that the options ask for: at every step that of the plan in force.

    Raises:
        UsageError: its numbers make no sense.
    """
    name = options.lr_policy
    if name is None:
        return None
    policies = {
        total: get_lr_policy(name, total_steps=total, warmup_ratio=options.lr_warmup_proportion)
        for _, total in plan.changes
    }
    return lambda lr, step, epoch: policies[plan.at(step)](lr, step, epoch)


@dataclass(frozen=True)
class Around:
    """What takes time besides steps.

    Attributes:
        evaluator, checkpoints: the callbacks that do it, and time it; no evaluator without held-out data.
        eval_batches: of one evaluation, in batches of a step.
        checkpoint_bytes: of one checkpoint.
    """

    evaluator: EvaluatorCallback | None
    checkpoints: CheckpointCallback
    eval_batches: float
    checkpoint_bytes: int

    @property
    def seconds(self) -> float:
        """So far."""
        evaluating = 0.0 if self.evaluator is None else self.evaluator.time_spent.seconds
        return evaluating + self.checkpoints.time_spent.seconds

    def seconds_per_step(self, seconds_per_step: float, steps: int) -> float:
        """For each step, of evaluating and of saving; `steps` were made."""
        evaluating = 0.0
        if self.evaluator is not None and self.evaluator.eval_step is not None:
            evaluating = self._evaluation(seconds_per_step) / self.evaluator.eval_step
        return evaluating + self.checkpoints.time_spent.seconds / max(1, steps)

    def seconds_at_end(self, seconds_per_step: float) -> float:
        """For the last evaluation and the last checkpoint, which is waited for."""
        written = self.checkpoint_bytes / SAVED_BYTES_PER_SECOND
        return self._evaluation(seconds_per_step) + max(self.checkpoints.time_spent.mean or 0.0, written)

    def _evaluation(self, seconds_per_step: float) -> float:
        if self.evaluator is None:
            return 0.0
        timed = self.evaluator.time_spent.mean
        return FORWARD_SHARE * self.eval_batches * seconds_per_step if timed is None else timed


class EndOnTime(ActionCallback):
    """Plans the steps of a run so that it ends `minutes` after it began, evaluations and saves included.

    Put it last among the callbacks. Training has at least half of the time, however long the rest takes. A
    run that goes on in its own folder has as large a share of the time as of the steps left. Process 0
    decides for all.

    Args:
        minutes: of the whole run.
        began: when it did, of `time.monotonic()`.
        plan: the steps as they are planned so far.
        first_step: steps that were made elsewhere.
        around: what else takes time.
        policy: gives the learning rates of a plan.
        write_down: keeps a plan.
        world: the processes that train together.
    """

    def __init__(
        self,
        minutes: float,
        began: float,
        plan: StepPlan,
        first_step: int,
        around: Around,
        policy: Callable[[StepPlan], LrPolicy | None],
        write_down: Callable[[StepPlan], None],
        world: World,
    ):
        self.plan = plan
        self.seconds = 60 * minutes
        self._began = began
        self._first_step = first_step
        self._around = around
        self._policy = policy
        self._write_down = write_down
        self._world = world

    def on_action_start(self) -> None:
        self._start = self._time = time.monotonic()
        total, done = self.plan.total - self._first_step, self.step - self._first_step
        if done > 0:
            self._began = self._start
            if self.plan.is_settled:
                self.seconds *= max(0, total - done) / total
        self._around_before = self._around.seconds
        self._made, self._next = 0, 1
        self._marks: list[tuple[int, float]] = []
        self._said_late = False
        self._warn_if_late(0.0)

    def on_iteration_end(self) -> None:
        self._made += 1
        if self._made < self._next:
            return
        total, self._next = self._world.told_by_first(self._decide)
        if total != self.plan.total:
            self.plan = self.plan.changed(self.step, total)
            self.action.plan = dataclasses.replace(
                self.action.plan, max_steps=total, lr_policy=self._policy(self.plan)
            )
            self._write_down(self.plan)

    def _decide(self) -> tuple[int, int]:
        """How many steps the run has in all, and after how many of this process to ask again."""
        self._time = time.monotonic()
        training = self._time - self._start - (self._around.seconds - self._around_before)
        self._marks.append((self._made, training))
        if self._made == 1:  # in which much is made that is used from then on: it tells nothing
            is_over = self._time >= self._end_of_steps(0.0)
            return self.step if is_over else self.plan.total, 2
        pace = self._pace()
        each = pace + self._around.seconds_per_step(pace, self._made)
        asks_again = self._made + max(1, min(self._made, int(TIME_BETWEEN_PLANS * self.seconds / each)))
        self._warn_if_late(pace)
        if self.step <= self.plan.changes[-1][0]:  # steps that were planned, made and lost before
            return self.plan.total, asks_again
        left = self._end_of_steps(pace) - self._time
        steps_left = self.plan.total - self.step
        if abs(steps_left * each - left) <= TOLERANCE * self.seconds:
            return self.plan.total, asks_again
        # A step more where there is none in time, so that the record has a row of the last one.
        total = max(self.step + round(left / each), min(self.step + 1, self.plan.total))
        if total != self.plan.total:
            self._tell(total, pace, each)
        return total, asks_again

    def _pace(self) -> float:
        """Seconds that a step takes, of the latter half of those made: the first ones are slow."""
        made, training = self._marks[-1]
        then, before = [mark for mark in self._marks[:-1] if mark[0] <= max(made / 2, 1)][-1]
        return (training - before) / (made - then)

    def _end_of_steps(self, pace: float) -> float:
        """When the last step has to be made."""
        on_time = self._began + self.seconds - self._around.seconds_at_end(pace)
        return max(on_time, self._start + LEAST_TRAINING * self.seconds)

    def _tell(self, total: int, pace: float, each: float) -> None:
        planned = f" instead of {self.plan.total:,}" if self.plan.is_settled else ""
        others = f", {1 - pace / each:.0%} of the time evaluating and saving" if each > 1.05 * pace else ""
        logging.info(
            "planned after step %d: %s steps in all%s, to end after %s (%.3g s a step%s)",
            self.step,
            f"{total:,}",
            planned,
            duration(self._end_of_steps(pace) + self._around.seconds_at_end(pace) - self._began),
            pace,
            others,
        )

    def _warn_if_late(self, pace: float) -> None:
        """Once, as soon as it is known."""
        at_end = self._around.seconds_at_end(pace)
        takes = max(self._end_of_steps(pace), self._time) + at_end - self._began
        if self._said_late or takes <= (1 + LATE) * self.seconds or self.global_rank != 0:
            return
        self._said_late = True
        logging.warning(
            "the run will take about %s instead of %s: its start took %s, its last evaluation and checkpoint "
            "will take about %s, and training has at least half of the time",
            duration(takes),
            duration(self.seconds),
            duration(self._start - self._began),
            duration(at_end),
        )

"""Extrapolates a trial of a run's first steps to the whole run; and the loss, where records allow."""

import math
from dataclasses import dataclass

from nemo.collections.nlp.options import PretrainingOptions
from nemo.collections.nlp.pretraining.duration import LEAST_TRAINING
from nemo.collections.nlp.recipe.trial import Trial

# (Layers, width) -> (tokens seen, nats below the unigram entropy of held-out English) of two runs that start
# from counts, with the recipe of 2026-11-30_recipes. No estimate beyond four times their range.
RECORDED_GAPS = {
    (2, 256): ((1_260_000, 2.20), (9_100_000, 2.99)),
    (4, 256): ((1_360_000, 2.14), (28_400_000, 3.20)),
}
RANGE = 4.0


@dataclass(frozen=True)
class Estimate:
    """The estimated cost and result of a run.

    Attributes:
        steps, tokens: totals.
        passes: passes over the text.
        seconds: duration of the run, startup included.
        evaluations: their number.
        disk_bytes: maximum size of the work folder, without the token stores.
        expected_loss: held-out MLM loss, nats; None without a record of a similar run.
    """

    steps: int
    tokens: int
    passes: float
    seconds: float
    evaluations: int
    disk_bytes: int
    expected_loss: float | None


def estimate(options: PretrainingOptions, trial: Trial, seconds_before: float = 0.0) -> Estimate:
    """Extrapolate a trial to the whole run.

    Args:
        seconds_before: part of `--minutes` that has passed when the run's process starts.
    """
    start = trial.start_seconds + seconds_before
    if options.eval_step_freq != -1:
        start += trial.evaluation_seconds  # before the first step
    at_end = trial.evaluation_seconds + trial.save_seconds
    each = trial.step_seconds
    if options.eval_step_freq != -1:
        each += trial.evaluation_seconds / options.eval_step_freq
    if options.save_step_freq != -1:
        each += trial.save_seconds / options.save_step_freq
    steps = _steps(options, trial, start, at_end, each)
    evaluations = 1 if options.eval_step_freq == -1 else 2 + (steps - 1) // options.eval_step_freq
    tokens = round(steps * trial.step_tokens)
    return Estimate(
        steps=steps,
        tokens=tokens,
        passes=steps / trial.steps_per_epoch,
        seconds=start + steps * each + at_end + trial.report_seconds,
        evaluations=evaluations if trial.evaluation_seconds else 0,
        disk_bytes=_checkpoints(options, steps) * trial.checkpoint_bytes,
        expected_loss=_expected_loss(options, trial, tokens),
    )


def _steps(options: PretrainingOptions, trial: Trial, start: float, at_end: float, each: float) -> int:
    if options.steps is not None:
        return options.steps
    if options.epochs is not None:
        return options.epochs * trial.steps_per_epoch
    seconds = 60 * (options.minutes or 0.0)
    in_time = max(1, round(max(seconds - start - at_end, LEAST_TRAINING * seconds) / each))
    return in_time if options.num_epochs is None else min(in_time, options.num_epochs * trial.steps_per_epoch)


def _checkpoints(options: PretrainingOptions, steps: int) -> int:
    """The maximum number of checkpoints that exist at the same time."""
    made = 1 + (steps // options.save_step_freq if options.save_step_freq > 0 else 0)
    return min(made, options.checkpoints_to_keep) + options.keep_best


def _expected_loss(options: PretrainingOptions, trial: Trial, tokens: int) -> float | None:
    """The unigram entropy minus the gain of recorded runs, interpolated over the log of their tokens."""
    recorded = RECORDED_GAPS.get((options.num_hidden_layers, options.hidden_size))
    if recorded is None or options.initialization != "counts" or trial.unigram_entropy is None:
        return None
    (few, gap_of_few), (many, gap_of_many) = recorded
    if not few / RANGE <= tokens <= many * RANGE:
        return None
    slope = (gap_of_many - gap_of_few) / math.log(many / few)
    return trial.unigram_entropy - gap_of_few - slope * math.log(tokens / few)

"""The result of an adaptation: scores, the gain, and whether it is more than chance."""

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nemo.collections.nlp.adaptation.losses import ModelFigures
from nemo.collections.nlp.finetuning.metrics import WRITTEN
from nemo.utils.wording import quantity

_CRITICAL = {
    **{1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262, 10: 2.228},
    **{12: 2.179, 15: 2.131, 20: 2.086, 30: 2.042, 60: 2.000},
}
"""Degrees of freedom -> two-sided 5% quantile of Student's t."""


@dataclass(frozen=True)
class Score:
    """A score of a fine-tuned model over seeds.

    Attributes:
        mean, deviation: mean and standard deviation (divisor n - 1), from 0 to 1; no deviation with one seed.
        runs: number of seeds.
    """

    mean: float
    deviation: float | None
    runs: int


def standard_error(one: Score, other: Score) -> float | None:
    """Of the difference of the means; None with one seed."""
    if one.deviation is None or other.deviation is None:
        return None
    return math.sqrt(one.deviation**2 / one.runs + other.deviation**2 / other.runs)


def differs(one: Score, other: Score) -> bool:
    """Whether the means differ at the 5% level, by Welch's t-test (1947); False with one seed.

    Degrees of freedom that the table lacks are rounded down, which is on the safe side.
    """
    error = standard_error(one, other)
    if error is None or one.deviation is None or other.deviation is None:
        return False
    if error == 0:
        return one.mean != other.mean
    parts = [(score.deviation or 0) ** 2 / score.runs for score in (one, other)]
    freedom = error**4 / sum(part**2 / (s.runs - 1) for part, s in zip(parts, (one, other), strict=True))
    known = list(_CRITICAL)
    quantile = _CRITICAL[known[max(bisect_right(known, freedom) - 1, 0)]]
    return abs(other.mean - one.mean) > quantile * error


@dataclass(frozen=True)
class Adaptation:
    """The result of an adaptation.

    Attributes:
        folder: the adapted model.
        texts: held-out figures by model and text (field, general). Models: base; extended (new entries only);
            continued (pretraining only, with `compare_stages`); adapted.
        new_pieces: number of entries added to the vocabulary.
        figure: name of the score in `scores`, see `finetuning.metrics.DEFINITIONS`; None without a task.
        scores: model -> score on the test set, or else the validation set; base and adapted, or all models
            with `compare_stages`.
        measured_on: that set, in words.
        seconds: stage -> duration, of all attempts together.
        leaks: warnings of test examples in the text.
    """

    folder: Path
    texts: Mapping[str, Mapping[str, ModelFigures]]
    new_pieces: int
    figure: str | None
    scores: Mapping[str, Score]
    measured_on: str
    seconds: Mapping[str, float]
    leaks: Sequence[str] = ()

    @property
    def minutes(self) -> float:
        """Duration of the adaptation: vocabulary and pretraining."""
        return sum(self.seconds.get(stage, 0.0) for stage in ("extend", "continue")) / 60

    @property
    def gain(self) -> tuple[float, float | None]:
        """The adapted model's `gain_of`."""
        return self.gain_of("adapted")

    def gain_of(self, model: str) -> tuple[float, float | None]:
        """A model's mean less that of the base, and the standard error of this; None with one seed."""
        base, other = self.scores["base"], self.scores[model]
        return other.mean - base.mean, standard_error(base, other)

    @property
    def is_measurable(self) -> bool:
        """Is there a gain, or a loss, that chance would show in less than one of twenty cases?

        Welch's t-test between the seeds of fine-tuning; pretraining is run once, with one seed.
        """
        return self.figure is not None and differs(self.scores["base"], self.scores["adapted"])

    @property
    def verdict(self) -> str:
        """One sentence: the gain or the loss, and what it took."""
        minutes = round(self.minutes)
        spent = quantity(minutes, "minute") if minutes else quantity(round(60 * self.minutes), "second")
        if self.figure is None:
            return f"adapted in {spent}; without --task and --train the gain is unknown"
        difference, error = self.gain
        figure = f"{WRITTEN[self.figure]} on {self.measured_on} after {spent} of adaptation"
        if error is None:
            return f"{100 * difference:+.1f} {figure}, with one seed: not conclusive"
        gain = f"{100 * difference:+.1f} +- {100 * error:.1f} {figure}"
        return gain if self.is_measurable else f"no measurable gain ({gain})"

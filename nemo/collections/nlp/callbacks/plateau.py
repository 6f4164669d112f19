"""Detects a model that has learned at most token frequencies, not context."""

NEAR = 0.1
"""A loss this many nats below the unigram entropy still shows no more than frequencies."""
LEAST_GAIN = 0.05
"""A loss that falls by fewer nats from the first half of a stretch to the second counts as flat."""
LEAST_FIGURES = 4

ADVICE = (
    "every BERT stays there for a while (hundreds to thousands of steps); if it lasts, likely causes "
    "are: a learning rate that is too high (try a third) or too low (try three times as much); no warm-up "
    "(--lr_policy with --lr_warmup_proportion); a gradient clipped to nearly nothing; masks or "
    "labels that do not match the tokens (check with nemo-bert show-batch); text without context, "
    "such as shuffled lines; a run that is too short (--initialization counts starts below the entropy)"
)


class Plateau:
    """Watches for an MLM loss that does not fall below the unigram entropy of its targets.

    A stretch is a tenth of the run, at least 200 and at most 2,000 steps.
    """

    def __init__(self) -> None:
        self._losses: list[tuple[int, float]] = []

    def is_on(self, step: int, total_steps: int, loss: float, entropy: float) -> bool:
        """Whether the loss was flat, and no better than `entropy`, over the stretch that ends at this step.

        Args:
            step: steps so far.
            total_steps: steps of the whole run.
            loss, entropy: nats.
        """
        began = step - min(max(200, total_steps // 10), 2000)
        # Keep one loss at or before the beginning, so that the whole stretch is covered.
        while len(self._losses) >= LEAST_FIGURES and self._losses[1][0] <= began:
            del self._losses[0]
        self._losses.append((step, loss))
        figures = [value for _, value in self._losses]
        if self._losses[0][0] > began or len(figures) < LEAST_FIGURES:
            return False
        half = len(figures) // 2
        before, now = _mean(figures[:half]), _mean(figures[half:])
        return now > entropy - NEAR and before - now < LEAST_GAIN


def _mean(figures: list[float]) -> float:
    return sum(figures) / len(figures)

"""A model that knows how frequent words are at most, and nothing of their context."""

NEAR = 0.1
"""Nats that a loss may lie below the unigram entropy and still tell of nothing more."""
LEAST_GAIN = 0.05
"""Nats from the first half of a stretch to the second; with less, a loss counts as flat."""
LEAST_FIGURES = 4

ADVICE = (
    "every BERT stays there for a while (hundreds to thousands of steps), but if it lasts, likely causes "
    "are: a learning rate that is too high (try a third of it) or too low (try three times it); no warm-up "
    "(--lr_policy with --lr_warmup_proportion); a gradient that is clipped to nearly nothing; masks or "
    "labels that do not match the tokens (check with nemo-bert show-batch); text without context, "
    "such as shuffled lines; a run that is too short (--initialization counts starts below the entropy)"
)


class Plateau:
    """Watches for a masked-word loss that does not get below the unigram entropy of its targets.

    A stretch is a tenth of the run, but 200 to 2,000 steps.
    """

    def __init__(self) -> None:
        self._losses: list[tuple[int, float]] = []

    def is_on(self, step: int, total_steps: int, loss: float, entropy: float) -> bool:
        """Has the loss stood still, no better than `entropy`, for a stretch that ends with this one?

        Args:
            step: steps so far.
            total_steps: steps of the whole run.
            loss, entropy: nats.
        """
        began = step - min(max(200, total_steps // 10), 2000)
        # One at or before the beginning stays, so that the whole stretch is covered.
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

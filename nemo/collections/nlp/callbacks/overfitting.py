"""Detects a model that memorizes its text: the held-out loss rises while the training loss falls."""

RISE = 0.1
"""Nats above the lowest held-out loss; less may be noise."""
EVALUATIONS = 2
"""Number of evaluations in a row that must be this much higher."""


class Overfitting:
    """Watches the MLM losses at every evaluation."""

    def __init__(self) -> None:
        self._best: tuple[int, float, float] | None = None
        self._times = 0

    def since(self, step: int, held_out: float, training: float) -> int | None:
        """The step at which overfitting began; None if the model does not seem to overfit.

        Args:
            step: step of this evaluation.
            held_out, training: losses in nats; the training loss is the mean since the previous evaluation.
        """
        if self._best is None or held_out < self._best[1]:
            self._best, self._times = (step, held_out, training), 0
            return None
        best_at, lowest, training_then = self._best
        is_on = held_out > lowest + RISE and training < training_then
        self._times = self._times + 1 if is_on else 0
        return best_at if self._times >= EVALUATIONS else None

"""A model that learns its text by heart: held-out loss goes up while training loss goes down."""

RISE = 0.1
"""Nats above the lowest held-out loss; less may be noise."""
EVALUATIONS = 2
"""In a row, so much higher."""


class Overfitting:
    """Watches the losses of masked words at every evaluation."""

    def __init__(self) -> None:
        self._best: tuple[int, float, float] | None = None
        self._times = 0

    def since(self, step: int, held_out: float, training: float) -> int | None:
        """The step after which the model learned by heart; None while it does not seem to.

        Args:
            step: of this evaluation.
            held_out, training: nats; the latter on average since the evaluation before.
        """
        if self._best is None or held_out < self._best[1]:
            self._best, self._times = (step, held_out, training), 0
            return None
        best_at, lowest, training_then = self._best
        is_on = held_out > lowest + RISE and training < training_then
        self._times = self._times + 1 if is_on else 0
        return best_at if self._times >= EVALUATIONS else None

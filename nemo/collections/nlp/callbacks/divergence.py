"""Detects a loss that is far worse than a uniform prediction."""

import math

FAR = 2.0
"""Nats above the loss of a uniform prediction."""


class Divergence:
    """Watches for an MLM loss far above ln V, the loss of a uniform prediction.

    Args:
        vocab_size: V.
    """

    def __init__(self, vocab_size: int):
        self.loss_of_chance = math.log(vocab_size)
        self._first: float | None = None

    def is_far(self, loss: float) -> bool:
        """Whether a loss, in nats, is so high that the model must have diverged."""
        return loss > self.loss_of_chance + FAR

    def cause(self, loss: float, learning_rate: float) -> str | None:
        """The likely cause; None if the loss is not far above ln V.

        Call it with every training loss, in order.
        """
        first = self._first = loss if self._first is None else self._first
        if not self.is_far(loss):
            return None
        if self.is_far(first) and loss < first + FAR:
            return (
                "it started that way, from weights of another vocabulary, with a very large "
                "--initializer_range, or from a run that had diverged"
            )
        return (
            f"the learning rate ({learning_rate:.2g}) is probably too high; start again with a tenth of it, "
            "with a warm-up (--lr_policy, --lr_warmup_proportion) or with --grad_norm_clip 1"
        )

"""A loss that is far worse than a uniform prediction."""

import math

FAR = 2.0
"""Nats above the loss of a model that takes all words to be equally likely."""


class Divergence:
    """Watches for a masked-word loss far above ln V, which is that of a model that knows nothing.

    Args:
        vocab_size: V.
    """

    def __init__(self, vocab_size: int):
        self.loss_of_a_guess = math.log(vocab_size)
        self._first: float | None = None

    def is_far(self, loss: float) -> bool:
        """Is this loss, in nats, one that a model gets to by being led astray?"""
        return loss > self.loss_of_a_guess + FAR

    def cause(self, loss: float, learning_rate: float) -> str | None:
        """Why it is likely to be so; None if the loss is not far above ln V.

        Call it with every loss of a training, the first one first.
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

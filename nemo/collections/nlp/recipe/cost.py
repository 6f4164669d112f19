"""The cost of a training step, and the number of tokens that a model sees in a given time."""

from nemo.backends.pytorch.machine import Machine
from nemo.collections.nlp.options.mask_rate import FALLING_MASK_RATE, mask_rates
from nemo.collections.nlp.recipe.constants import (
    EFFICIENCY,
    SEQUENCE_LENGTH,
    TRAINING_SHARE,
)


def flops_per_token(layers: int, width: int, vocabulary: int) -> float:
    """Floating-point operations of a training step per token."""
    encoder = layers * (12 * width**2 + 2 * SEQUENCE_LENGTH * width)
    head = sum(mask_rates(FALLING_MASK_RATE)) / 2 * (width**2 + width * vocabulary)
    return 6 * (encoder + head)


def tokens_in(minutes: float, machine: Machine, layers: int, width: int, vocabulary: int) -> float:
    """Approximate number of tokens that a model sees in this time."""
    rate = EFFICIENCY[machine.device] * machine.matmul_rate / flops_per_token(layers, width, vocabulary)
    return TRAINING_SHARE * minutes * 60 * rate

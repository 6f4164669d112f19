"""Figures of a whole evaluation: sums and counts, divided at the end."""

import math
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from torch import Tensor

Loss = TypeVar("Loss")


class RunningSums(Generic[Loss]):
    """Adds up the results of `LossNM.statistics` over batches, for each loss."""

    def __init__(self) -> None:
        self._sums: dict[Loss, dict[str, tuple[Tensor, Tensor]]] = {}

    def add(self, statistics: Mapping[Loss, Mapping[str, tuple[Tensor, Tensor]]]) -> None:
        """Count one batch: loss -> name of a figure -> (sum, count)."""
        for loss, figures in statistics.items():
            sums = self._sums.setdefault(loss, {})
            for name, (total, count) in figures.items():
                total, count = total.double().cpu(), count.double().cpu()
                before = sums.get(name)
                sums[name] = (total, count) if before is None else (before[0] + total, before[1] + count)

    def quotients(self) -> dict[Loss, dict[str, Any]]:
        """Loss -> name of a figure -> float, or a distribution if the sum is over classes."""
        return {
            loss: {
                name: total / count.clamp(min=1) if total.ndim else float(total / count.clamp(min=1))
                for name, (total, count) in figures.items()
            }
            for loss, figures in self._sums.items()
        }


def entropy(distribution: Tensor) -> float:
    """-sum p ln p in nats: the loss of a model that knows only the frequency of each class."""
    p = distribution[distribution > 0]
    return float(-(p * p.log()).sum())


def perplexity(loss: float) -> float:
    """exp(loss); infinite on overflow."""
    return math.exp(loss) if loss < 700 else math.inf

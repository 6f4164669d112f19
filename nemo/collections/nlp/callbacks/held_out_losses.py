"""The held-out losses in a run's record, and the best step."""

import math
from collections.abc import Mapping
from pathlib import Path

from nemo.collections.nlp.callbacks.run_record import evaluations_in


def held_out_losses(metrics: Path) -> dict[int, float]:
    """Step -> held-out MLM loss, nats, from a metrics.jsonl; finite losses only."""
    return finite_mlm_losses(evaluations_in(metrics))


def finite_mlm_losses(evaluations: Mapping[int, Mapping[str, float]]) -> dict[int, float]:
    """Step -> MLM loss, nats, from figures by step; finite losses only."""
    found = {step: figures.get("mlm_loss") for step, figures in evaluations.items()}
    return {step: loss for step, loss in found.items() if loss is not None and math.isfinite(loss)}


def best_step(losses: Mapping[int, float]) -> int | None:
    """The step with the lowest loss, the first of equal ones; None without losses."""
    return min(losses, key=lambda step: (losses[step], step), default=None)

"""Chooses the best checkpoint of a run, by the held-out losses in its record."""

from dataclasses import dataclass
from pathlib import Path

from nemo.backends.pytorch.checkpoints import checkpoint
from nemo.backends.pytorch.checkpoints.manifest import verify
from nemo.collections.nlp.callbacks.held_out_losses import best_step, held_out_losses
from nemo.utils.errors import CheckpointError
from nemo.utils.logging import logging


@dataclass(frozen=True)
class ChosenCheckpoint:
    """One checkpoint of a run.

    Attributes:
        reason: why it was chosen; "" if there was no choice.
        is_newest: whether it is the newest undamaged one.
    """

    path: Path
    reason: str
    is_newest: bool = True


def choose_checkpoint(path: Path) -> ChosenCheckpoint | None:
    """The undamaged checkpoint that `path` refers to; None if there is none.

    Args:
        path: one `STEP-<n>`; or a run's work folder or its `checkpoints`, for the checkpoint with the best
            held-out loss, or the newest if none is known to be better.

    Raises:
        CheckpointError: as `checkpoint.find`.
    """
    folder = path / "checkpoints" if (path / "checkpoints").is_dir() else path
    steps = [int(each.name.removeprefix("STEP-")) for each in checkpoint.list_checkpoints(folder)]
    losses = held_out_losses(folder.parent / "metrics.jsonl")
    best = best_step({step: losses[step] for step in steps if step in losses})
    if best is not None and losses[best] < losses[max(losses)]:
        chosen = folder / f"STEP-{best}"
        try:
            verify(chosen)
        except CheckpointError as problem:
            logging.warning("%s; using the newest checkpoint instead", problem)
        else:
            reason = f"the best by held-out MLM loss, {losses[best]:.3f}; the newest is STEP-{steps[-1]}"
            return ChosenCheckpoint(chosen, reason, is_newest=steps[-1] == best)
    found = checkpoint.find(path)
    if found is None:
        return None
    return ChosenCheckpoint(found, "the newest" if len(steps) > 1 else "")

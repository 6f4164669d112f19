"""The view of a run on a terminal: step, loss and its trend, speed, time left, evaluations, checkpoints."""

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nemo.utils.stopwatch import duration

if TYPE_CHECKING:
    from rich.console import Group

SHOWN_LOSSES = 30
SMOOTHING = 0.2
BARS = "▁▂▃▄▅▆▇█"
FLAT = 0.005
"""Share of a loss; if it changes less from the first half of the bars to the second, it is flat."""


@dataclass
class TrainingView:
    """The state of a run, and its rendering.

    Attributes:
        step, total: finished steps, and steps of the whole run; 0 until planned.
        row: the latest row of metrics.jsonl.
        seconds_left: time left at time `at`.
        losses: the latest MLM losses, smoothed.
        unigram_entropy: nats; None if unknown.
        evaluation: the latest held-out figures, and their step.
        checkpoint: name of the newest checkpoint.
    """

    unigram_entropy: float | None = None
    step: int = 0
    total: int = 0
    row: Mapping[str, float] = field(default_factory=dict)
    seconds_left: float = 0
    at: float = 0
    losses: deque[float] = field(default_factory=lambda: deque(maxlen=SHOWN_LOSSES))
    evaluation: tuple[int, Mapping[str, float]] | None = None
    checkpoint: str | None = None

    def add(self, row: Mapping[str, float], seconds_left: float) -> None:
        """Add a row of figures."""
        self.row, self.seconds_left, self.at = row, seconds_left, time.monotonic()
        loss = row.get("mlm_loss", row["loss"])
        before = self.losses[-1] if self.losses else loss
        self.losses.append(before + SMOOTHING * (loss - before))

    @property
    def trend(self) -> str:
        """The trend of the loss."""
        losses = list(self.losses)
        if len(losses) < 4:
            return ""
        half = len(losses) // 2
        change = sum(losses[half:]) / (len(losses) - half) - sum(losses[:half]) / half
        return "flat" if abs(change) < FLAT * losses[-1] else "falling" if change < 0 else "rising"

    @property
    def bars(self) -> str:
        """The latest losses as a line of bars."""
        low, high = min(self.losses), max(self.losses)
        span = high - low or 1
        return "".join(BARS[int((loss - low) / span * (len(BARS) - 1))] for loss in self.losses)

    def render(self) -> "Group":
        """Three lines."""
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        head = Table.grid(padding=(0, 1))
        is_known = bool(self.row and self.total)
        left = max(self.seconds_left - (time.monotonic() - self.at), 0)
        head.add_row(
            Text(f"step {self.step:,}/{self.total:,}" if self.total else f"step {self.step:,}", "bold"),
            ProgressBar(max(self.total, 1), self.step if self.total else 0, width=24),
            Text(f"{self.step / self.total:.0%}" if self.total else ""),
            Text(f"{self.row['tokens_per_s']:,.0f} tokens/s" if self.row else "", "dim"),
            Text(f"{duration(left)} left" if is_known else ""),
        )
        lines = [Text(line, overflow="ellipsis", no_wrap=True) for line in self.lines()]
        for line in lines:
            line.highlight_words(["falling"], "green")
            line.highlight_words(["rising"], "yellow")
            line.highlight_words(["held out", "saved", "unigram"], "dim")
        return Group(head, *lines)

    def lines(self) -> list[str]:
        """The loss, and the latest evaluation and checkpoint."""
        if not self.row:
            return ["waiting for the first step"]
        loss = f"loss {self.losses[-1]:.3f} {self.trend} {self.bars}"
        if self.unigram_entropy is not None:
            loss += f"  unigram {self.unigram_entropy:.2f}"
        done = []
        if self.evaluation is not None:
            step, figures = self.evaluation
            told = [f"held out {figures.get('mlm_loss', figures['loss']):.3f}"]
            if "unigram_entropy" in figures:
                told[0] += f" (unigram {figures['unigram_entropy']:.2f})"
            if "mlm_accuracy" in figures:
                told.append(f"accuracy {figures['mlm_accuracy']:.1%}")
            done.append(f"{', '.join(told)} at step {step:,}")
        if self.checkpoint is not None:
            done.append(f"saved {self.checkpoint}")
        return [loss, "  ".join(done) or "nothing evaluated or saved yet"]

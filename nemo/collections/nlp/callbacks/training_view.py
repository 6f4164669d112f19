"""The view of a run on a terminal: step, loss and its trend, speed, time left, evaluations, checkpoints."""

import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nemo.utils.stopwatch import duration

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType

SHOWN_LOSSES = 30
SMOOTHING = 0.2
BARS = "▁▂▃▄▅▆▇█"
LEAST_BAR, MOST_BAR = 8, 24  # columns
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
        """Show the figures of a step, and add its loss to the smoothed curve."""
        self.row, self.seconds_left, self.at = row, seconds_left, time.monotonic()
        loss = row.get("mlm_loss", row["loss"])
        before = self.losses[-1] if self.losses else loss
        self.losses.append(before + SMOOTHING * (loss - before))

    @property
    def trend(self) -> str:
        """Whether the smoothed loss is "falling", "flat" or "rising"; "" before four values."""
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

    def __rich_console__(self, _: "Console", options: "ConsoleOptions") -> "Iterator[RenderableType]":
        """Three lines, and more where the terminal is narrow."""
        from rich.text import Text

        yield self._head(options.max_width)
        for text in self.lines(options.max_width):
            line = Text(text)
            line.highlight_words(["falling"], "green")
            line.highlight_words(["rising"], "yellow")
            line.highlight_words(["held out", "saved", "unigram"], "dim")
            yield line

    def _head(self, width: int) -> "RenderableType":
        """How far the run is; with a bar where there is room for it."""
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        step = Text(f"step {self.step:,}/{self.total:,}" if self.total else f"step {self.step:,}", "bold")
        figures = [Text(f"{self.step / self.total:.0%}")] if self.total else []
        if self.row:
            figures.append(Text(f"{self.row['tokens_per_s']:,.0f} tokens/s", "dim"))
        if self.row and self.total:
            left = max(self.seconds_left - (time.monotonic() - self.at), 0)
            figures.append(Text(f"{duration(left)} left"))
        room = width - len(Text(" ").join([step, *figures])) - 2
        if room < LEAST_BAR:
            return Text("  ").join([step, *figures])
        grid = Table.grid(padding=(0, 1))
        bar = ProgressBar(max(self.total, 1), self.step if self.total else 0, width=min(room, MOST_BAR))
        grid.add_row(step, bar, *figures)
        return grid

    def lines(self, width: int) -> list[str]:
        """Loss, last evaluation and last checkpoint; bars fill the remaining width."""
        if not self.row:
            return ["waiting for the first step"]
        loss = " ".join(filter(None, [f"loss {self.losses[-1]:.3f}", self.trend]))
        unigram = "" if self.unigram_entropy is None else f"  unigram {self.unigram_entropy:.2f}"
        room = max(width - len(loss) - len(unigram) - 1, 0)
        bars = self.bars[max(len(self.losses) - room, 0) :]
        done = []
        if self.evaluation is not None:
            step, figures = self.evaluation
            parts = [f"held out {figures.get('mlm_loss', figures['loss']):.3f}"]
            if "unigram_entropy" in figures:
                parts[0] += f" (unigram {figures['unigram_entropy']:.2f})"
            if "mlm_accuracy" in figures:
                parts.append(f"accuracy {figures['mlm_accuracy']:.1%}")
            done.append(f"{', '.join(parts)} at step {step:,}")
        if self.checkpoint is not None:
            done.append(f"saved {self.checkpoint}")
        return [f"{loss} {bars}{unigram}", "  ".join(done) or "nothing evaluated or saved yet"]

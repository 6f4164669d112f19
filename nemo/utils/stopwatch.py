"""Measuring time, and durations as text."""

import time
from typing import Any


class Stopwatch:
    """Times a `with` block, which may run several times.

    Attributes:
        times: number of finished runs, including those that raised an exception.
        seconds: their total time.
    """

    def __init__(self) -> None:
        self.times, self.seconds = 0, 0.0
        self._began = 0.0

    def __enter__(self) -> "Stopwatch":
        self._began = time.monotonic()
        return self

    def __exit__(self, *_: Any) -> None:
        self.seconds += time.monotonic() - self._began
        self.times += 1

    @property
    def mean(self) -> float | None:
        """Mean seconds per run; None before the first."""
        return self.seconds / self.times if self.times else None


def duration(seconds: float) -> str:
    """45 s, 3 min 20 s, 2 h 05 min."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 1:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"

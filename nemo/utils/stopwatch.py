"""How long something takes, and how a person says so."""

import time
from typing import Any


class Stopwatch:
    """Times a `with` block.

    Attributes:
        times: how often it ran to its end, or to an exception.
        seconds: in all.
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
        """Seconds of one time; None before the first."""
        return self.seconds / self.times if self.times else None


def duration(seconds: float) -> str:
    """45 s, 3 min 20 s, 2 h 05 min."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 1:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"

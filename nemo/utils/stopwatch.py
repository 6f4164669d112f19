"""How long something takes that happens again and again."""

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

"""Progress displays: what the program is doing, and for how long.

Long-running code announces itself: `with working("learning a vocabulary"):`. In a library this shows nothing.
Inside `shown_to_people`, a terminal has a live display below the log, and a pipe gets a line after a while
without output.
"""

import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from nemo.utils.logging import logging
from nemo.utils.stopwatch import duration

if TYPE_CHECKING:
    from rich.console import RenderableType

T = TypeVar("T")
TICK = 0.25  # seconds
SHOWN_AFTER = 0.4  # seconds; shorter work would only flicker
SILENCE, MOST_SILENCE = 1.5, 30.0
"""Seconds without output until a pipe gets a line: at first, and at most. The time doubles with each line."""


@dataclass
class Work:
    """A piece of work that takes time.

    Attributes:
        text: what is being done, such as "building the token store".
        total, done: total amount of work (None if unknown) and the finished amount.
        unit: unit of both, such as "MB".
        view: what a terminal shows; default: a line with text, bar and times.
        silence: seconds without output until a pipe gets a line.
    """

    text: str
    total: float | None = None
    unit: str = ""
    done: float = 0
    view: "RenderableType | None" = None
    silence: float = field(default_factory=lambda: SILENCE)
    began: float = field(default_factory=time.monotonic)

    def __str__(self) -> str:
        seconds = time.monotonic() - self.began
        parts = [self.text]
        if self.total:
            parts.append(f"{self.done:,.0f} of {self.total:,.0f} {self.unit}".rstrip())
        parts.append(duration(seconds))
        if self.total and self.done and self.done < self.total and seconds > 1:
            parts.append(f"about {duration(seconds / self.done * (self.total - self.done))} left")
        return ", ".join(parts)


class _Display:
    """The work in progress, innermost last, and its display."""

    def __init__(self) -> None:
        self.works: list[Work] = []
        self.is_shown = False
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._hidden = threading.Event()
        self._live: Any = None
        self._has_hidden_cursor = False

    def begin(self, work: Work) -> None:
        with self._lock:
            self.works.append(work)
            if self.is_shown and self._thread is None:
                self._thread = threading.Thread(target=self._tick, name="progress", daemon=True)
                self._thread.start()

    def end(self, work: Work) -> None:
        with self._lock:
            if work in self.works:
                self.works.remove(work)
            if not self.works:
                self._stop_live()

    def show(self, is_shown: bool) -> None:
        with self._lock:
            self.is_shown = is_shown
            if is_shown:
                self._hidden.clear()
            else:
                self._hidden.set()
            self._stop_live()
            self.works.clear()  # left behind by work that did not end
            if not is_shown and self._has_hidden_cursor:  # a killed child may have left it hidden
                self._has_hidden_cursor = False
                sys.stderr.write("\x1b[?25h")
        if not is_shown and self._thread is not None:
            self._thread.join()
            self._thread = None

    def _tick(self) -> None:
        while not self._hidden.wait(TICK):  # an event, so that no command waits for the last tick
            with self._lock:
                if self.works and self.is_shown:
                    show = self._draw if is_terminal(sys.stderr) else self._write_line
                    show()

    def _draw(self) -> None:
        from rich.console import Console, Group
        from rich.live import Live

        works = [work for work in self.works if time.monotonic() - work.began >= SHOWN_AFTER]
        if works and self._live is None:
            # Capture stdout only if it is a terminal too; a file gets its own lines.
            self._live = Live(
                console=Console(file=sys.stderr, highlight=False, markup=False, emoji=False),
                auto_refresh=False,
                transient=True,
                redirect_stdout=is_terminal(sys.stdout),
            )
            self._live.start()
            self._has_hidden_cursor = True
        if self._live is not None:
            self._live.update(Group(*map(_drawn, works)), refresh=True)

    def _write_line(self) -> None:
        work = self.works[-1]
        if time.monotonic() - max(logging.last_shown, work.began) >= work.silence:
            work.silence = min(2 * work.silence, max(MOST_SILENCE, work.silence))
            logging.info("%s", work)

    def _stop_live(self) -> None:
        if self._live is not None:
            live, self._live = self._live, None
            live.stop()

    def before_fork(self) -> None:
        """Release the streams, so that a child writes to them and not to this process's display."""
        self._lock.acquire()
        self._stop_live()

    def after_fork_in_parent(self) -> None:
        self._lock.release()

    def after_fork_in_child(self) -> None:
        """A child shows only its own work."""
        self._lock, self._hidden = threading.RLock(), threading.Event()
        self._thread, self.works = None, []


_display = _Display()
os.register_at_fork(
    before=_display.before_fork,
    after_in_parent=_display.after_fork_in_parent,
    after_in_child=_display.after_fork_in_child,
)


def is_terminal(stream: Any) -> bool:
    """Whether a stream can show a live display: a terminal that can move its cursor."""
    return stream is not None and stream.isatty() and os.environ.get("TERM") not in ("dumb", "unknown", None)


def is_displayed() -> bool:
    """Whether a terminal shows the log with a live display below it."""
    return _display.is_shown and is_terminal(sys.stdout) and is_terminal(sys.stderr)


@contextmanager
def shown_to_people() -> Iterator[None]:
    """Inside the block, rank 0 shows the progress of its work."""
    if int(os.environ.get("RANK", "0")) > 0:
        yield
        return
    _display.show(True)
    try:
        yield
    finally:
        _display.show(False)


@contextmanager
def working(text: str, total: float | None = None, unit: str = "", **more: Any) -> Iterator[Work]:
    """Announce the work that the block does; see `Work`."""
    work = Work(text, total, unit, **more)
    _display.begin(work)
    try:
        yield work
    finally:
        _display.end(work)


def counted(items: Iterable[T], work: Work) -> Iterator[T]:
    """Yield the items, counting each in `work.done` when the next one is requested."""
    for item in items:
        yield item
        work.done += 1


def _drawn(work: Work) -> "RenderableType":
    from rich.progress_bar import ProgressBar
    from rich.spinner import Spinner
    from rich.table import Table
    from rich.text import Text

    if work.view is not None:
        return work.view
    grid = Table.grid(padding=(0, 1))
    cells: list[Any] = [Spinner("line", style="cyan")]
    if work.total:
        cells.append(ProgressBar(work.total, min(work.done, work.total), width=24))
    grid.add_row(*cells, Text(str(work), overflow="ellipsis", no_wrap=True))
    return grid

"""Watches the tasks of a stage while they run: their progress, and whether a process was lost."""

import signal
import sys
import time
from collections.abc import Callable
from threading import Event, Thread
from typing import Any

from nemo.collections.nlp.preparation.tasks import FAILED, Notes, is_gone
from nemo.utils.errors import NemoError

SECONDS_BETWEEN_GLANCES, SECONDS_BETWEEN_LOOKS = 0.05, 0.5

Report = Callable[[dict[int, dict[str, Any]]], None]
"""Called with the notes of the running tasks."""
GiveUp = Callable[[NemoError], None]
"""Called with the error that stops the stage."""


class Watch:
    """Reports the progress of a stage while it runs, and detects a killed process.

    Args:
        give_up: called with the error of a lost task; tasks in this process are never lost.
    """

    def __init__(self, notes: Notes, report: Report, give_up: GiveUp = lambda error: None):
        self._notes, self._report, self._give_up = notes, report, give_up
        self._stop = Event()
        self._thread = Thread(target=self._look, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        workers, last = _PoolWorkers(), time.monotonic()
        while not self._stop.wait(SECONDS_BETWEEN_GLANCES):
            is_one_gone = workers.is_one_gone()
            if time.monotonic() - last < SECONDS_BETWEEN_LOOKS:
                continue
            last = time.monotonic()
            notes = self._notes.look()
            self._report(notes)
            for number, note in notes.items():
                if is_gone(note) and self._notes.look().get(number) == note:
                    self._give_up(self._notes.lost(number, workers.told_of(note["pid"])))
                    return
            # A pool that is shutting down, with or without an error, has lost its workers too: wait for its
            # end.
            if is_one_gone and not self._stop.wait(SECONDS_BETWEEN_LOOKS) and (error := self._loss(workers)):
                self._give_up(error)
                return

    def _loss(self, workers: "_PoolWorkers") -> NemoError | None:
        """The error for the task of a lost process: the one it recorded, else the first task without a
        record.

        None if every task is accounted for, so that it had none.
        """
        notes = self._notes.look()
        if any(note["state"] == FAILED for note in notes.values()):
            return None
        if noted := sorted(number for number, note in notes.items() if is_gone(note)):
            return self._notes.lost(noted[0], workers.told_of(notes[noted[0]]["pid"]))
        unknown = set(range(self._notes.num_tasks)) - self._notes.done - notes.keys()
        return self._notes.lost(min(unknown), workers.told_of(), or_later=True) if unknown else None


class _PoolWorkers:
    """The worker processes of datatrove's pool, which replaces one that was killed, but not its task.

    A worker may be killed after taking a task but before recording it, while it is still importing.
    """

    def __init__(self) -> None:
        self._others = self._children()
        self._seen: set[Any] = set()

    def is_one_gone(self) -> bool:
        """Whether a process seen earlier has ended."""
        alive = self._children() - self._others
        self._seen |= alive
        return alive != self._seen

    def told_of(self, pid: int | None = None) -> str:
        """A message that the given process, or the lost one, was killed, and by which signal if known."""
        gone = [p for p in self._seen - self._children() if pid in (None, p.pid)]
        # The signal distinguishes it from those that ended on their own.
        number, pid = max(((-(p.exitcode or 0), p.pid) for p in gone), default=(0, pid))
        name = "a worker process" if pid is None else f"worker process {pid}"
        return f"{name} was killed" + (f" by {signal.Signals(number).name}" if number > 0 else "")

    @staticmethod
    def _children() -> set[Any]:
        multiprocess = sys.modules.get("multiprocess")  # the module with which datatrove starts processes
        return set(multiprocess.active_children()) if multiprocess else set()

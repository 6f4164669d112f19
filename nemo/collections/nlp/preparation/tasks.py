"""The status of each task, in a file, so that it is visible whatever engine runs the task.

[work]/tasks/<stage>-<number>.json   {"state": "running" | "done" | "failed", ...}
"""

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nemo.utils import errors
from nemo.utils.errors import DistributedError, NemoError
from nemo.utils.failures import as_error
from nemo.utils.files import write_atomically

SECONDS_BETWEEN_NOTES = 1.0
RUNNING, DONE, FAILED = "running", "done", "failed"


class Task:
    """One task of a stage, which records its own status."""

    def __init__(self, work: Path, stage: str, number: int):
        self._path = path_of(work, stage, number)
        self._last = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Record that the task is running, and then that it is done or why it failed."""
        self._note(RUNNING, bytes=0)
        try:
            yield
        except Exception as problem:
            error = as_error(problem)
            self._note(FAILED, kind=type(error).__name__, message=error.message)
            raise
        self._note(DONE)

    def progress(self, num_bytes: int) -> None:
        """Record from time to time how much text has been read."""
        if time.monotonic() - self._last > SECONDS_BETWEEN_NOTES:
            self._note(RUNNING, bytes=num_bytes)

    def _note(self, state: str, **more: Any) -> None:
        self._last = time.monotonic()
        note = {"state": state, "pid": os.getpid(), "host": socket.gethostname(), **more}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self._path, json.dumps(note).encode(), durable=False)


def path_of(work: Path, stage: str, number: int) -> Path:
    """The path of a task's status file."""
    return work / "tasks" / f"{stage}-{number:05d}.json"


class Notes:
    """The status of a stage's tasks, read from outside.

    Args:
        subject: number of a task -> readable description of what it works on.

    Attributes:
        done: the tasks that were done at the last `look`.
    """

    def __init__(self, work: Path, stage: str, num_tasks: int, subject: Callable[[int], str]):
        self.stage, self.num_tasks, self._subject = stage, num_tasks, subject
        self._paths = {number: path_of(work, stage, number) for number in range(num_tasks)}
        self.done: set[int] = set()

    def forget(self) -> None:
        """Remove the notes of an earlier run."""
        for path in self._paths.values():
            path.unlink(missing_ok=True)

    def look(self) -> dict[int, dict[str, Any]]:
        """The notes of tasks that are running or failed; updates `done`."""
        notes = {}
        for number in self._paths.keys() - self.done:
            try:
                note = json.loads(self._paths[number].read_bytes())
            except (OSError, ValueError):
                continue
            if note["state"] == DONE:
                self.done.add(number)
            else:
                notes[number] = note
        return notes

    def problem(self) -> NemoError | None:
        """The error of the first failed or lost task, once all should have ended; None if all are done."""
        notes = self.look()
        for _, note in sorted(notes.items()):
            if note["state"] == FAILED:
                return _restored(note)
        missing = sorted(self._paths.keys() - self.done)
        return self.lost(missing[0]) if missing else None

    def lost(self, number: int, ended: str = "its process was killed", or_later: bool = False) -> NemoError:
        """The error for a task whose process ended without reporting.

        Args:
            ended: which process ended, and why, as far as known.
            or_later: the process had recorded no task; `number` is the first it may have had.
        """
        task = f"task {self._paths[number].stem}, {self._subject(number)}"
        return process_lost(ended, where=f"{task}, or a later one" if or_later else task)


def process_lost(ended: str, where: str) -> NemoError:
    """The error for work whose process ended without reporting."""
    return DistributedError(
        f"{ended}, most likely because the memory ran out",
        where=where,
        fix="use fewer --workers, and run the same command again: it resumes from the finished tasks",
    )


def is_gone(note: dict[str, Any]) -> bool:
    """Whether the process of a task recorded as running has ended."""
    if note["state"] != RUNNING or note["host"] != socket.gethostname():
        return False
    try:
        os.kill(note["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False


def _restored(note: dict[str, Any]) -> NemoError:
    """The error of a task that failed in another process."""
    problem = getattr(errors, note["kind"], NemoError)("")
    problem.message = note["message"]
    return problem

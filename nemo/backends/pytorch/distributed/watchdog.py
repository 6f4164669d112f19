"""Detects a process that has died or hangs, and ends the others, which would wait for it forever.

Every process leaves a note each second: the number of its notes, what it is doing and for how long. Each
watches the next rank's notes, so the work does not grow with the number of processes. The first to detect a
problem writes the verdict, a note that all read.

A process without new notes is not necessarily dead: a library call may block its other threads. A process on
the same machine can check; one on another machine waits until the process counts as hung.
"""

import contextlib
import faulthandler
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

from nemo.utils.errors import DistributedError, reason

SECONDS_BETWEEN_NOTES = 1.0
SECONDS_UNTIL_GONE = 3.0
SECONDS_FOR_OTHERS_TO_SPEAK = 2.0
"""A failing process reports its own error first; the others report only if it does not."""
SECONDS_TO_HEAR = 30.0
"""The host of the store waits at most this long for the others to read the verdict before it ends.

A process that reported an error waits at most this long for its threads' last requests to the store.
"""
LOOKS_UNTIL_JUDGED = 8
"""Looks, at least a second apart, within which a lost process is detected and its error read."""

_VERDICT = "verdict"
_ENDED = "ended"
_WAITING = "waiting for "


class Watchdog:
    """Writes the heartbeat of process `rank` and watches the next one, in a separate thread.

    It ends this process with exit code 7 when there is a verdict that the work cannot go on.

    Args:
        store: the store for notes.
        seconds_until_hung: a process that does one thing for this long hangs, unless it waits for others.
        is_host: whether the store ends with this process.
    """

    def __init__(self, store: Any, rank: int, size: int, seconds_until_hung: float, is_host: bool):
        self._store, self._rank, self._size = store.clone(), rank, size
        self._seconds_until_hung, self._is_host = seconds_until_hung, is_host
        self._ended = Event()
        self._last_words = Lock()  # only one thread reports
        self._looks = 0
        self._lost: dict[str, Any] | None = None  # note of a lost process on this machine
        self._first: dict[str, Any] | None = None  # note of rank 0, which may host the store
        self._looked = time.monotonic()
        self.now("starting")
        self._threads = [
            Thread(target=work, daemon=True, name="watchdog") for work in (self._look, self._watch_store)
        ]
        for thread in self._threads:
            thread.start()

    def now(self, phase: str, limited: bool = True) -> None:
        """Record what this process does from now on; if `limited`, it counts as hung if it takes too long."""
        self._doing = (phase, limited, time.monotonic())

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """A context in which this process waits for the others.

        Raises:
            DistributedError: the others cannot be reached; names the cause if known.
        """
        before = self._doing
        self.now(f"{_WAITING}{what}", limited=False)
        try:
            yield
        except RuntimeError as problem:
            raise self._explained(problem) from None
        self.now(before[0], limited=before[1])

    def tell(self, problem: str) -> None:
        """Notify the others that this process ends with an error, which it reports itself."""
        with contextlib.suppress(RuntimeError):  # the store may no longer answer
            self._judge({"rank": self._rank, "what": problem, "is_told": True})
            self._hear()
        self.stop(SECONDS_TO_HEAR)  # on a busy machine, the thread's last requests take a while

    def leave(self) -> None:
        """End with the script; the host of the store waits until all others have ended."""
        self.now(_ENDED, limited=False)
        self._leave_note()
        while self._is_host and not all(self._has_ended(rank) for rank in range(self._size)):
            time.sleep(SECONDS_BETWEEN_NOTES / 10)
        self.stop()

    def stop(self, seconds: float | None = None) -> None:
        """Stop watching and join the threads, which would abort the interpreter if it ended before them.

        Args:
            seconds: time limit for each thread; None: no limit.
        """
        self._ended.set()
        for thread in self._threads:
            thread.join(seconds)

    def _explained(self, problem: RuntimeError) -> DistributedError:
        """The error of a broken connection, unless a verdict with the cause ends this process first."""
        enough = self._looks + LOOKS_UNTIL_JUDGED
        while self._looks < enough and self._threads[0].is_alive():  # a verdict ends this process
            time.sleep(SECONDS_BETWEEN_NOTES / 10)
        found = reason(problem)
        return DistributedError(
            "lost the connection to the other processes", where=f"rank {self._rank}", found=found
        )

    def _look(self) -> None:
        try:
            self._look_until_ended()
        except RuntimeError as problem:  # the store is gone, and so is rank 0 or the launcher
            if not self._ended.wait(SECONDS_FOR_OTHERS_TO_SPEAK):
                found = reason(problem)
                self._end("the store of rank 0 or its launcher cannot be reached", found=found)

    def _watch_store(self) -> None:
        """Detect a stopped store, which gives neither an answer nor an error."""
        woke = time.monotonic()
        while not self._ended.wait(SECONDS_BETWEEN_NOTES):
            slept, woke = time.monotonic() - woke, time.monotonic()
            if slept > SECONDS_UNTIL_GONE:  # this process was stopped itself
                self._looked = woke
            silence = woke - self._looked
            if silence > SECONDS_UNTIL_GONE and self._first is not None and _is_lost(self._first):
                self._lost = self._first
                self._end(f"rank 0 ({_who(self._first)}) was killed or stopped, and the store with it")
            elif silence > self._seconds_until_hung:
                self._end(f"the store of rank 0 or its launcher has not answered for {silence:.0f} s")

    def _look_until_ended(self) -> None:
        next_rank = (self._rank + 1) % self._size
        theirs, changed = None, time.monotonic()
        while not self._ended.wait(SECONDS_BETWEEN_NOTES):
            self._looks += 1
            self._looked = time.monotonic()
            self._leave_note()
            self._first = self._first or self._note_of(0)
            if self._store.check([_VERDICT]):
                self._obey(json.loads(self._store.get(_VERDICT)))
            now, note = time.monotonic(), self._note_of(next_rank)
            if note != theirs:
                theirs, changed = note, now
            if note is None:
                continue
            if note["phase"] == _ENDED:
                if self._needs_others():
                    self._judge({"rank": next_rank, "what": f"({_who(note)}) has ended before the others"})
                continue
            silence = now - changed
            if silence > SECONDS_UNTIL_GONE and _is_lost(note):
                self._judge(
                    {"rank": next_rank, "what": f"({_who(note)}) was killed or stopped, {note['phase']}"}
                )
                self._lost = note
            elif silence > self._seconds_until_hung or (
                note["limited"] and note["seconds"] > self._seconds_until_hung
            ):
                seconds = max(silence, note["seconds"])
                what = f"({_who(note)}) hangs: {note['phase']} for {seconds:.0f} s"
                self._judge({"rank": next_rank, "what": what, "is_hung": True})

    def _note_of(self, rank: int) -> dict[str, Any] | None:
        key = f"note/{rank}"
        return json.loads(self._store.get(key)) if self._store.check([key]) else None

    def _needs_others(self) -> bool:
        phase, _, since = self._doing
        return phase.startswith(_WAITING) and time.monotonic() - since > SECONDS_UNTIL_GONE

    def _leave_note(self) -> None:
        phase, limited, since = self._doing
        note = {"number": self._looks, "pid": os.getpid(), "host": socket.gethostname(), "pids": _pids()}
        note |= {"phase": phase, "limited": limited, "seconds": time.monotonic() - since}
        self._store.set(f"note/{self._rank}", json.dumps(note))

    def _judge(self, verdict: dict[str, Any]) -> None:
        """Make this the verdict, unless there is one already."""
        self._store.compare_set(_VERDICT, "", json.dumps(verdict))

    def _hear(self) -> None:
        """Confirm that this process knows the verdict; the host waits until all living processes do."""
        self._store.set(f"heard/{self._rank}", "")
        deadline = time.monotonic() + SECONDS_TO_HEAR
        while self._is_host and time.monotonic() < deadline:
            self._looked = time.monotonic()
            if all(self._store.check([f"heard/{rank}"]) or self._is_over(rank) for rank in range(self._size)):
                break
            time.sleep(SECONDS_BETWEEN_NOTES / 10)

    def _has_ended(self, rank: int) -> bool:
        note = self._note_of(rank)
        return note is not None and note["phase"] == _ENDED

    def _is_over(self, rank: int) -> bool:
        note = self._note_of(rank)
        return note is not None and (note["phase"] == _ENDED or _is_lost(note))

    def _obey(self, verdict: dict[str, Any]) -> None:
        if verdict["rank"] == self._rank and verdict.get("is_told"):
            self._ended.set()  # this process is already ending
            return
        if verdict["rank"] == self._rank and verdict.get("is_hung"):
            faulthandler.dump_traceback(all_threads=True)
        if not verdict.get("is_told"):  # else the failing process has reported it
            self._say(f"rank {verdict['rank']} {verdict['what']}")
        with contextlib.suppress(RuntimeError):
            self._hear()
        self._exit()

    def _end(self, problem: str, **more: Any) -> None:
        self._say(problem, **more)
        self._exit()

    def _say(self, problem: str, **more: Any) -> None:
        error = DistributedError(
            problem,
            where=f"rank {self._rank}",
            fix="run the same command again: it resumes from the last checkpoint",
            **more,
        )
        self._last_words.acquire()  # never released
        sys.stderr.write(f"error[{error.kind}] {error}\n")
        sys.stderr.flush()

    def _exit(self) -> None:
        # Only after the report: a launcher kills all processes as soon as one ends.
        if self._lost is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._lost["pid"], signal.SIGKILL)  # a stopped process would not see the verdict
        os._exit(DistributedError.exit_code)


def _who(note: dict[str, Any]) -> str:
    return f"process {note['pid']} on {note['host']}"


def _is_lost(note: dict[str, Any]) -> bool:
    """Whether a process on this machine is dead or stopped; False for other machines."""
    if (note["host"], note["pids"]) != (socket.gethostname(), _pids()):
        return False
    try:
        status = Path(f"/proc/{note['pid']}/stat").read_text()
    except OSError:
        return True
    return status.rpartition(")")[2].split()[0] in "ZTtX"


def _pids() -> str:
    """The PID namespace: containers may share a host name but not their process numbers."""
    return os.readlink("/proc/self/ns/pid")

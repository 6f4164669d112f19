"""Being asked to stop by a signal: a scheduler's SIGTERM or SIGUSR1, Ctrl-C, a terminal that closes."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from nemo.utils.errors import Preempted

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP)
SECONDS_OF_ONE_REQUEST = 1.0
"""A scheduler and a launcher may both pass on the same request; what comes later is a second one."""

Handler = Any  # what signal.signal takes and gives

_handled: dict[int, Handler] = {}  # by this process: signal -> who had it before


class StopSignals:
    """`with StopSignals() as stop:` - the first signal only sets `stop.asked`; a second one does as ever.

    Signals that are ignored (by nohup, say) stay so. Outside the main thread nothing changes, as Python has
    no handlers there.

    Attributes:
        asked: the name of the first signal.
    """

    asked: str | None = None

    def __enter__(self) -> "StopSignals":
        self._before = _handle(SIGNALS, self._heed)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _put_back(self._before)

    def _heed(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.asked is None:
            self.asked, self._since = signal.Signals(number).name, now
        elif now - self._since > SECONDS_OF_ONE_REQUEST:
            _put_back(self._before)
            signal.raise_signal(number)


class Stop(BaseException):
    """A signal arrived. Not an Exception, so that no handler in between swallows it."""

    kind = Preempted.kind


@contextmanager
def stops_are_errors() -> Iterator[None]:
    """A signal that would end the process without a word raises `Stop` inside the block.

    Raises:
        Preempted: there was one.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stop(f"stopped by {signal.Signals(number).name}")

    before = _handle((signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP), stop)
    try:
        yield
    except Stop as stopped:
        raise Preempted(str(stopped), fix="run the same command again to resume") from None
    finally:
        _put_back(before)


def _handle(signals: tuple[signal.Signals, ...], handler: Handler) -> dict[int, Handler]:
    """Have them handled; returns who did it before."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    heeded = [number for number in signals if signal.getsignal(number) is not signal.SIG_IGN]
    before: dict[int, Handler] = {number: signal.signal(number, handler) for number in heeded}
    for number, first in before.items():
        _handled.setdefault(number, first)
    return before


def _put_back(handlers: dict[int, Handler]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)
        if _handled.get(number) is handler:
            del _handled[number]
    handlers.clear()


def _forget_in_child() -> None:
    """Restore default handlers in a worker: its pool stops it by SIGTERM."""
    _put_back(dict(_handled))


os.register_at_fork(after_in_child=_forget_in_child)

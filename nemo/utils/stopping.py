"""Stopping on a signal: a scheduler's SIGTERM or SIGUSR1, Ctrl-C, or a closed terminal's SIGHUP."""

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
"""A scheduler and a launcher may both forward the same request; a later signal is a second request."""

Handler = Any  # the type of signal.signal's argument and result

_handled: dict[int, Handler] = {}  # signals that this process handles -> their previous handlers


class StopSignals:
    """`with StopSignals() as stop:` the first signal sets `stop.received`; a second has its usual effect.

    Signals that are ignored (by nohup, for example) stay ignored. No effect outside the main thread, where
    Python allows no handlers.

    Attributes:
        received: name of the first signal; None if there was none.
    """

    received: str | None = None

    def __enter__(self) -> "StopSignals":
        self._before = _handle(SIGNALS, self._heed)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _put_back(self._before)

    def _heed(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.received is None:
            self.received, self._since = signal.Signals(number).name, now
        elif now - self._since > SECONDS_OF_ONE_REQUEST:
            _put_back(self._before)
            signal.raise_signal(number)


class Stop(BaseException):
    """A signal arrived. Not an Exception, so that no handler in between swallows it."""

    kind = Preempted.kind


@contextmanager
def stops_are_errors() -> Iterator[None]:
    """Turn signals that would silently end the process into an error, at the end of the block.

    Raises:
        Preempted: a signal arrived.
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
    """Set `handler` for those signals that are not ignored; return their previous handlers."""
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
    """Restore the previous handlers in a child: a pool stops its workers with SIGTERM."""
    _put_back(dict(_handled))


os.register_at_fork(after_in_child=_forget_in_child)

"""The one logger. Others take it from here: `from nemo.utils.logging import logging`."""

import logging as _std
import os
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from enum import IntEnum
from typing import Any, TextIO


class LogMode(IntEnum):
    """EACH call is logged, or ONCE per text for the life of the process."""

    EACH = 0
    ONCE = 1


class _Formatter(_std.Formatter):
    """`[NeMo I 2020-01-01 00:00:00 module:line] text`, as NeMo 0.10 wrote it; what a program needs."""

    def __init__(self) -> None:
        super().__init__(
            "[NeMo %(levelname).1s %(asctime)s %(module)s:%(lineno)d] %(message)s",
            datefmt="%Y-%m-%d %H:%M:%S",
        )


class _FormatterForPeople(_std.Formatter):
    """`00:00:00 text`, and of more than a notice what it is: `00:00:00 warning: text`."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(message)s", datefmt="%H:%M:%S")

    def formatMessage(self, record: _std.LogRecord) -> str:
        kind = f"{record.levelname.lower()}: " if record.levelno > _std.INFO else ""
        return f"{record.asctime} {kind}{record.message}"


class _Patient(_std.StreamHandler):
    """Keeps going when writing fails: the disk is full (reported once), or a pipe is closed."""

    _has_told = False

    def handleError(self, record: _std.LogRecord) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self._has_told and not isinstance(error, BrokenPipeError):
            self._has_told = True
            name = getattr(self, "baseFilename", "the log")
            with suppress(OSError):
                sys.stderr.write(
                    f"[NeMo W] {name}: {error.strerror}; log lines are lost until it can be written\n"
                )


class _LogFile(_Patient, _std.FileHandler):
    pass


class _StreamOfTheMoment(_Patient):
    """Writes to what `sys.stdout` or `sys.stderr` is now, so that redirection later still works."""

    def __init__(self, name: str):
        super().__init__(getattr(sys, name))
        self.stream_name = name

    @property
    def stream(self) -> TextIO:
        return getattr(sys, self.stream_name)

    @stream.setter
    def stream(self, _: TextIO) -> None:
        """The base class sets a stream once; ours is looked up at each use."""

    def emit(self, record: _std.LogRecord) -> None:
        # A closed stream is skipped, and lines that a live display already shows are not repeated.
        if self.stream is not None and not getattr(record, "is_shown", False):
            super().emit(record)
            logging.last_shown = time.monotonic()

    def format(self, record: _std.LogRecord) -> str:
        """What the stream cannot encode is escaped."""
        encoding = getattr(self.stream, "encoding", None) or "utf-8"
        return super().format(record).encode(encoding, "backslashreplace").decode(encoding)


def _filled(text: str, args: tuple[Any, ...]) -> str:
    """`text % args` as a standard logger has it; what does not fit is appended, as a print would do."""
    values: Any = args
    if len(args) == 1 and isinstance(args[0], Mapping) and args[0]:  # "%(name)s"
        values = args[0]
    try:
        return text % values if args else text
    except (TypeError, ValueError, KeyError):
        return " ".join([text, *map(str, args)])


class Logger:
    """INFO and below to stdout, above to stderr; silent on ranks above 0.

    `info` and the others take what the methods of a standard logger take, such as `exc_info=True`, which adds
    the traceback. Arguments for which the text has no place follow it.
    """

    last_shown = 0.0
    """When a line was last written to stdout or stderr, of `time.monotonic()`."""
    NOTSET, DEBUG, INFO, WARNING, ERROR, CRITICAL = 0, 10, 20, 30, 40, 50

    def __init__(self) -> None:
        self._logger = _std.getLogger("nemo_logger")
        self._logger.propagate = False
        self._logger.setLevel(_std.INFO)
        self._said_once: set[str] = set()
        self._warnings_shown = warnings.showwarning
        if int(os.environ.get("RANK", "0")) == 0:
            out, err = _StreamOfTheMoment("stdout"), _StreamOfTheMoment("stderr")
            out.addFilter(lambda record: record.levelno <= _std.INFO)
            err.setLevel(_std.WARNING)
            for handler in (out, err):
                self.add_handler(handler)

    @contextmanager
    def for_people(self) -> Iterator[None]:
        """Inside the block, lines on stdout and stderr carry a time, and no names of source files."""
        handlers = [h for h in self._logger.handlers if isinstance(h, _StreamOfTheMoment)]
        before = [handler.formatter for handler in handlers]
        for handler in handlers:
            handler.setFormatter(_FormatterForPeople())
        try:
            yield
        finally:
            for handler, formatter in zip(handlers, before, strict=True):
                handler.setFormatter(formatter)

    def add_handler(self, handler: _std.Handler) -> None:
        """Log to `handler` too, in this format."""
        handler.setFormatter(_Formatter())
        self._logger.addHandler(handler)

    def remove_handler(self, handler: _std.Handler) -> None:
        """Stop logging to `handler`."""
        self._logger.removeHandler(handler)

    def add_file_handler(self, path: str | os.PathLike[str]) -> _std.Handler:
        """Log to a file as well; returns the handler for `remove_handler`."""
        handler = _LogFile(path, encoding="utf-8", errors="backslashreplace")
        self.add_handler(handler)
        return handler

    def _log(
        self, level: int, text: Any, args: tuple[Any, ...], mode: LogMode, more: Mapping[str, Any]
    ) -> None:
        if mode == LogMode.ONCE:
            if str(text) in self._said_once:
                return
            self._said_once.add(str(text))
        if self._logger.isEnabledFor(level):
            # The name of a file may have bytes that are no UTF-8.
            line = _filled(str(text), args).encode("utf-8", "backslashreplace").decode()
            self._logger.log(level, "%s", line, **{"stacklevel": 3, **more})

    def debug(self, text: Any, *args: Any, mode: LogMode = LogMode.EACH, **more: Any) -> None:
        """For those who look for a fault."""
        self._log(self.DEBUG, text, args, mode, more)

    def info(self, text: Any, *args: Any, mode: LogMode = LogMode.EACH, **more: Any) -> None:
        """What is going on."""
        self._log(self.INFO, text, args, mode, more)

    def warning(self, text: Any, *args: Any, mode: LogMode = LogMode.EACH, **more: Any) -> None:
        """What a user should look at."""
        self._log(self.WARNING, text, args, mode, more)

    def error(self, text: Any, *args: Any, mode: LogMode = LogMode.EACH, **more: Any) -> None:
        """What went wrong."""
        self._log(self.ERROR, text, args, mode, more)

    def critical(self, text: Any, *args: Any, mode: LogMode = LogMode.EACH, **more: Any) -> None:
        """What ends the program."""
        self._log(self.CRITICAL, text, args, mode, more)

    def setLevel(self, level: int | str) -> None:
        """Show nothing below `level`."""
        self._logger.setLevel(level)

    def getEffectiveLevel(self) -> int:
        """The level below which nothing is shown."""
        return self._logger.getEffectiveLevel()

    set_verbosity, get_verbosity = setLevel, getEffectiveLevel

    @contextmanager
    def temp_verbosity(self, level: int | str) -> Iterator[None]:
        """`setLevel(level)` inside the `with` block."""
        before = self._logger.level
        self.setLevel(level)
        try:
            yield
        finally:
            self.setLevel(before)

    @contextmanager
    def patch_stderr_handler(self, stream: TextIO) -> Iterator[TextIO]:
        """Send warnings and errors to `stream` inside the `with` block, which is given it as well."""
        err = [h for h in self._logger.handlers if getattr(h, "stream_name", "") == "stderr"]
        redirected = _std.StreamHandler(stream)
        redirected.setLevel(_std.WARNING)
        for handler in err:
            self.remove_handler(handler)
        self.add_handler(redirected)
        try:
            yield stream
        finally:
            self.remove_handler(redirected)
            for handler in err:
                self.add_handler(handler)

    def captureWarnings(self, capture: bool) -> None:
        """Show `warnings.warn` through this logger, or no longer."""

        def show(message, category, filename, lineno, file=None, line=None):  # type: ignore[no-untyped-def]
            self.warning("%s:%s %s: %s", filename, lineno, category.__name__, message)

        warnings.showwarning = show if capture else self._warnings_shown


logging = Logger()

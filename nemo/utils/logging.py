"""The logger of the package: `from nemo.utils.logging import logging`."""

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
    """Log EACH call, or each text only ONCE per process."""

    EACH = 0
    ONCE = 1


class _Formatter(_std.Formatter):
    """`[NeMo I 2020-01-01 00:00:00 module:line] text`: the format of NeMo 0.10, for programs."""

    def __init__(self) -> None:
        super().__init__(
            "[NeMo %(levelname).1s %(asctime)s %(module)s:%(lineno)d] %(message)s",
            datefmt="%Y-%m-%d %H:%M:%S",
        )


class _FormatterForPeople(_std.Formatter):
    """`00:00:00 text`, or `00:00:00 warning: text` for warnings and above."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(message)s", datefmt="%H:%M:%S")

    def formatMessage(self, record: _std.LogRecord) -> str:
        kind = f"{record.levelname.lower()}: " if record.levelno > _std.INFO else ""
        return f"{record.asctime} {kind}{record.message}"


class _Patient(_std.StreamHandler):
    """Continues when writing fails: on a full disk (reported once) or a closed pipe."""

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
    """Writes to the current `sys.stdout` or `sys.stderr`, so that later redirection works."""

    def __init__(self, name: str):
        super().__init__(getattr(sys, name))
        self.stream_name = name

    @property
    def stream(self) -> TextIO:
        return getattr(sys, self.stream_name)

    @stream.setter
    def stream(self, _: TextIO) -> None:
        """Ignored: the base class sets a stream once, but ours is looked up at each use."""

    def emit(self, record: _std.LogRecord) -> None:
        # Skip a missing stream, and lines that a live display already shows.
        if self.stream is not None and not getattr(record, "is_shown", False):
            super().emit(record)
            logging.last_shown = time.monotonic()

    def format(self, record: _std.LogRecord) -> str:
        """Escape characters that the stream cannot encode."""
        encoding = getattr(self.stream, "encoding", None) or "utf-8"
        return super().format(record).encode(encoding, "backslashreplace").decode(encoding)


def _filled(text: str, args: tuple[Any, ...]) -> str:
    """`text % args`, as in a standard logger; if they do not match, the arguments are appended."""
    values: Any = args
    if len(args) == 1 and isinstance(args[0], Mapping) and args[0]:  # "%(name)s"
        values = args[0]
    try:
        return text % values if args else text
    except (TypeError, ValueError, KeyError):
        return " ".join([text, *map(str, args)])


class Logger:
    """Logs INFO and below to stdout, warnings and errors to stderr; silent on ranks above 0.

    `info` and the others take the arguments of a standard logger's methods, such as `exc_info=True`, which
    adds the traceback. Arguments without a place in the text are appended.
    """

    last_shown = 0.0
    """Time of the last line on stdout or stderr, by `time.monotonic()`."""
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
        """Inside the block, lines on stdout and stderr show the time but no source file."""
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
        """Also log to `handler`, in NeMo 0.10's format."""
        handler.setFormatter(_Formatter())
        self._logger.addHandler(handler)

    def remove_handler(self, handler: _std.Handler) -> None:
        """Stop logging to `handler`."""
        self._logger.removeHandler(handler)

    def add_file_handler(self, path: str | os.PathLike[str]) -> _std.Handler:
        """Also log to a file; return the handler for `remove_handler`."""
        handler = _LogFile(path, encoding="utf-8", errors="backslashreplace")
        self.add_handler(handler)
        return handler

    def _log(
        self, level: int, text: Any, args: tuple[Any, ...], mode: LogMode, more: Mapping[str, Any]
    ) -> None:
        if self._logger.isEnabledFor(level):
            if mode == LogMode.ONCE:
                if str(text) in self._said_once:
                    return
                self._said_once.add(str(text))
            # File names may contain bytes that are not UTF-8.
            line = _filled(str(text), args).encode("utf-8", "backslashreplace").decode()
            self._logger.log(level, "%s", line, **{"stacklevel": 3, **more})

    def debug(self, text: Any, *args: Any, mode: LogMode = LogMode.EACH, **more: Any) -> None:
        """Log details for debugging."""
        self._log(self.DEBUG, text, args, mode, more)

    def info(self, text: Any, *args: Any, mode: LogMode = LogMode.EACH, **more: Any) -> None:
        """Log the normal progress of a run."""
        self._log(self.INFO, text, args, mode, more)

    def warning(self, text: Any, *args: Any, mode: LogMode = LogMode.EACH, **more: Any) -> None:
        """Log something that the user should check; the run goes on."""
        self._log(self.WARNING, text, args, mode, more)

    def error(self, text: Any, *args: Any, mode: LogMode = LogMode.EACH, **more: Any) -> None:
        """Log an error; unlike after `critical`, the program may go on."""
        self._log(self.ERROR, text, args, mode, more)

    def critical(self, text: Any, *args: Any, mode: LogMode = LogMode.EACH, **more: Any) -> None:
        """Log an error that ends the program."""
        self._log(self.CRITICAL, text, args, mode, more)

    def setLevel(self, level: int | str) -> None:
        """Hide messages below `level`."""
        self._logger.setLevel(level)

    def getEffectiveLevel(self) -> int:
        """The lowest level that is shown."""
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
        """Send warnings and errors to `stream` inside the `with` block; yield `stream`."""
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
        """Redirect `warnings.warn` to this logger, or stop doing so."""

        def show(message, category, filename, lineno, file=None, line=None):  # type: ignore[no-untyped-def]
            self.warning("%s:%s %s: %s", filename, lineno, category.__name__, message)

        warnings.showwarning = show if capture else self._warnings_shown


logging = Logger()

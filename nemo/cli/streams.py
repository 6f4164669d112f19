"""Robust standard streams: any character can be written, and a closed pipe is not an error."""

import codecs
import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TextIO

from nemo.utils.errors import StorageError
from nemo.utils.files import FULL

SPELLED_OUT = "nemo-spelled-out"
"""An error handler that replaces characters a stream cannot encode by similar ones, or by escapes."""

_ALIKE = {"█": "#", "·": "|", "→": "->", "…": "...", "—": "-", "≥": ">=", "≤": "<=", "×": "x"}
_ALIKE |= dict.fromkeys("▏▎▍▌▋▊▉", "#") | dict.fromkeys("─━╸╺", "-")


def _spell_out(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    spelled = "".join(_ALIKE.get(c) or c.encode("ascii", "backslashreplace").decode() for c in text)
    return spelled, error.end


codecs.register_error(SPELLED_OUT, _spell_out)


class _Output(io.FileIO):
    """A file descriptor for output that records the first error instead of raising it."""

    problem: OSError | None = None

    def write(self, data: bytes) -> int:  # type: ignore[override]
        try:
            return super().write(data)
        except OSError as problem:
            self.problem = self.problem or problem
            return len(data)


@contextmanager
def tolerant_streams() -> Iterator[Callable[[], None]]:
    """Inside the block, standard output and error accept every character and survive a closed pipe.

    If a pipe's reader is gone (`nemo-bert inspect text | head -1`), output is discarded and the command
    completes. Other errors, such as a full disk, are raised by the function that the block receives.

    Raises (that function):
        StorageError: standard output could not be written completely.
    """
    before = sys.stdout, sys.stderr
    outputs = [
        _Output(stream.fileno(), "w", closefd=False) if _is_file(stream) else None for stream in before
    ]

    def check() -> None:
        sys.stdout.flush()
        problem = outputs[0].problem if outputs[0] is not None else None
        if problem is not None and not isinstance(problem, BrokenPipeError):
            what = "disk full" if problem.errno in FULL else (problem.strerror or str(problem)).lower()
            raise StorageError(what, where="standard output", fix="redirect it elsewhere") from problem

    with ExitStack() as stack:
        sys.stdout, sys.stderr = (
            stack.enter_context(_tolerant(stream, output))
            for stream, output in zip(before, outputs, strict=True)
        )
        try:
            yield check
        finally:
            sys.stdout, sys.stderr = before


def _is_file(stream: TextIO | None) -> bool:
    """Whether a stream is a real file or pipe, and not a notebook's or a test's."""
    with suppress(OSError, ValueError, AttributeError):
        return isinstance(stream, io.TextIOWrapper) and stream.fileno() >= 0
    return False


@contextmanager
def _tolerant(stream: TextIO | None, output: _Output | None) -> Iterator[TextIO]:
    if stream is None:  # closed from the beginning
        with open(os.devnull, "w", encoding="utf-8") as nowhere:
            yield nowhere
    elif not isinstance(stream, io.TextIOWrapper):
        yield stream
    elif output is None:
        errors = stream.errors
        stream.reconfigure(errors=SPELLED_OUT)
        yield stream
        stream.reconfigure(errors=errors)
    else:
        stream.flush()
        buffer = io.BufferedWriter(output)  # type: ignore[type-var]
        is_by_line, is_direct = stream.line_buffering, stream.write_through
        with io.TextIOWrapper(
            buffer, stream.encoding, SPELLED_OUT, line_buffering=is_by_line, write_through=is_direct
        ) as tolerant:
            yield tolerant


def open_standard_descriptors() -> None:
    """Open closed standard descriptors (`>&-`), so that no other file takes their numbers."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


def use_utf8() -> None:
    """Restart in Python's UTF-8 mode if the locale (such as `LC_ALL=C`) supports only ASCII.

    Python does so itself unless configured otherwise. Without it, file names and arguments contain surrogate
    escapes, which native libraries refuse.
    """
    if sys.getfilesystemencoding() == "ascii" and os.environ.get("PYTHONUTF8") != "1":
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, "PYTHONUTF8": "1"})

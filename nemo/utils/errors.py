"""One-line errors and their exit codes."""

import re
from typing import Any

MOST_OF_A_REASON = 400  # maximum number of characters quoted from another library's message
_STACK = re.compile(r"Exception raised from |frame #0")  # where torch appends its C++ stack


class NemoError(Exception):
    """Base class of errors that the user can fix.

    The text reads `where: problem; found X, expected Y; fix: Z`; parts that are not given are left out.

    Args:
        problem: what is wrong, without a full stop.
        where: file, file:line, option or field.
        found: the actual value.
        expected: the expected value.
        fix: how to fix it.
    """

    kind = "INTERNAL"
    exit_code = 1
    is_of_all = False
    """Whether all processes of a run raise it at the same step, so that none must notify the others."""

    def __init__(
        self, problem: str, *, where: Any = "", found: Any = None, expected: Any = None, fix: str = ""
    ):
        comparison = [
            f"{word} {value}"
            for word, value in (("found", found), ("expected", expected))
            if value is not None
        ]
        parts = [f"{where}: {problem}" if str(where) else problem]
        if comparison:
            parts.append(", ".join(comparison))
        if fix:
            parts.append(f"fix: {fix}")
        # The text may quote a user's file: control characters must not reach a terminal.
        self.message = "".join(c if c.isprintable() else repr(c)[1:-1] for c in "; ".join(parts))
        super().__init__(self.message)

    def __str__(self) -> str:
        return self.message


def reason(error: BaseException) -> str:
    """The message of another library's error, on one line and without a C++ stack."""
    message, *_ = _STACK.split(str(error))
    text = " ".join(message.split()).rstrip(".") or type(error).__name__
    return text if len(text) <= MOST_OF_A_REASON else f"{text[:MOST_OF_A_REASON]} ..."


class MemoryShortageError(NemoError, MemoryError):
    """Not enough memory."""

    kind = "MEMORY"


class UsageError(NemoError, ValueError):
    """An invalid option, argument or configuration."""

    kind, exit_code = "USAGE", 2


class ExistingFileError(UsageError, FileExistsError):
    """A file that already exists and is not overwritten."""


class DataError(NemoError, ValueError):
    """A text, vocabulary or shard that cannot be used."""

    kind, exit_code = "DATA", 3


class MissingFileError(DataError, FileNotFoundError):
    """A file or folder that does not exist."""


class CheckpointError(NemoError, ValueError):
    """A checkpoint or model that is damaged or does not match."""

    kind, exit_code = "CHECKPOINT", 4


class StorageError(NemoError, OSError):
    """A disk that is full, read-only or failing."""

    kind, exit_code = "STORAGE", 5


class NumericError(NemoError, ArithmeticError):
    """A loss or gradient that is not a finite number."""

    kind, exit_code = "NUMERIC", 6


class DistributedError(NemoError, RuntimeError):
    """Processes that disagree, hang or have died."""

    kind, exit_code = "DISTRIBUTED", 7


class BusyError(NemoError, RuntimeError):
    """A folder that another run is using."""

    kind, exit_code = "BUSY", 8


class Preempted(NemoError, SystemExit):
    """Training was stopped on request; it is saved and can be resumed.

    A SystemExit, so that a script that does not catch it exits with code 75 and without a traceback.
    """

    kind, exit_code = "PREEMPTED", 75

    def __init__(self, problem: str, *, fix: str = ""):
        super().__init__(problem, fix=fix)
        self.code = self.exit_code

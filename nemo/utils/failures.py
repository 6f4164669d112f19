"""Turns any exception into an error that the user can fix."""

import errno

from nemo.utils.errors import DataError, MemoryShortageError, NemoError

# Errors on a path to read, with the fix. Errors on files that we write are StorageErrors.
_OF_A_PATH = {
    errno.EACCES: ("no permission", "change its permissions"),
    errno.EPERM: ("no permission", "change its permissions"),
    errno.ELOOP: ("a link to itself", "give the file itself"),
    errno.ENAMETOOLONG: ("a name that is too long", "use a shorter path"),
}
_LESS_MEMORY = "a smaller --batch_size, shorter sequences, a smaller model, or fewer workers"


def as_error(problem: Exception) -> NemoError:
    """The error to report for an exception; an unexpected one becomes an internal error."""
    if isinstance(problem, NemoError):
        return problem
    if isinstance(problem, OSError) and problem.errno in _OF_A_PATH:
        found, fix = _OF_A_PATH[problem.errno]
        return DataError("cannot be read", where=problem.filename or "", found=found, fix=fix)
    message = next(iter(str(problem).splitlines()), "")
    # torch reports a lack of memory by the class of the error, or only in its text.
    is_named = isinstance(problem, MemoryError) or type(problem).__name__ == "OutOfMemoryError"
    if is_named or "can't allocate memory" in message:
        return MemoryShortageError(f"not enough memory: {message}", fix=_LESS_MEMORY)
    return NemoError(
        f"internal error: {type(problem).__name__}: {message}", fix="report it with the output of --debug"
    )

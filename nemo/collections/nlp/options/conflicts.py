"""Options of which only one may be given."""

from nemo.utils.errors import UsageError


def conflict(first: str, second: str, why: str = "") -> UsageError:
    """The error about two options that cannot be combined; `why`, if the options do not tell."""
    reason = f": {why}" if why else ""
    return UsageError(f"{first} and {second} cannot be combined{reason}", fix="leave one of them out")

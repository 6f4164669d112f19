"""Find a thing by name, or say which names come close."""

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

from nemo.utils.errors import UsageError

T = TypeVar("T")


def closest(name: str, names: Iterable[str]) -> str | None:
    """The one of `names` that looks most like `name`, upper and lower case alike; None if none does."""
    by_lower_case = {known.lower(): known for known in names}
    found = difflib.get_close_matches(name.lower(), by_lower_case, n=1, cutoff=0.6)
    return by_lower_case[found[0]] if found else None


def choose(table: Mapping[str, T], name: str, what: str) -> T:
    """`table[name]`.

    Raises:
        UsageError: `name` is not in the table; names the closest entry and lists all of them.
    """
    if name in table:
        return table[name]
    nearest = closest(str(name), table)
    raise UsageError(
        f"unknown {what}",
        found=repr(name),
        expected=f"one of {', '.join(table)}",
        fix=f"did you mean {nearest!r}?" if nearest else "",
    )

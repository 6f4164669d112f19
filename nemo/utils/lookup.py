"""Look up an entry by name, and suggest the closest name if there is none."""

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

from nemo.utils.errors import UsageError

T = TypeVar("T")


def closest(name: str, names: Iterable[str]) -> str | None:
    """The most similar of `names`, ignoring case; None if none is similar."""
    by_lower_case = {known.lower(): known for known in names}
    found = difflib.get_close_matches(name.lower(), by_lower_case, n=1, cutoff=0.6)
    return by_lower_case[found[0]] if found else None


def choose(table: Mapping[str, T], name: str, what: str) -> T:
    """`table[name]`.

    Raises:
        UsageError: `name` is not in the table; the message suggests the closest entry and lists all.
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

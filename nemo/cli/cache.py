"""`nemo-bert cache`: list or clear the user's cache folder, which runs share."""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nemo.utils.arguments import CommandLine, check, option


@dataclass(frozen=True)
class CacheOptions:
    """Whether to clear the cache."""

    clear: bool = option(False, "delete everything in it; it is rebuilt when needed")

    def __post_init__(self) -> None:
        check(self)


COMMAND_LINE = CommandLine(
    CacheOptions,
    "nemo-bert cache",
    "List the user's cache folder: tokenized texts and compiled CPU kernels, shared by all runs.",
    examples="nemo-bert cache\nnemo-bert cache --clear",
)


def run(argv: Sequence[str]) -> None:
    """List the cache, or clear it."""
    options = COMMAND_LINE.parse(argv)
    from nemo.utils.user_cache import cache_entries, clear_cache, user_cache

    if options.clear:
        sys.stdout.write(f"{user_cache()}: {_size(clear_cache())} deleted\n")
        return
    entries = cache_entries()
    for entry in entries:
        used = time.strftime("%Y-%m-%d", time.localtime(entry.used))
        sys.stdout.write(f"{_size(entry.num_bytes):>9}  {used}  {_what(entry.path)}\n")
    total = _size(sum(entry.num_bytes for entry in entries))
    sys.stdout.write(f"{total:>9}  in {user_cache()} (nemo-bert cache --clear deletes it)\n")


def _what(path: Path) -> str:
    """The name of an entry, and its purpose."""
    if path.name.startswith("kernels-"):
        return f"{path.name}: kernels for this CPU"
    names = []
    for manifest in sorted(path.glob("store-*/manifest.json")):
        try:
            names += [source["name"] for source in json.loads(manifest.read_bytes())["sources"]]
        except (OSError, ValueError, KeyError, TypeError):
            continue
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{path.name}: tokens of {', '.join(names[:3])}{more}" if names else path.name


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:,.1f} MB"

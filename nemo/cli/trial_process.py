"""`python -m nemo.cli.trial_process`: what `nemo-bert estimate` has a process of its own for.

Reads what to try from stdin, and writes what it measured to stdout; both JSON.
"""

import json
import resource
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from nemo.cli.main import program
from nemo.utils.children import die_with_parent
from nemo.utils.logging import logging


def run(argv: Sequence[str]) -> None:
    """Try what stdin says: the arguments of `try_steps`, and `memory`, the bytes it may take (null: any)."""
    die_with_parent()
    asked = json.load(sys.stdin)
    if asked["memory"] is not None:  # an error then, and no end without a word
        resource.setrlimit(resource.RLIMIT_DATA, (asked["memory"], asked["memory"]))
    from nemo.collections.nlp.options import PretrainingOptions
    from nemo.collections.nlp.recipe.trial import try_steps

    # JSON has lists for tuples.
    values: dict[str, Any] = {
        name: tuple(v) if isinstance(v, list) else v for name, v in asked["options"].items()
    }
    with logging.temp_verbosity("ERROR"):
        trial = try_steps(PretrainingOptions(**values), asked["began"], asked["seconds"])
    sys.stdout.write("\n" + json.dumps(asdict(trial)) + "\n")


if __name__ == "__main__":
    program(command=run)

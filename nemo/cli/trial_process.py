"""`python -m nemo.cli.trial_process`: the trial of `nemo-bert estimate`, in a separate process.

Reads its arguments from stdin and writes its measurements to stdout, both as JSON.
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
    """Run a trial with the arguments of `try_steps` from stdin, and `memory`: a limit in bytes, or null."""
    die_with_parent()
    request = json.load(sys.stdin)
    if request["memory"] is not None:  # so that a lack of memory is an error, and not a silent kill
        resource.setrlimit(resource.RLIMIT_DATA, (request["memory"], request["memory"]))
    from nemo.collections.nlp.options import PretrainingOptions
    from nemo.collections.nlp.recipe.trial import try_steps

    # JSON turns tuples into lists.
    values: dict[str, Any] = {
        name: tuple(v) if isinstance(v, list) else v for name, v in request["options"].items()
    }
    with logging.temp_verbosity("ERROR"):
        trial = try_steps(PretrainingOptions(**values), request["began"], request["seconds"])
    sys.stdout.write("\n" + json.dumps(asdict(trial)) + "\n")


if __name__ == "__main__":
    program(command=run)

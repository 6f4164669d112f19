"""`nemo-bert inspect INPUT...`: statistics of a text, a prepared folder, a token store or shards."""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from nemo.collections.nlp.options.text_reading import ANY_TOKENIZER, TextReading
from nemo.utils.arguments import CommandLine, check, option
from nemo.utils.errors import UsageError
from nemo.utils.logging import logging
from nemo.utils.progress import working


@dataclass(frozen=True)
class InspectOptions(TextReading):
    """The data, and how to read it."""

    inputs: tuple[str, ...] = option(
        (),
        "text (files, folders, addresses), or prepared data: a folder, a token store, shards",
        is_path=True,
    )
    tokenizer: str | None = option(
        None,
        f"for token statistics: {ANY_TOKENIZER}",
        metavar="NAME_OR_PATH",
        is_path=True,
    )
    do_lower_case: bool | None = option(
        None,
        "lower-case the text (for a vocab.txt, which does not record it)",
        default_text="as the tokenizer records it, else off",
    )
    json: bool = option(False, "print one JSON object instead of a report")
    workers: int | None = option(
        None,
        "processes that read",
        default_text="one for each core",
        at_least=1,
        at_most=1024,
        metavar="PROCESSES",
    )

    def __post_init__(self) -> None:
        check(self)
        if not self.inputs:
            raise UsageError("nothing to inspect", expected="nemo-bert inspect FILE_OR_FOLDER...")


COMMAND_LINE = CommandLine(
    InspectOptions,
    "nemo-bert inspect",
    "Show statistics of text or prepared data, and warn of problems for training.",
    positional=("inputs",),
    examples="nemo-bert inspect corpus/",
)


def run(argv: Sequence[str]) -> None:
    """Inspect and print."""
    options = COMMAND_LINE.parse(argv)
    # With --json, nothing but the object is on stdout.
    verbosity = "WARNING" if options.json else "INFO"
    with logging.temp_verbosity(verbosity), working("loading the libraries"):
        from nemo.cli.inspection_report import as_json, print_report
        from nemo.collections.nlp.data.inputs import TextOptions
        from nemo.collections.nlp.data.inspection import inspect_all
        from nemo.collections.nlp.data.inspection.inspected import named_tokenizer

    workers = options.workers or len(os.sched_getaffinity(0))
    with logging.temp_verbosity(verbosity), working("inspecting"):
        tokenizer = named_tokenizer(options.tokenizer, options.do_lower_case)
        inspected = inspect_all(options.inputs, TextOptions.of(options), tokenizer, workers)
    if options.json:
        sys.stdout.write(json.dumps(as_json(inspected)) + "\n")
    else:
        print_report(inspected)

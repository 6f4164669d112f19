"""`nemo-bert prepare INPUT [INPUT ...] --out FOLDER`: text -> a token store, and HDF5 shards."""

from collections.abc import Sequence

from nemo.collections.nlp.preparation.options import PrepareOptions
from nemo.utils.arguments import CommandLine

COMMAND_LINE = CommandLine(
    PrepareOptions,
    "nemo-bert prepare",
    "Turn text of any size into a token store and HDF5 shards to pretrain on.",
    positional=("inputs",),
)


def run(argv: Sequence[str]) -> None:
    """Prepare, or go on with what was stopped."""
    options = COMMAND_LINE.parse(argv)
    from nemo.collections.nlp.preparation.prepare import prepare

    prepare(options)

"""`nemo-bert prepare INPUT [INPUT ...] --out FOLDER`: text -> a token store, and HDF5 shards."""

from collections.abc import Sequence
from pathlib import Path

from nemo.collections.nlp.preparation.options import PrepareOptions
from nemo.utils.arguments import CommandLine
from nemo.utils.logging import logging
from nemo.utils.progress import working

COMMAND_LINE = CommandLine(
    PrepareOptions,
    "nemo-bert prepare",
    "Turn text of any size into a token store and HDF5 shards for pretraining.",
    positional=("inputs",),
    examples="nemo-bert prepare corpus/ --out prepared --vocab_size 8000\n"
    "nemo-bert prepare corpus/ --out prepared --phases 128/20,512/80 --workers 8",
)


def run(argv: Sequence[str]) -> None:
    """Prepare, or resume preparing."""
    options = COMMAND_LINE.parse(argv)
    with working("loading the libraries"):
        from nemo.collections.nlp.preparation.prepare import prepare

    manifest = prepare(options)
    logging.info("to train on the result: nemo-bert pretrain %s", options.out)
    for folder in manifest["shards"]:
        logging.info("or: nemo-bert pretrain %s", Path(options.out, folder))

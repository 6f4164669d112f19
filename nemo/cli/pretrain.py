"""`nemo-bert pretrain [options] data_text [options]`, or `data_preprocessed`, which is the default."""

import dataclasses
import time
from collections.abc import Sequence

from nemo.collections.nlp.options import PretrainingOptions
from nemo.collections.nlp.options.data import MODES
from nemo.utils.arguments import CommandLine
from nemo.utils.errors import UsageError

COMMAND_LINE = CommandLine(
    PretrainingOptions,
    "nemo-bert pretrain",
    "Train a BERT on text (data_text) or on prepared shards. "
    "A rerun of the same command goes on where the last one stopped.",
    positional=("mode",),
    examples="nemo-bert pretrain data_text --train_data corpus.txt --eval_data valid.txt --minutes 60\n"
    "nemo-bert pretrain data_preprocessed --data_dir shards/ --num_iters 10000\n"
    "nemo-bert pretrain data_text --train_data corpus.txt --bert_checkpoint bert-base-uncased",
)


def parse_options(argv: Sequence[str]) -> PretrainingOptions:
    """Options may stand before or after the kind of data, which may be spelled `--data_text` too."""
    words = [word.removeprefix("--") if word.removeprefix("--") in MODES else word for word in argv]
    options = COMMAND_LINE.parse(words)
    if "minutes" in options.given:  # and what a configuration file says of steps is another run's
        if "num_iters" in options.given:
            raise UsageError("--num_iters excludes --minutes", fix="give one of them")
        given = options.given
        options = dataclasses.replace(options, num_iters=-1, step_plan=None)
        object.__setattr__(options, "given", given)  # options are frozen
    return options


def run(argv: Sequence[str]) -> None:
    """Train; a summary is the last thing printed."""
    began = time.monotonic()
    options = parse_options(argv)
    from nemo.collections.nlp.pretraining import pretrain

    pretrain(options, began)

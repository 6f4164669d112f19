"""`nemo-bert pretrain TEXT...`, or `nemo-bert pretrain [options] data_text [options]` as in the tutorial."""

import dataclasses
import time
from collections.abc import Sequence

from nemo.collections.nlp.options import PretrainingOptions
from nemo.collections.nlp.options.data import MODES
from nemo.collections.nlp.options.recipe_options import RecipeOptions, with_given
from nemo.utils.arguments import CommandLine
from nemo.utils.errors import UsageError
from nemo.utils.progress import working

COMMAND_LINE = CommandLine(
    RecipeOptions,
    "nemo-bert pretrain",
    "Train the best BERT that the text, the machine and the time allow: nemo-bert pretrain TEXT. "
    "With data_text or data_preprocessed in place of TEXT, what is not given is as in NeMo 0.10. "
    "A rerun of the same command goes on where the last one stopped.",
    positional=("texts",),
    examples="nemo-bert pretrain my_text.txt\n"
    "nemo-bert pretrain my_folder more.jsonl --minutes 60 --size small\n"
    "nemo-bert pretrain my_text.txt --bert_checkpoint bert-base-uncased\n"
    "nemo-bert pretrain --data_dir shards/ --num_iters 10000 data_preprocessed",
)


def parse_options(argv: Sequence[str]) -> PretrainingOptions:
    """Options may stand before or after the text or the kind of data, which may be spelled `--data_text` too.

    Returns:
        `RecipeOptions` where texts are named, and so the rest is chosen.
    """
    words = [word.removeprefix("--") if word.removeprefix("--") in MODES else word for word in argv]
    options = COMMAND_LINE.parse(words)
    if "minutes" in options.given:  # and what a configuration file says of steps is another run's
        if "num_iters" in options.given:
            raise UsageError("--num_iters excludes --minutes", fix="give one of them")
        options = with_given(dataclasses.replace(options, num_iters=-1, step_plan=None), options)
    return options if options.texts else options.as_pretraining_options()


def run(argv: Sequence[str]) -> None:
    """Train; a summary is the last thing printed."""
    began = time.monotonic()
    options = parse_options(argv)
    if isinstance(options, RecipeOptions):
        with working("loading the libraries"):
            from nemo.cli.recipe_run import run_recipe

        run_recipe(options, began)
        return
    with working("loading the libraries"):
        from nemo.collections.nlp.pretraining import pretrain

    pretrain(options, began)

"""`nemo-bert pretrain TEXT...`, or `nemo-bert pretrain [options] data_text [options]` as in the tutorial."""

import dataclasses
import time
from collections.abc import Sequence
from typing import TypeVar

from nemo.collections.nlp.options import PretrainingOptions
from nemo.collections.nlp.options.conflicts import conflict
from nemo.collections.nlp.options.data import MODES
from nemo.collections.nlp.options.recipe_options import RecipeOptions, defaults_with_text, with_given
from nemo.utils.arguments import CommandLine
from nemo.utils.progress import working

T = TypeVar("T", bound=RecipeOptions)

COMMAND_LINE = CommandLine(
    RecipeOptions,
    "nemo-bert pretrain",
    "Train the best BERT that the text, the machine and the time allow: nemo-bert pretrain TEXT. "
    "With data_text or data_preprocessed in place of TEXT, the defaults are those of NeMo 0.10. "
    "Run the same command again to resume. To repeat a run, pass its config.yaml to --config.",
    positional=("texts",),
    required=(),
    defaults=defaults_with_text(),
    examples="nemo-bert pretrain my_text.txt\n"
    "nemo-bert pretrain my_folder more.jsonl --minutes 60 --size small\n"
    "nemo-bert pretrain my_text.txt --bert_checkpoint bert-base-uncased\n"
    "nemo-bert pretrain --data_dir shards/ --num_iters 10000 data_preprocessed",
)


def parse_options(argv: Sequence[str]) -> PretrainingOptions:
    """`RecipeOptions` if texts are given, as the recipe then chooses the rest; else `PretrainingOptions`."""
    options = parse_words(argv, COMMAND_LINE)
    return options if options.texts else options.as_pretraining_options()


def parse_words(argv: Sequence[str], command_line: CommandLine[T]) -> T:
    """Parse options before and after the texts or the mode; the mode may also be given as `--data_text`.

    Raises:
        UsageError: invalid options, or two that contradict each other.
    """
    words = [word.removeprefix("--") if word.removeprefix("--") in MODES else word for word in argv]
    options = command_line.parse(words)
    if options.only_mlm_loss and "nsp_weight" in options.given:
        raise conflict("--only_mlm_loss", "--nsp_weight")
    if "minutes" not in options.given:
        return options
    if "num_iters" in options.given:
        raise conflict("--num_iters", "--minutes")
    # Ignore the steps in a configuration file, which are another run's.
    return with_given(dataclasses.replace(options, num_iters=-1, step_plan=None), options)


def run(argv: Sequence[str]) -> None:
    """Train, and print a summary at the end."""
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

"""`nemo-bert demo`: train, evaluate and export a small BERT, offline, in a few minutes."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nemo.collections.nlp.options.choices import MASKINGS
from nemo.collections.nlp.options.mask_rate import FALLING_MASK_RATE
from nemo.collections.nlp.options.recipe_options import CHOSEN, FOR_TEXT, RecipeOptions
from nemo.collections.nlp.options.text_reading import ANY_TOKENIZER, TextReading
from nemo.utils.arguments import CommandLine, check, names_of, option
from nemo.utils.logging import logging
from nemo.utils.progress import working

SENTENCES = (
    "If the file does not [MASK], an error is raised.",
    "Return a new [MASK] of the same length.",
    "The default value is [MASK].",
    "This is the [MASK] of the object.",
    "The first argument is the [MASK] of the function.",
)


@dataclass(frozen=True)
class DemoOptions(RecipeOptions):
    """Duration, output folder, and options that override the recipe."""

    minutes: float | None = option(
        3.0,
        "duration of the whole run, startup included, without collecting the text",
        above=0,
        metavar="MINUTES",
    )
    work_dir: str = option(
        "outputs/demo",
        "output folder; the same command with the same folder resumes",
        aliases=("--out",),
        metavar="FOLDER",
        is_path=True,
        decides="machine",
    )
    masking: str | None = option(
        None, "unit of masking, with new masks in every epoch", choices=MASKINGS, decides="samples"
    )

    def __post_init__(self) -> None:
        check(self)
        self._check_numbers_of_steps()

    def on(self, corpus: Path) -> RecipeOptions:
        """These options for `nemo-bert pretrain` on the text `corpus`."""
        ends = {"num_iters", "num_epochs"} & self.given
        typed = (self.given | self.given_in_file | {"work_dir"}) | (set() if ends else {"minutes"})
        options = RecipeOptions(texts=(str(corpus),), **{name: getattr(self, name) for name in typed})
        object.__setattr__(options, "given", frozenset(typed))  # options are frozen
        return options


# The demo brings its own text, and knows how to read it.
_NOT_NEEDED = (
    *("texts", "train_data", "eval_data", "data_dir", "dataset_name"),
    *("max_predictions_per_seq", "gradient_predivide"),
    *names_of(TextReading),
)
COMMAND_LINE = CommandLine(
    DemoOptions,
    "nemo-bert demo",
    "Train a small BERT on the documentation installed on this machine.",
    examples="nemo-bert demo --minutes 10",
    defaults=dict.fromkeys(CHOSEN, FOR_TEXT) | {"num_iters": "as many as fit into --minutes"},
    helps=dict.fromkeys(_NOT_NEEDED, "")
    | {
        "max_seq_length": "maximum tokens in a sequence, including special tokens",
        "short_seq_prob": "share of documents cut into shorter sequences",
        "tokenizer": f"an existing tokenizer: {ANY_TOKENIZER}; or the kind to train: sentence-piece or "
        "word-piece, unless the initial checkpoint has a tokenizer",
        "vocab_size": "size of the vocabulary to train",
        "sample_size": "train the tokenizer on at most this many lines",
        "mask_probability": f"share of tokens to predict; FIRST:LAST, such as {FALLING_MASK_RATE}, changes "
        "it linearly from the first step to the last",
    },
)


def run(argv: Sequence[str]) -> None:
    """Collect, train, evaluate, predict, export."""
    began = time.monotonic()
    options = COMMAND_LINE.parse(argv)
    with working("loading the libraries"):
        from nemo.cli.demo_corpus import collect
        from nemo.cli.recipe_run import run_recipe
        from nemo.collections.nlp.checkpoints.loading import export, load_pretrained
        from nemo.collections.nlp.evaluation import fill_mask, table

    out = Path(options.work_dir)
    corpus = out / "corpus"
    if all((corpus / name).is_file() for name in ("train.txt", "valid.txt")):
        logging.info("1/4 using the text in %s", corpus)
    else:
        logging.info("1/4 collecting English prose from the installed packages")
        with working("collecting text"):
            collect(corpus)
        began = time.monotonic()  # --minutes does not include collecting
    logging.info("2/4 training, as with nemo-bert pretrain %s", corpus)
    result = run_recipe(options.on(corpus), began)
    if result is None:
        return

    sys.stdout.write(f"\n3/4 on held-out documents after {result.tokens:,} tokens of training:\n\n")
    sys.stdout.write(table(result.figures) + "\n")
    before = result.figures_before
    if before:
        gain = before["unigram_entropy"] - before["mlm_loss"]
        sys.stdout.write(f"(before the first step {gain:.4f} nat)\n")
    sys.stdout.write("\n")
    pretrained = load_pretrained(out)
    for sentence in SENTENCES:
        (predictions,) = fill_mask(pretrained, sentence, top=5)
        sys.stdout.write(f"{sentence}\n    {', '.join(each.token for each in predictions)}\n")

    export(pretrained, out / "export", force=True)
    sys.stdout.write(
        f"\n4/4 exported to {out / 'export'}; in Python:\n\n"
        f"    from transformers import pipeline\n"
        f'    pipeline("fill-mask", "{out / "export"}")("{SENTENCES[0]}")\n\n'
        f"Curves: tensorboard --logdir {out / 'tensorboard'}\n"
    )

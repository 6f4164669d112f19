"""`nemo-bert evaluate WORK_DIR --eval_data FILE`: metrics of a checkpoint on held-out data."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from nemo.collections.nlp.options.choices import MASKINGS, STORED
from nemo.collections.nlp.options.limits import LONGEST_SEQUENCE
from nemo.collections.nlp.options.text_reading import ANY_TOKENIZER, TextReading
from nemo.utils.arguments import CommandLine, check, option
from nemo.utils.errors import UsageError
from nemo.utils.logging import logging
from nemo.utils.progress import working


@dataclass(frozen=True)
class EvaluateOptions(TextReading):
    """The model and the data."""

    model: str = option("", "a run's work folder, or one checkpoint of it (STEP-<n>)", is_path=True)
    eval_data: str = option(
        "",
        "held-out data, a file or a folder: text in any format of pretrain, a token store, or HDF5 shards",
        is_path=True,
    )
    batch_size: int = option(32, "sequences in a batch", at_least=1)
    max_seq_length: int | None = option(
        None, "tokens in a sequence; default: the model's maximum", at_least=8, at_most=LONGEST_SEQUENCE
    )
    masking: str | None = option(
        None,
        "unit of masking: whole_word (default for text), token or span; stored: the masks in the shards "
        "(default for shards)",
        choices=(STORED, *MASKINGS),
    )
    mask_probability: float | None = option(
        None, "share of tokens to predict (default: 0.15); not for stored masks", above=0, below=1
    )
    seed: int = option(0, "seed of masks and pairs", at_least=0)
    json: bool = option(False, "print one JSON object instead of a table")
    tokenizer: str | None = option(None, f"for a model without one: {ANY_TOKENIZER}", is_path=True)
    do_lower_case: bool | None = option(
        None, "with --tokenizer: lower-case the text (for a vocab.txt, which does not record it)"
    )

    def __post_init__(self) -> None:
        check(self)
        if not (self.model and self.eval_data):
            raise UsageError(
                "a model and held-out data are needed",
                expected="nemo-bert evaluate WORK_DIR --eval_data FILE",
            )


COMMAND_LINE = CommandLine(
    EvaluateOptions,
    "nemo-bert evaluate",
    "Evaluate masked-language modeling and next-sentence prediction on held-out data, always with the same "
    "masks.",
    positional=("model",),
    examples="nemo-bert evaluate outputs/bert_lm --eval_data test.txt",
)


def run(argv: Sequence[str]) -> None:
    """Evaluate and print."""
    options = COMMAND_LINE.parse(argv)
    # With --json, nothing but the object is on stdout.
    verbosity = "WARNING" if options.json else "INFO"
    with logging.temp_verbosity(verbosity), working("loading the libraries"):
        from nemo.collections.nlp.checkpoints.loading import load_pretrained
        from nemo.collections.nlp.data.samples.sampling import Sampling
        from nemo.collections.nlp.evaluation import evaluate, table

    with logging.temp_verbosity(verbosity), working("reading the model and the text"):
        figures = evaluate(
            load_pretrained(options.model, options.tokenizer, options.do_lower_case),
            options.eval_data,
            Sampling(options.max_seq_length, options.masking, options.mask_probability, seed=options.seed),
            options.batch_size,
            options.text_options,
        )
    sys.stdout.write((json.dumps(figures) if options.json else table(figures)) + "\n")

"""`nemo-bert evaluate WORK_DIR --eval_data FILE`: metrics of a checkpoint on held-out data."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from nemo.collections.nlp.options.data import FixedMasking
from nemo.collections.nlp.options.limits import LONGEST_SEQUENCE
from nemo.collections.nlp.options.text_reading import ModelTokenizer, TextReading
from nemo.utils.arguments import CommandLine, check, option
from nemo.utils.errors import UsageError
from nemo.utils.logging import logging
from nemo.utils.progress import working


@dataclass(frozen=True)
class EvaluateOptions(ModelTokenizer, FixedMasking, TextReading):
    """The model and the data."""

    model: str = option("", "a run's work folder, or one checkpoint of it (STEP-<n>)", is_path=True)
    eval_data: str = option(
        "",
        "held-out data, a file or a folder: text in any format of pretrain, a token store, or HDF5 shards",
        metavar="PATH",
        is_path=True,
    )
    batch_size: int = option(32, "samples in a batch", at_least=1, metavar="SAMPLES")
    max_seq_length: int | None = option(
        None,
        "maximum tokens in a sequence, including special tokens",
        default_text="the model's maximum",
        at_least=8,
        at_most=LONGEST_SEQUENCE,
        metavar="TOKENS",
    )
    seed: int = option(0, "seed of masks and pairs", at_least=0, metavar="INTEGER")
    json: bool = option(False, "print one JSON object instead of a table")

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
    required=("model", "eval_data"),
    examples="nemo-bert evaluate outputs/bert_lm --eval_data test.txt",
)


def run(argv: Sequence[str]) -> None:
    """Evaluate and print."""
    options = COMMAND_LINE.parse(argv)
    # With --json, nothing but the object is on stdout.
    verbosity = "WARNING" if options.json else "INFO"
    with logging.temp_verbosity(verbosity), working("loading the libraries"):
        from nemo.collections.nlp.checkpoints.loading import load_pretrained
        from nemo.collections.nlp.data.inputs import TextOptions
        from nemo.collections.nlp.data.samples.sampling import Sampling
        from nemo.collections.nlp.evaluation import evaluate, table

    with logging.temp_verbosity(verbosity), working("reading the model and the text"):
        figures = evaluate(
            load_pretrained(options.model, options.tokenizer, options.do_lower_case),
            options.eval_data,
            Sampling(options.max_seq_length, options.masking, options.mask_probability, seed=options.seed),
            options.batch_size,
            TextOptions.of(options),
        )
    sys.stdout.write((json.dumps(figures) if options.json else table(figures)) + "\n")

"""`nemo-bert fill-mask WORK_DIR "Paris is the [MASK] of France ."`: predict masked words."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from nemo.collections.nlp.options.text_reading import ModelTokenizer
from nemo.utils.arguments import CommandLine, check, option
from nemo.utils.errors import UsageError
from nemo.utils.logging import logging
from nemo.utils.progress import working


@dataclass(frozen=True)
class FillMaskOptions(ModelTokenizer):
    """The model, the sentence and the number of predictions."""

    model: str = option("", "a run's work folder, or one checkpoint of it (STEP-<n>)", is_path=True)
    text: str = option("", "a sentence with [MASK] in it")
    top: int = option(5, "predictions for each mask", at_least=1, metavar="WORDS")

    def __post_init__(self) -> None:
        check(self)
        if not (self.model and self.text):
            raise UsageError(
                "a model and a sentence are needed",
                expected='nemo-bert fill-mask WORK_DIR "a sentence with [MASK] in it"',
            )


COMMAND_LINE = CommandLine(
    FillMaskOptions,
    "nemo-bert fill-mask",
    "Predict the words that [MASK] stands for.",
    positional=("model", "text"),
    examples="nemo-bert fill-mask outputs/bert_lm 'The [MASK] is blue.'",
)


def run(argv: Sequence[str]) -> None:
    """Print the predictions for every mask, most probable first."""
    options = COMMAND_LINE.parse(argv)
    with logging.temp_verbosity("WARNING"), working("reading the model"):  # print only the predictions
        from nemo.collections.nlp.checkpoints.loading import load_pretrained
        from nemo.collections.nlp.evaluation import fill_mask

        model = load_pretrained(options.model, options.tokenizer, options.do_lower_case)
    for predictions in fill_mask(model, options.text, options.top):
        sys.stdout.write("  ".join(f"{each.token} {each.probability:.3f}" for each in predictions) + "\n")

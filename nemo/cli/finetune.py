"""`nemo-bert finetune MODEL --task ner --train FILE`: fine-tune a BERT and measure it on a task."""

import sys
from collections.abc import Sequence

from nemo.collections.nlp.options.finetuning import FinetuningOptions
from nemo.utils.arguments import CommandLine
from nemo.utils.progress import working

COMMAND_LINE = CommandLine(
    FinetuningOptions,
    "nemo-bert finetune",
    "Fine-tune a BERT to label words, texts or pairs of texts; evaluate and export it.",
    positional=("model",),
    required=("model", "train"),
    examples="nemo-bert finetune my_bert --task classify --train reviews.csv --valid held_out.csv",
)


def run(argv: Sequence[str]) -> None:
    """Fine-tune, and print the metrics with their definitions."""
    options = COMMAND_LINE.parse(argv)
    with working("fine-tuning"):
        from nemo.collections.nlp.finetuning.report import summary
        from nemo.collections.nlp.finetuning.run import finetune

        text = summary(finetune(options))
    sys.stdout.write(text + "\n")

"""`nemo-bert adapt MODEL TEXT... --task ner --train FILE`: adapt a BERT to a domain, and measure the gain."""

import sys
from collections.abc import Sequence

from nemo.collections.nlp.options.adaptation import AdaptationOptions
from nemo.utils.arguments import CommandLine
from nemo.utils.progress import working

COMMAND_LINE = CommandLine(
    AdaptationOptions,
    "nemo-bert adapt",
    "Extend a BERT's vocabulary and continue pretraining on text of your field; then fine-tune it and the "
    "original on a task of the field, and report the gain in one sentence.",
    positional=("model", "text"),
    examples="nemo-bert adapt my_bert papers/ --minutes 60 --task ner --train train.txt --test test.txt",
)


def run(argv: Sequence[str]) -> None:
    """Adapt, write the report, and print the gain."""
    options = COMMAND_LINE.parse(argv)
    from pathlib import Path

    with working("adapting"):
        from nemo.collections.nlp.adaptation.page import in_words, write_page
        from nemo.collections.nlp.adaptation.run import adapt
        from nemo.collections.nlp.finetuning.metrics import WRITTEN

        adaptation = adapt(options)
    page = write_page(adaptation, Path(options.work_dir))
    for name, score in adaptation.scores.items():
        sys.stdout.write(f"{name:<9} {WRITTEN[adaptation.figure or '']} {in_words(score)}\n")
    sys.stdout.write(f"{adaptation.verdict}\nmodel     {adaptation.folder}\nreport    {page}\n")

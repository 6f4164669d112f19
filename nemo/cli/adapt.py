"""`nemo-bert adapt MODEL TEXT... --task ner --train FILE`: a BERT for a field, and what that was worth."""

import sys
from collections.abc import Sequence

from nemo.collections.nlp.options.adaptation import AdaptationOptions
from nemo.utils.arguments import CommandLine
from nemo.utils.progress import working

COMMAND_LINE = CommandLine(
    AdaptationOptions,
    "nemo-bert adapt",
    "Extend a BERT's vocabulary and go on pretraining it on the text of a field; fine-tune it and the base "
    "on a task of the field, and say in one sentence what was gained.",
    positional=("model", "text"),
    examples="nemo-bert adapt my_bert papers/ --minutes 60 --task ner --train train.txt --test test.txt",
)


def run(argv: Sequence[str]) -> None:
    """Adapt, write the page, and print the sentence."""
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

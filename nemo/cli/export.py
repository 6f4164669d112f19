"""`nemo-bert export WORK_DIR FOLDER`: a Hugging Face folder from a checkpoint."""

from collections.abc import Sequence
from dataclasses import dataclass

from nemo.collections.nlp.options.text_reading import ANY_TOKENIZER
from nemo.utils.arguments import CommandLine, check, option
from nemo.utils.errors import UsageError
from nemo.utils.logging import logging
from nemo.utils.progress import working


@dataclass(frozen=True)
class ExportOptions:
    """What to export, and where to."""

    model: str = option("", "a run's work folder, or one checkpoint of it (STEP-<n>)", is_path=True)
    out: str = option("", "folder to write; must not exist yet", is_path=True)
    force: bool = option(False, "replace the folder if it is there")
    tokenizer: str | None = option(None, f"for a model without one: {ANY_TOKENIZER}", is_path=True)
    do_lower_case: bool = option(
        False, "with --tokenizer: lower-case text for a vocab.txt, which does not say so itself"
    )

    def __post_init__(self) -> None:
        check(self)
        if not (self.model and self.out):
            raise UsageError("a model and a folder are needed", expected="nemo-bert export WORK_DIR FOLDER")


COMMAND_LINE = CommandLine(
    ExportOptions,
    "nemo-bert export",
    "Write a Hugging Face folder that AutoModelForMaskedLM and BertForPreTraining load.",
    positional=("model", "out"),
    examples="nemo-bert export outputs/bert_lm my_bert",
)


def run(argv: Sequence[str]) -> None:
    """Export; the folder has been reloaded and compared before it is there."""
    options = COMMAND_LINE.parse(argv)
    with working("loading the libraries"):
        from nemo.collections.nlp.checkpoints.loading import export, load_pretrained

    with working("reading the model, writing it and comparing the two"):
        export(
            load_pretrained(options.model, options.tokenizer, options.do_lower_case),
            options.out,
            force=options.force,
        )
    logging.info("exported to %s: the same ids and logits after reloading, nothing missing", options.out)

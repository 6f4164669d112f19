"""`nemo-bert export WORK_DIR FOLDER`: write a checkpoint as a Hugging Face folder."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nemo.collections.nlp.options.text_reading import ModelTokenizer
from nemo.utils.arguments import CommandLine, check, option
from nemo.utils.errors import UsageError
from nemo.utils.logging import logging
from nemo.utils.progress import working


@dataclass(frozen=True)
class ExportOptions(ModelTokenizer):
    """The model and the output folder."""

    model: str = option("", "a run's work folder, or one checkpoint of it (STEP-<n>)", is_path=True)
    out: str = option("", "folder to write; must not exist, unless --force is given", is_path=True)
    force: bool = option(False, "replace the files of an earlier export in the folder, and keep others")
    license: str | None = option(
        None,
        "license in the model card, by the hub's identifiers: apache-2.0, cc-by-4.0, other, ...",
        metavar="IDENTIFIER",
    )
    push: str | None = option(
        None,
        "upload the folder to the Hugging Face hub under this name; needs a token (hf auth login)",
        metavar="USER/MODEL",
    )
    private: bool = option(False, "with --push: make a new repository private")

    def __post_init__(self) -> None:
        check(self)
        if not (self.model and self.out):
            raise UsageError("a model and a folder are needed", expected="nemo-bert export WORK_DIR FOLDER")
        if self.license is not None and not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", self.license):
            raise UsageError(
                "not a license identifier",
                where=f"--license {self.license}",
                expected="an entry of the hub's list: apache-2.0, mit, cc-by-4.0, other, ...",
            )
        if self.private and self.push is None:
            raise UsageError("--private has no effect without --push", fix="omit it, or give both")


COMMAND_LINE = CommandLine(
    ExportOptions,
    "nemo-bert export",
    "Write a Hugging Face folder that AutoModelForMaskedLM and BertForPreTraining load.",
    positional=("model", "out"),
    examples="nemo-bert export outputs/bert_lm my_bert",
)


def run(argv: Sequence[str]) -> None:
    """Export; the folder is reloaded and compared with the model before it appears."""
    options = COMMAND_LINE.parse(argv)
    with working("loading the libraries"):
        from nemo.collections.nlp.checkpoints.export import EXPORTED
        from nemo.collections.nlp.checkpoints.loading import export, load_pretrained
        from nemo.collections.nlp.checkpoints.push import check_may_push, push

    if options.push is not None:
        check_may_push(options.push)
    with working("reading the model, writing and verifying the export"):
        export(
            load_pretrained(options.model, options.tokenizer, options.do_lower_case),
            options.out,
            force=options.force,
            license=options.license,
        )
    logging.info("exported to %s; verified: reloading gives the same ids and logits", options.out)
    if options.push is not None:
        with working(f"uploading to {options.push}"):
            address = push(Path(options.out), options.push, sorted(EXPORTED), options.private)
        logging.info("uploaded: %s", address)

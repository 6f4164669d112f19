"""The options of an extension of a vocabulary."""

from dataclasses import dataclass

from nemo.collections.nlp.options.limits import LARGEST_VOCABULARY
from nemo.collections.nlp.options.text_reading import TextReading
from nemo.utils.arguments import check, option
from nemo.utils.errors import UsageError


@dataclass(frozen=True)
class ExtensionOptions(TextReading):
    """Which BERT's vocabulary to extend, and by what text.

    Raises:
        UsageError: a value out of its range, or a model or a text that is missing.
    """

    model: str = option(
        "",
        "a BERT with WordPieces: a run's work folder, an export, a Hugging Face folder or name",
        is_path=True,
    )
    text: tuple[str, ...] = option(
        (), "text of the field: files, folders or addresses of .txt, .jsonl, .parquet or .csv", is_path=True
    )
    pieces: int | None = option(
        None,
        "entries to add at most; None: as many as save --least_saving each",
        at_least=1,
        at_most=LARGEST_VOCABULARY,
    )
    least_saving: float = option(
        5e-5,
        "share of the text's tokens that an entry has to save, and 20 of them at least; without --pieces",
        above=0,
        below=1,
    )
    sample_bytes: int = option(50_000_000, "bytes of text to learn from at most", at_least=1)
    out: str = option("outputs/extended", "folder to write; must not exist yet", is_path=True)
    force: bool = option(False, "replace the folder if it exists")

    def __post_init__(self) -> None:
        check(self)
        if not (self.model and self.text):
            raise UsageError("a model and a text are needed", expected="nemo-bert extend-vocab MODEL TEXT...")

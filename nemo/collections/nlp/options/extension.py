"""Options of `nemo-bert extend-vocab`."""

from dataclasses import dataclass

from nemo.collections.nlp.options.limits import LARGEST_VOCABULARY
from nemo.collections.nlp.options.text_reading import TextReading
from nemo.utils.arguments import check, option
from nemo.utils.errors import UsageError


@dataclass(frozen=True)
class ExtensionOptions(TextReading):
    """The model whose vocabulary to extend, and the text to take new entries from.

    Raises:
        UsageError: a value is out of range, or the model or the text is missing.
    """

    model: str = option(
        "",
        "a BERT with a WordPiece vocabulary: a run's work folder, an export, a Hugging Face folder or name",
        is_path=True,
    )
    text: tuple[str, ...] = option(
        (), "text of the field: files, folders or addresses of .txt, .jsonl, .parquet or .csv", is_path=True
    )
    pieces: int | None = option(
        None,
        "maximum number of entries to add",
        default_text="every entry that saves --least_saving",
        at_least=1,
        at_most=LARGEST_VOCABULARY,
        metavar="ENTRIES",
    )
    least_saving: float = option(
        5e-5,
        "minimum share of tokens that a new entry must save, and at least 20 tokens; ignored with --pieces",
        default_text="one token in 20,000",
        above=0,
        below=1,
        metavar="SHARE",
    )
    sample_bytes: int = option(
        50_000_000,
        "maximum bytes of text to learn from",
        default_text="50 million",
        at_least=1,
        metavar="BYTES",
    )
    out: str = option(
        "outputs/extended",
        "folder to write; must not exist, unless --force is given",
        metavar="FOLDER",
        is_path=True,
    )
    force: bool = option(False, "replace the files of an earlier export in the folder, and keep others")

    def __post_init__(self) -> None:
        check(self)
        if not (self.model and self.text):
            raise UsageError("a model and a text are needed", expected="nemo-bert extend-vocab MODEL TEXT...")

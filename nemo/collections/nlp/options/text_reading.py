"""The options of all commands that read text: how it is read."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nemo.utils.arguments import option

if TYPE_CHECKING:
    from nemo.collections.nlp.data.inputs.options import TextOptions

ANY_TOKENIZER = "a folder, vocab.txt, tokenizer.json, SentencePiece .model or Hugging Face name"
"""What `--tokenizer` takes, for the help of the commands that have it; see data/tokenizers/opening.py."""


@dataclass(frozen=True)
class TextReading:
    """How text is read."""

    text_format: str = option(
        "auto",
        "format of the files; detected from their names and content unless given",
        choices=("auto", "text", "json-lines", "parquet", "csv"),
    )
    text_layout: str = option(
        "auto",
        "where documents of plain text end: at WikiText headings, WikiExtractor's tags, blank lines, every "
        "line, or nowhere (running)",
        choices=("auto", "headings", "wikiextractor", "blank", "lines", "running"),
    )
    sentences: str = option(
        "auto", "how lines are split into sentences", choices=("auto", "punkt", "cjk", "line")
    )
    invalid_bytes: str = option(
        "error", "what to do with bytes that are not UTF-8", choices=("error", "replace")
    )
    text_field: str = option("text", "field or column of the text in JSON lines, Parquet and CSV")
    max_bad_records: int = option(
        0, "maximum number of records without text to skip, each with a warning", at_least=0
    )

    @property
    def text_options(self) -> "TextOptions":
        """These options as `data.inputs` takes them."""
        from nemo.collections.nlp.data.inputs.options import TextOptions

        return TextOptions(
            format=self.text_format,
            layout=self.text_layout,
            sentences=self.sentences,
            invalid_bytes=self.invalid_bytes,
            text_field=self.text_field,
            max_bad_records=self.max_bad_records,
        )

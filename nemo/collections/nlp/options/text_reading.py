"""Options of all commands that read text, and of those that read a model with its tokenizer."""

from dataclasses import dataclass

from nemo.utils.arguments import option

ANY_TOKENIZER = "a folder, vocab.txt, tokenizer.json, SentencePiece .model or Hugging Face name"
"""What `--tokenizer` takes, for the help of several commands; see data/tokenizers/opening.py."""


@dataclass(frozen=True)
class ModelTokenizer:
    """Tokenizer for a model without one."""

    tokenizer: str | None = option(None, ANY_TOKENIZER, metavar="NAME_OR_PATH", is_path=True)
    do_lower_case: bool | None = option(
        None,
        "with --tokenizer: lower-case the text (for a vocab.txt, which does not record it)",
        default_text="as the tokenizer records it, else off",
    )


@dataclass(frozen=True)
class TextReading:
    """How text is read."""

    text_format: str = option(
        "auto",
        "format of the files; auto: detected from their names and content",
        choices=("auto", "text", "json-lines", "parquet", "csv"),
        only_for="data_text",
    )
    text_layout: str = option(
        "auto",
        "where documents end in plain text: at WikiText headings, WikiExtractor tags, blank lines or line "
        "ends; running: cut by length",
        choices=("auto", "headings", "wikiextractor", "blank", "lines", "running"),
        only_for="data_text",
    )
    sentences: str = option(
        "auto",
        "how lines are split into sentences. punkt: by Punkt, which learns abbreviations from the text; cjk: "
        "at Chinese and Japanese punctuation; line: each line is a sentence; auto: cjk for Chinese and "
        "Japanese paragraphs; for others line if nearly every line is one sentence, else punkt",
        choices=("auto", "punkt", "cjk", "line"),
        only_for="data_text",
    )
    invalid_bytes: str = option(
        "error",
        "what to do with bytes that are not UTF-8",
        choices=("error", "replace"),
        only_for="data_text",
    )
    text_field: str = option(
        "text",
        "column, or key in JSON lines, of the text",
        metavar="NAME",
        only_for="data_text",
    )
    max_bad_records: int = option(
        0,
        "maximum number of records without text to skip, each with a warning",
        at_least=0,
        metavar="RECORDS",
        only_for="data_text",
    )

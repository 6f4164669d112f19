"""How text is read: the options that all commands that read text share."""

from dataclasses import dataclass

from nemo.collections.nlp.data.inputs.layouts import LAYOUTS
from nemo.collections.nlp.data.text.sentences import SPLITTERS
from nemo.collections.nlp.options.text_reading import TextReading
from nemo.utils.errors import UsageError
from nemo.utils.lookup import choose

READER = 2  # increase it when the same text would be split into other documents or sentences
FORMATS = {
    "text": "plain text",
    "json-lines": "JSON lines",
    "parquet": "Parquet",
    "csv": "CSV",
}


@dataclass(frozen=True)
class TextOptions:
    """How text is read.

    Args:
        format: a name in `FORMATS`, or "auto": detected for each file from its name and first MiB.
        layout: where documents end in plain text: a name in `LAYOUTS`, or "auto": detected for each file from
            excerpts all over it (compressed files: their first 16 MiB; files on a web server: their first
            MiB).
        sentences: a name in `sentences.SPLITTERS`, or "auto": detected from an excerpt of the corpus.
        invalid_bytes: what to do with bytes that are not UTF-8: "error", or "replace" each by U+FFFD.
        text_field: field or column with the text in JSON lines, Parquet and CSV. If the text begins with the
            content of the field `title`, that line is dropped.
        max_bad_records: maximum number of records without text to skip, each with a warning; one more is an
            error.

    Raises:
        UsageError: a name is unknown, or a number out of range.
    """

    format: str = "auto"
    layout: str = "auto"
    sentences: str = "auto"
    invalid_bytes: str = "error"
    text_field: str = "text"
    max_bad_records: int = 0

    def __post_init__(self) -> None:
        choose({"auto": None, **FORMATS}, self.format, what="format")
        choose({"auto": None, **LAYOUTS}, self.layout, what="layout")
        choose({"auto": None, **SPLITTERS}, self.sentences, what="sentence splitter")
        choose({"error": None, "replace": None}, self.invalid_bytes, what="invalid_bytes")
        if not self.text_field:
            raise UsageError("is empty", where="text_field", expected="the name of a field or column")
        if self.max_bad_records < 0:
            raise UsageError(
                "out of range", where="max_bad_records", found=self.max_bad_records, expected="0 or more"
            )

    @classmethod
    def of(cls, options: TextReading) -> "TextOptions":
        """The options of a command that reads text."""
        return cls(
            format=options.text_format,
            layout=options.text_layout,
            sentences=options.sentences,
            invalid_bytes=options.invalid_bytes,
            text_field=options.text_field,
            max_bad_records=options.max_bad_records,
        )


AUTO = TextOptions()

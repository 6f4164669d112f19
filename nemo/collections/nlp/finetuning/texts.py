"""Files with labeled texts or pairs of texts: JSON lines, CSV, TSV."""

from pathlib import Path

from nemo.collections.nlp.finetuning.examples import LabeledText
from nemo.collections.nlp.finetuning.records import (
    begins_with_object,
    field_text,
    find_column,
    json_records,
    read_labeled,
    table_records,
)
from nemo.utils.errors import DataError

TEXT = ("text", "sentence", "content", "title")
FIRST = ("text_a", "sentence1", "text1", "premise", "question1", "question", "text", "sentence")
SECOND = ("text_b", "sentence2", "text2", "hypothesis", "question2", "answer", "text_pair", "context")
LABEL = ("label", "labels", "class", "category", "target", "intent")


def read_texts(
    path: str | Path,
    pairs: bool,
    text_column: str | None = None,
    pair_column: str | None = None,
    label_column: str | None = None,
) -> list[LabeledText]:
    """The texts of a file and their labels.

    Args:
        pairs: whether each example has two texts.
        text_column, pair_column, label_column: names of the fields; None: search for the usual names.

    Raises:
        MissingFileError: there is no such file.
        DataError: a column is missing, or empty in a row.
    """
    text = read_labeled(path)
    records = json_records(text, path) if begins_with_object(text) else table_records(text, path)
    wanted: list[tuple[str | None, tuple[str, ...], str]]
    wanted = [(text_column, FIRST if pairs else TEXT, "--text_column")]
    wanted += [(pair_column, SECOND, "--pair_column")] if pairs else []
    wanted += [(label_column, LABEL, "--label_column")]
    columns: list[str] = []
    examples: list[LabeledText] = []
    for record, where in records:
        if not columns:
            columns = [find_column(record, *names, path) for names in wanted]
        *texts, label = (field_text(record, column, where) for column in columns)
        examples.append(LabeledText(tuple(texts), (label,), where))
    if not examples:
        raise DataError("no examples", where=path, expected="a row below the column names")
    return examples

"""Files with labeled words -> sentences: columns (CoNLL), PubTator, JSON lines.

PubTator has a title and an abstract per document, `id|t|...` and `id|a|...`, and lines of tabs with the
offsets of its entities. JSON lines have either words and labels, or a text and its entities.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nemo.collections.nlp.data.text.sentences import IDEOGRAPHS
from nemo.collections.nlp.finetuning.examples import Sentence
from nemo.collections.nlp.finetuning.labels import OUTSIDE, as_bio, is_label
from nemo.collections.nlp.finetuning.records import (
    begins_with_object,
    find_column,
    json_records,
    read_labeled,
)
from nemo.utils.errors import DataError
from nemo.utils.logging import logging
from nemo.utils.wording import quantity

WORDS = ("tokens", "words")
TAGS = ("ner_tags", "tags", "labels", "ner")
ENTITIES = ("entities", "spans")
_DOCUMENT = re.compile(r"([^|\t]+)\|([ta])\|(.*)")
_WORD = re.compile(rf"[{IDEOGRAPHS}]|[^\W_{IDEOGRAPHS}]+|[^\w\s]|_")

Span = tuple[int, int, str]
"""(first character, character after the last, type)"""


def read_sentences(
    path: str | Path, text_column: str | None = None, label_column: str | None = None
) -> list[Sentence]:
    """The sentences of a file, labels as IOB2.

    Args:
        text_column, label_column: names of fields in JSON lines, if unusual.

    Raises:
        MissingFileError: there is no such file.
        DataError: labels do not line up with words, or are not entity labels.
    """
    text = read_labeled(path)
    if begins_with_object(text):
        return _of_json(text, path, text_column, label_column)
    for option, value in (("--text_column", text_column), ("--label_column", label_column)):
        if value is not None:
            raise DataError("the file has no column names", where=path, found=option, fix="leave it out")
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    first = next(line for line in lines if line.strip())
    return _of_pubtator(lines, path) if _DOCUMENT.fullmatch(first) else _of_columns(lines, path)


def _sentence(words: Sequence[str], labels: Sequence[str], where: str) -> Sentence:
    try:
        return Sentence(tuple(words), as_bio(labels), where)
    except ValueError as error:
        raise DataError(
            "not an entity label",
            where=where,
            found=repr(str(error)),
            expected="O, B-<type> or I-<type>",
        ) from None


def _of_columns(lines: Sequence[str], path: str | Path) -> list[Sentence]:
    """Sentences with blank lines between them; the first column is the word, the last one its label."""
    split: Callable[[str], list[str]]
    filled = [line for line in lines if line.strip() and not line.startswith("-DOCSTART-")]
    filled = [line for line in filled if not line.startswith("#")] or filled  # rather than comments
    if 2 * sum("\t" in line for line in filled) > len(filled):
        split = lambda line: [cell.strip() for cell in line.split("\t")]  # noqa: E731
    else:
        split = str.split
    counts = Counter(len(split(line)) for line in filled)
    num_columns = counts.most_common(1)[0][0] if counts else 0
    if num_columns < 2:
        raise DataError(
            "no labels beside the words",
            where=path,
            found="one column",
            expected="word and label in each line",
        )
    sentences: list[Sentence] = []
    rows: list[list[str]] = []
    for number, line in enumerate([*lines, ""], 1):
        where = f"{path}:{number}"
        if not line.strip() or line.startswith("-DOCSTART-"):
            if rows:
                words, labels = zip(*((row[0], row[-1]) for row in rows), strict=True)
                sentences.append(_sentence(words, labels, f"{path}:{number - len(rows)}"))
                rows = []
            continue
        row = split(line)
        if line.startswith("#") and not (len(row) == num_columns and is_label(row[-1])):
            continue  # a comment
        if len(row) != num_columns or not (row[0] and row[-1]):
            raise DataError(
                "labels do not line up with words",
                where=where,
                found=f"{quantity(sum(map(bool, row)), 'filled column')} in {line[:40]!r}",
                expected=f"{num_columns} as in other lines",
            )
        rows.append(row)
    return sentences


def _of_pubtator(lines: Sequence[str], path: str | Path) -> list[Sentence]:
    sentences: list[Sentence] = []
    widened = 0
    texts: list[tuple[str, int, str]] = []  # text, its offset in the document, where
    spans: list[Span] = []
    for number, line in enumerate([*lines, ""], 1):
        where = f"{path}:{number}"
        match = _DOCUMENT.fullmatch(line)
        if match and match[2] == "a":
            offset = len(texts[0][0]) + 1 if texts else 0
            texts.append((match[3], offset, where))
        elif match or not line.strip():
            for text, offset, begins_at in texts:
                inside = [
                    (b - offset, e - offset, k) for b, e, k in spans if offset <= b < offset + len(text)
                ]
                sentence, wider = sentence_of_spans(text, inside, begins_at)
                sentences += [sentence] if sentence.words else []
                widened += wider
            texts, spans = [(match[3], 0, where)] if match else [], []
        else:
            spans += _pubtator_span(line, texts, where)
    _warn_of_widened(widened, path)
    return sentences


def _pubtator_span(line: str, texts: Sequence[tuple[str, int, str]], where: str) -> Iterator[Span]:
    """The entity of an annotation; none for a relation, which has no offsets."""
    cells = line.split("\t")
    if len(cells) < 5:
        return
    try:
        begin, end = int(cells[1]), int(cells[2])
    except ValueError:
        raise DataError("not an annotation", where=where, found=repr(line[:60])) from None
    document = " ".join(text for text, _, _ in texts)
    if document[begin:end] != cells[3]:
        raise DataError(
            "labels do not line up with words",
            where=where,
            found=f"{document[begin:end]!r} at {begin} to {end}",
            expected=repr(cells[3]),
        )
    yield begin, end, cells[4]


def sentence_of_spans(text: str, spans: Sequence[Span], where: str) -> tuple[Sentence, int]:
    """A sentence in which words that a span touches are labeled; and how many spans end within a word.

    Of overlapping spans, the longest is used.
    """
    words = [match.span() for match in _WORD.finditer(text)]
    labels = [OUTSIDE] * len(words)
    widened = 0
    for begin, end, kind in sorted(spans, key=lambda span: span[0] - span[1]):
        touched = [i for i, (first, stop) in enumerate(words) if first < end and stop > begin]
        if not touched or any(labels[i] != OUTSIDE for i in touched):
            continue
        widened += words[touched[0]][0] < begin or words[touched[-1]][1] > end
        for i in touched:
            labels[i] = f"{'B' if i == touched[0] else 'I'}-{kind}"
    return Sentence(tuple(text[b:e] for b, e in words), tuple(labels), where), widened


def _warn_of_widened(number: int, path: str | Path) -> None:
    if number:
        logging.warning("%s: %d entities end within a word; the whole word is labeled", path, number)


def _of_json(
    text: str, path: str | Path, text_column: str | None, label_column: str | None
) -> list[Sentence]:
    sentences: list[Sentence] = []
    widened = 0
    for record, where in json_records(text, path):
        words = record[find_column(record, text_column, (*WORDS, "text"), "--text_column", where)]
        labels = record[find_column(record, label_column, (*TAGS, *ENTITIES), "--label_column", where)]
        if isinstance(words, str):
            sentence, wider = sentence_of_spans(words, list(_json_spans(words, labels, where)), where)
            widened += wider
        else:
            _check_aligned(words, labels, where)
            sentence = _sentence(words, labels, where)
        sentences += [sentence] if sentence.words else []
    _warn_of_widened(widened, path)
    return sentences


def _check_aligned(words: Any, labels: Any, where: str) -> None:
    if isinstance(labels, list) and any(isinstance(label, int) for label in labels):
        raise DataError(
            "numbers instead of label names",
            where=where,
            found=repr(labels)[:60],
            expected="a list such as ['O', 'B-Drug']",
            fix="write the name of each number",
        )
    for name, value in (("words", words), ("labels", labels)):
        if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
            raise DataError(f"no {name}", where=where, found=repr(value)[:60], expected="a list of strings")
    if len(words) != len(labels):
        raise DataError(
            "labels do not line up with words",
            where=where,
            found=f"{len(labels)} labels",
            expected=f"{len(words)}, one for each word",
        )


def _json_spans(text: str, entities: Any, where: str) -> Iterator[Span]:
    for entity in entities if isinstance(entities, list) else [entities]:
        if isinstance(entity, Mapping):
            entity = [entity.get("start"), entity.get("end"), entity.get("label", entity.get("type"))]
        match entity:
            case [int(begin), int(end), str(kind)] if 0 <= begin < end <= len(text) and kind:
                yield begin, end, kind
            case _:
                raise DataError(
                    "labels do not line up with words",
                    where=where,
                    found=repr(entity)[:60],
                    expected=f"[start, end, type] within the {len(text)} characters of the text",
                )

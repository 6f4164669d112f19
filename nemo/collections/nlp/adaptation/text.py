"""The text of an adaptation: the field's and general text, each split into training and held-out text.

Documents, or parts of long ones, are held out by a hash of their content. The files are plain text, with a
blank line after each document.
"""

import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from nemo.collections.nlp.data.inputs import TextOptions, read_documents
from nemo.collections.nlp.finetuning.examples import Example
from nemo.collections.nlp.options.adaptation import AdaptationOptions
from nemo.utils.errors import DataError
from nemo.utils.hashing import number_of

TRAIN, REPLAY, MIXED = "field.txt", "replay.txt", "field_and_replay.txt"
FIELD, GENERAL = "field_held_out.txt", "general_held_out.txt"
HELD_OUT = 20
"""One unit in twenty is held out."""
UNIT = 50
"""Paragraphs in a unit: longer documents are split, because running text is a single document."""
MOST_HELD_OUT = 2_000_000
"""Maximum number of held-out characters to evaluate on."""
_SHINGLE = 8  # words; a shared run of this length is a match
_WORD = re.compile(r"[\u3400-\u9fff]|[^\W\u3400-\u9fff]+")

Document = Sequence[str]


def write_texts(options: AdaptationOptions, folder: Path) -> dict[str, int]:
    """Write the text files of an adaptation; returns the number of characters in each.

    Raises:
        DataError: there is too little text. Also as `read_documents`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sizes = _split(read_documents(options.text, TextOptions.of(options)), folder, TRAIN, FIELD)
    _check_enough(sizes, " ".join(options.text))
    mixed = [TRAIN]
    if options.replay is not None:
        most = int(sizes[TRAIN] * options.replay_share / (1 - options.replay_share))
        replayed = _split(
            read_documents(options.replay, TextOptions.of(options)), folder, REPLAY, GENERAL, most
        )
        measured_only = {GENERAL: replayed[GENERAL]} if options.replay_share == 0 else replayed
        _check_enough(measured_only, f"--replay {options.replay}")
        sizes |= replayed
        mixed.append(REPLAY)
    with (folder / MIXED).open("wb") as out:
        for name in mixed:
            with (folder / name).open("rb") as file:
                shutil.copyfileobj(file, out)
    return sizes


def _check_enough(sizes: Mapping[str, int], where: str) -> None:
    """Refuse a text if nothing is held out, or nothing is left to train on."""
    if not all(sizes.values()):
        raise DataError(
            "too little text to hold some out for evaluation",
            where=where,
            found=f"{sum(sizes.values())} characters",
            expected=f"a few hundred documents, or at least {HELD_OUT * UNIT} paragraphs",
            fix="give more text, or --text_layout lines or blank if documents were not separated correctly",
        )


def _split(
    documents: Iterable[Document], folder: Path, train: str, held_out: str, most: int | None = None
) -> dict[str, int]:
    """Split the units of documents into two files; `train` gets at most `most` characters, if given."""
    limits = {train: most, held_out: MOST_HELD_OUT}
    sizes = dict.fromkeys(limits, 0)
    with ExitStack() as stack:
        files = {name: stack.enter_context((folder / name).open("w", encoding="utf-8")) for name in limits}
        for text in _units(documents):
            name = held_out if number_of(text) % HELD_OUT == 0 else train
            limit = limits[name]
            if limit is None or sizes[name] < limit:
                files[name].write(text + "\n\n")
                sizes[name] += len(text)
    return sizes


def _units(documents: Iterable[Document]) -> Iterator[str]:
    for document in documents:
        for start in range(0, len(document), UNIT):
            yield "\n".join(document[start : start + UNIT])


def leak_into(text: Path, examples: Sequence[Example], name: str, of_text: str) -> str | None:
    """A warning if test examples occur verbatim in the text; None if none do.

    Case and punctuation are ignored, and so are examples of fewer than eight words.

    Args:
        text: a file of `write_texts`.
        name, of_text: of the examples and of the text, in the warning.
    """
    by_words: dict[tuple[str, ...], list[Example]] = {}
    for example in examples:
        by_words.setdefault(tuple(_words(" ".join(example.content))), []).append(example)
    wanted: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    for words in by_words:
        if len(words) >= _SHINGLE:
            wanted.setdefault(words[:_SHINGLE], []).append(words)
    found = set()
    for document in _documents(text):
        words = tuple(_words(document))
        for i in range(len(words) - _SHINGLE + 1):
            for sentence in wanted.get(words[i : i + _SHINGLE], ()):
                if words[i : i + len(sentence)] == sentence:
                    found.add(sentence)
    leaked = [example for words, alike in by_words.items() if words in found for example in alike]
    if not leaked:
        return None
    return (
        f"{len(leaked)} of {len(examples)} examples of {name} occur in {of_text}, the first at "
        f"{leaked[0].where}, so the gain will look too good; fix: remove the texts they come from"
    )


def _words(text: str) -> list[str]:
    return [match.group() for match in _WORD.finditer(text.lower())]


def _documents(path: Path) -> Iterator[str]:
    lines: list[str] = []
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.strip():
                lines.append(line)
            elif lines:
                yield " ".join(lines)
                lines = []
    if lines:
        yield " ".join(lines)

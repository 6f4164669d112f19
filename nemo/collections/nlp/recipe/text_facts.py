"""What the recipe knows about a text before it is prepared."""

import codecs
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from nemo.collections.nlp.data.hdf5 import holds_shards_instead_of_text
from nemo.collections.nlp.data.inputs import TextOptions, sections_of, sources_of
from nemo.collections.nlp.data.inputs.excerpts import HEAD_BYTES
from nemo.collections.nlp.data.inputs.folders import listing_at, some_of
from nemo.collections.nlp.data.inputs.places import open_at, place_of, reading, shown
from nemo.collections.nlp.data.inputs.sources import Source
from nemo.collections.nlp.data.inspection.characters import characters_of, scripts_of
from nemo.collections.nlp.data.inspection.language import languages_of
from nemo.collections.nlp.data.inspection.text import count
from nemo.collections.nlp.data.store.token_store import TokenStore, is_store, store_in
from nemo.collections.nlp.data.tokenizers.plain import bert_backend
from nemo.collections.nlp.data.tokenizers.special_tokens import vocabulary_order
from nemo.collections.nlp.data.tokenizers.suitability import lost_marks
from nemo.collections.nlp.data.tokenizers.vocabulary import COVERAGE
from nemo.utils.errors import DataError, UsageError
from nemo.utils.logging import logging

COUNTED_BYTES = 64_000_000
"""Of a larger text, only sections from all over it are examined."""
LEAST_CHARACTERS = 10_000
"""Fewer give only some dozens of samples, with nothing to hold out."""

_NO_TEXT = "no text in this folder"
_SECOND_SENTENCE = re.compile(r"[.!?…][\"'”)\]]*\s+\S|[。！？][”」』）]*\S")


@dataclass(frozen=True)
class TextFacts:
    """Facts about a text or prepared data.

    Attributes:
        names: the texts, in a form that is safe to log.
        inputs: the texts as they are read; single files, if no name says that they are text.
        kind: "text", "store" (of tokens), or "shards".
        format, layout: values of `--text_format` and `--text_layout`.
        is_unnamed: whether no file name says that it is text, as for programs.
        num_files: number of files.
        num_bytes: stored size.
        documents, characters: approximate numbers; 0 for prepared data.
        tokens: number of tokens of a store; None for text.
        layouts: names of layouts, the most frequent first.
        one_sentence_share: share of documents with a single sentence.
        scripts, languages: shares, the largest first.
        lost_marks: share of the letters from which BERT's lower-casing would also strip accents.
        alphabet: number of different characters that make up nearly all of the text.
        held_out: held-out text, recognized by file name; None if there is none.
    """

    names: tuple[str, ...]
    inputs: tuple[str, ...]
    kind: str = "text"
    format: str = "auto"
    layout: str = "auto"
    is_unnamed: bool = False
    num_files: int = 1
    num_bytes: int = 0
    documents: int = 0
    characters: int = 0
    tokens: int | None = None
    layouts: tuple[str, ...] = ()
    one_sentence_share: float = 0.0
    scripts: tuple[tuple[str, float], ...] = ()
    languages: tuple[tuple[str, float], ...] = ()
    lost_marks: float = 0.0
    alphabet: int = 0
    held_out: str | None = None


def facts_of(texts: Sequence[str], options: TextOptions) -> TextFacts:
    """Examine texts: all of a small text, sections from all over a large one.

    Args:
        texts: files, folders or addresses of text; or one input of prepared data: a folder of `nemo-bert
            prepare`, a token store, shards.
        options: how text is read.

    Raises:
        MissingFileError, DataError: the text cannot be read, or there is too little.
        UsageError: prepared data together with other inputs.
    """
    names = tuple(shown(text) for text in texts)
    prepared = [(text, kind) for text in texts if (kind := _kind_of_prepared(text)) is not None]
    if prepared and len(texts) > 1:
        raise UsageError(
            "prepared data cannot be combined with other text",
            where=shown(prepared[0][0]),
            found=f"{len(texts)} texts",
            fix="give it alone, or the text that it was made from",
        )
    if prepared:
        ((text, kind),) = prepared
        return _facts_of_prepared(text, kind, names)
    sources, are_unnamed = _sources_of(texts, options)
    if not are_unnamed:
        return _facts_of_text(names, tuple(texts), sources, options, _named_held_out(texts, options.format))
    options = replace(options, format="text", layout=_layout_of_unnamed(options))
    facts = _facts_of_text(names, tuple(source.path for source in sources), sources, options)
    return replace(facts, is_unnamed=True)


def _kind_of_prepared(text: str) -> str | None:
    place = place_of(text)
    if isinstance(place, str) or not place.exists():
        return None
    if is_store(place) or store_in(place, "train"):
        return "store"
    return "shards" if holds_shards_instead_of_text(place) else None


def _facts_of_prepared(text: str, kind: str, names: tuple[str, ...]) -> TextFacts:
    place = Path(text)
    if kind == "shards":
        files = [place] if place.is_file() else [*place.rglob("*.hdf5"), *place.rglob("*.h5")]
        return TextFacts(
            names, (text,), kind, num_files=len(files), num_bytes=sum(file.stat().st_size for file in files)
        )
    counts = TokenStore(place if is_store(place) else place / "train").manifest["counts"]
    return TextFacts(names, (text,), kind, documents=counts["documents"], tokens=counts["tokens"])


def _sources_of(texts: Sequence[str], options: TextOptions) -> tuple[list[Source], bool]:
    """The files; and whether they were found by content, because no name says that one of them is text."""
    try:
        return sources_of(list(texts), options), False
    except DataError as problem:
        if options.format != "auto" or _NO_TEXT not in str(problem):
            raise
        if not (sources := _unnamed_sources(texts, options)):
            raise
        return sources, True


def _unnamed_sources(texts: Sequence[str], options: TextOptions) -> list[Source]:
    """The files of folders whose content is text, such as programs; `training/` is an ordinary name there."""
    listings = {text: listing_at(place_of(text), "text") for text in texts}
    found = [
        str(file)
        for text, listing in listings.items()
        for file in ([text] if listing is None else listing.files.values())
    ]
    as_text = replace(options, format="text", layout=_layout_of_unnamed(options))
    sources: list[Source] = []
    with logging.temp_verbosity("WARNING"):  # of thousands, all the same
        for file in found:
            with suppress(DataError):
                sources += [source for source in sources_of(file, as_text) if _begins_as_text(source)]
    return sources_of([source.path for source in sources], as_text) if sources else []


def _begins_as_text(source: Source) -> bool:
    """Whether the first bytes are UTF-8; the last character may be incomplete."""
    with reading(source.path), open_at(source.path) as file:
        try:
            codecs.getincrementaldecoder("utf-8")().decode(file.read(HEAD_BYTES))
        except UnicodeDecodeError:
            return False
    return True


def _layout_of_unnamed(options: TextOptions) -> str:
    """The layout of files found by content: in a program, a blank line does not end a document."""
    return "running" if options.layout == "auto" else options.layout


def _named_held_out(texts: Sequence[str], format_: str) -> str | None:
    """The folder, if its file names say that it has both training and held-out text; else None."""
    if len(texts) != 1:
        return None
    listing = listing_at(place_of(texts[0]), format_)
    has_both = listing is not None and listing.splits.has_training and listing.splits.held_out_by_name
    return texts[0] if has_both else None


def _facts_of_text(
    names: tuple[str, ...],
    inputs: tuple[str, ...],
    sources: list[Source],
    options: TextOptions,
    held_out: str | None = None,
) -> TextFacts:
    sections = sections_of(sources)
    num_bytes = sum(max(source.num_bytes, 0) for source in sources)
    every = max(1, round(num_bytes / COUNTED_BYTES))
    counts = count(sections[::every], options)
    characters = characters_of(counts.code_points)
    looked_at = sum(characters.values())
    scale = len(sections) / max(1, len(sections[::every]))
    if looked_at < LEAST_CHARACTERS:
        raise DataError(
            "too little text to learn from",
            where=some_of([str(source) for source in sources]),
            found=f"{looked_at:,} characters",
            expected=f"{LEAST_CHARACTERS:,} or more; 200,000 teach which words occur together, "
            "10 million or more make a useful model",
        )
    windows = counts.excerpts.windows
    paragraphs = [paragraph for window in windows for paragraph in window.paragraphs]
    documents = [window.paragraphs for window in windows if window.is_document]
    single = sum(len(document) == 1 and not _SECOND_SENTENCE.search(document[0]) for document in documents)
    layouts = {source.layout or source.format: None for source in sources}
    lower_casing = bert_backend(vocabulary_order(), do_lower_case=True).normalizer
    return TextFacts(
        names,
        inputs,
        format=options.format,
        layout=options.layout,
        held_out=held_out,
        num_files=len(sources),
        num_bytes=num_bytes,
        documents=round(counts.documents * scale),
        characters=round(looked_at * scale),
        layouts=tuple(layouts),
        one_sentence_share=single / len(documents) if documents else 0.0,
        scripts=tuple(scripts_of(characters).items()),
        languages=tuple(languages_of(paragraphs).items()),
        lost_marks=lost_marks(characters, lower_casing.normalize_str).share,
        alphabet=_alphabet(characters),
    )


def _alphabet(characters: dict[str, int]) -> int:
    covered, total = 0, sum(characters.values())
    for number, times in enumerate(characters.values()):
        if covered >= COVERAGE * total:
            return number
        covered += times
    return len(characters)

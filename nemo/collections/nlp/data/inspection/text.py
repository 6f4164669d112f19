"""Statistics of text: what to know before training on it.

Characters, documents and repeats are counted in the whole text; sentences, languages and tokens are estimated
from excerpts.
"""

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from nemo.collections.nlp.data.inputs.documents import Oddities
from nemo.collections.nlp.data.inputs.options import AUTO, TextOptions
from nemo.collections.nlp.data.inputs.places import shown
from nemo.collections.nlp.data.inputs.sections import Section, SectionReader, check_bad_records, sections_of
from nemo.collections.nlp.data.inputs.sources import Source, sources_of
from nemo.collections.nlp.data.inspection.characters import characters_of, is_odd, scripts_of
from nemo.collections.nlp.data.inspection.counts import (
    LENGTHS,
    Counts,
    hashes_of,
)
from nemo.collections.nlp.data.inspection.language import languages_of
from nemo.collections.nlp.data.inspection.memory_store import store_in_memory
from nemo.collections.nlp.data.inspection.tokens import (
    SEQUENCE_LENGTHS,
    PairFigures,
    pair_figures,
    unigram_entropy,
    unknown_characters,
)
from nemo.collections.nlp.data.store.store_builder import excerpt_of
from nemo.collections.nlp.data.text.sentences import make_splitter
from nemo.collections.nlp.data.tokenizers.base import TokenizerSpec
from nemo.collections.nlp.data.tokenizers.suitability import LostMarks, lacks_capitals, lost_marks
from nemo.utils.errors import DataError
from nemo.utils.progress import counted, working
from nemo.utils.wording import quantity

BATCH_CHARS = 1 << 20  # text counted at once
MOST_CHARS_SHOWN = 80
MOST_NAMED = 12  # examples of each finding
# Tags and entities of HTML and wikis. Others, such as WikiText's <unk>, may be words of the text.
_TAGS = (
    "a|b|i|p|br|div|em|font|h[1-6]|hr|img|li|nowiki|ol|ref|script|small|span|strong|su[bp]|t[dhr]|table|ul"
)
_MARKUP = re.compile(rf"</?(?:{_TAGS})(?:\s[^<>]{{0,200}})?/?>|&(?:[a-z]{{2,8}}|#\d{{1,6}});", re.IGNORECASE)


@dataclass(frozen=True)
class TokenFigures:
    """Token statistics of the text, estimated from excerpts.

    Attributes:
        vocab_size: entries of the tokenizer.
        tokens: approximate number in the whole text.
        unknown_share: share of the tokens.
        unknown_characters: characters without a token -> occurrences in the whole text.
        is_uncased: the vocabulary has no capital letters, and the tokenizer keeps those of the text.
        lost_marks: accents that the tokenizer strips from the letters of the text.
        pieces_per_word, chars_per_token: means.
        unigram_entropy: nats per token.
        pairs: sequence length -> statistics of its pairs, unless the text is too small.
    """

    vocab_size: int
    tokens: int
    unknown_share: float
    unknown_characters: dict[str, int]
    is_uncased: bool
    lost_marks: LostMarks
    pieces_per_word: float
    chars_per_token: float
    unigram_entropy: float
    pairs: dict[int, PairFigures]


@dataclass(frozen=True)
class TextFigures:
    """Statistics of a text.

    Attributes:
        files, bytes: number and stored size.
        formats: kind of file ("text, headings", "json-lines, gzip") -> number.
        documents, paragraphs, characters: in the whole text.
        words: number of words separated by spaces.
        sentences: an estimate, unless `sample_share` is 1.
        sentence_chars: median, 90th percentile and longest in the excerpts.
        one_sentence_share: share of documents with a single sentence.
        documents_by_length: lower bound of a range of lengths in characters -> documents in it.
        chars_by_length: the same -> characters in these documents.
        repeated_documents, repeated_paragraphs: share that repeats an earlier one.
        most_repeated: beginnings of the most frequent paragraphs, and how often they occur.
        scripts: script -> share of the letters.
        languages: ISO 639 code -> share, predicted.
        different_characters: their number.
        odd_characters: characters that no text should have -> occurrences.
        removed: defects that the reader repaired, such as NUL characters.
        markup_share: share of paragraphs with HTML tags or entities.
        table_share: share of paragraphs with tabs.
        sample_share: share of the text in the excerpts.
        tokens: None without a tokenizer.
    """

    files: int
    bytes: int
    formats: dict[str, int]
    documents: int
    paragraphs: int
    characters: int
    words: int
    sentences: int
    sentence_chars: tuple[int, int, int]
    one_sentence_share: float
    documents_by_length: dict[int, int]
    chars_by_length: dict[int, int]
    repeated_documents: float
    repeated_paragraphs: float
    most_repeated: list[tuple[str, int]]
    scripts: dict[str, float]
    languages: dict[str, float]
    different_characters: int
    odd_characters: dict[str, int]
    removed: Oddities
    markup_share: float
    table_share: float
    sample_share: float
    tokens: TokenFigures | None


def inspect_text(
    inputs: Sequence[str],
    options: TextOptions = AUTO,
    tokenizer: TokenizerSpec | None = None,
    workers: int = 1,
) -> TextFigures:
    """Statistics of a corpus; the same for any number of workers.

    Args:
        inputs: files, folders or addresses, see `inputs.sources.sources_of`.
        options: how text is read.
        tokenizer: for token statistics.
        workers: number of processes that read.

    Raises:
        DataError: the text is empty or unreadable.
    """
    sources = sources_of(list(inputs), options)
    sections = sections_of(sources)
    counts = count(sections, options, workers)
    if not counts.documents:
        raise _no_text(sources)
    characters = characters_of(counts.code_points)
    num_chars = sum(characters.values())
    windows = counts.excerpts.windows
    splitter = make_splitter(excerpt_of(sections, options), options.sentences)
    split = [[s for paragraph in window.paragraphs for s in splitter(paragraph)] for window in windows]
    excerpt_chars = sum(window.num_chars for window in windows)
    scale = num_chars / excerpt_chars
    single = sum(w.is_document and len(sentences) == 1 for w, sentences in zip(windows, split, strict=True))
    lengths = [len(sentence) for sentences in split for sentence in sentences]
    paragraphs = [paragraph for window in windows for paragraph in window.paragraphs]
    return TextFigures(
        files=len(sources),
        bytes=sum(source.num_bytes for source in sources),
        formats=_formats(sources),
        documents=counts.documents,
        paragraphs=counts.paragraphs,
        characters=num_chars,
        words=counts.paragraphs + sum(times for c, times in characters.items() if c.isspace()),
        sentences=round(len(lengths) * scale),
        sentence_chars=_quantiles(lengths),
        one_sentence_share=min(1.0, single / counts.excerpts.share / counts.documents),
        documents_by_length=_by_length(counts.documents_by_length),
        chars_by_length=_by_length(counts.chars_by_length),
        repeated_documents=counts.repeated_documents.share,
        repeated_paragraphs=counts.repeated_paragraphs.share,
        most_repeated=_most_repeated(paragraphs, counts),
        scripts=scripts_of(characters),
        languages=languages_of(paragraphs),
        different_characters=len(characters),
        odd_characters={c: times for c, times in characters.items() if is_odd(c)},
        removed=counts.odd,
        markup_share=sum(bool(_MARKUP.search(text)) for text in paragraphs) / len(paragraphs),
        table_share=sum("\t" in text for text in paragraphs) / len(paragraphs),
        sample_share=excerpt_chars / num_chars,
        tokens=_token_figures(split, characters, scale, tokenizer) if tokenizer else None,
    )


def _no_text(sources: Sequence[Source]) -> DataError:
    return DataError(
        "no text in the corpus",
        where=", ".join(shown(source.path) for source in sources[:3]),
        found=f"{quantity(len(sources), 'file')} of {sum(source.num_bytes for source in sources)} bytes",
    )


def count(sections: Sequence[Section], options: TextOptions = AUTO, workers: int = 1) -> Counts:
    """The counts of sections of a corpus, each made by one of `workers` processes."""
    numbered = list(enumerate(sections))
    counts = Counts()
    with (
        working("counting", len(numbered), "sections of the text") as work,
        _mapping(min(workers, len(numbered))) as mapped,
    ):
        for section_counts in counted(mapped(partial(_count_section, options=options), numbered), work):
            counts.merge(section_counts)
            check_bad_records(counts.odd.bad_records, options)
    return counts


@contextmanager
def _mapping(workers: int) -> Iterator[Any]:
    """`map`, in this process or in others."""
    if workers < 2:
        yield map
        return
    with ProcessPoolExecutor(workers) as pool:
        try:
            yield pool.map
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _count_section(numbered: tuple[int, Section], options: TextOptions) -> Counts:
    number, section = numbered
    rng = np.random.default_rng(number)
    reader = SectionReader(section, options)
    counts, batch, size = Counts(), [], 0
    for document in reader.documents():
        batch.append(document)
        size += sum(map(len, document))
        if size > BATCH_CHARS:
            counts.add(batch, rng)
            batch, size = [], 0
    if batch:
        counts.add(batch, rng)
    counts.odd = reader.odd
    return counts


def _formats(sources: list[Source]) -> dict[str, int]:
    formats: dict[str, int] = {}
    for source in sources:
        name = ", ".join(filter(None, (source.format, source.layout, source.compression)))
        formats[name] = formats.get(name, 0) + 1
    return formats


def _quantiles(lengths: list[int]) -> tuple[int, int, int]:
    median, ninth, longest = np.quantile(lengths or [0], (0.5, 0.9, 1)).astype(int).tolist()
    return median, ninth, longest


def _by_length(values: np.ndarray) -> dict[int, int]:
    present = np.flatnonzero(values)
    bars = range(present[0], present[-1] + 1) if len(present) else range(0)
    return {LENGTHS[bar]: int(values[bar]) for bar in bars}


def _most_repeated(paragraphs: list[str], counts: Counts) -> list[tuple[str, int]]:
    times = counts.repeated_paragraphs.times(hashes_of(paragraphs))
    different = {paragraph: count for paragraph, count in zip(paragraphs, times.tolist(), strict=True)}
    repeated = [(text[:MOST_CHARS_SHOWN], count) for text, count in different.items() if count > 1]
    return sorted(repeated, key=lambda entry: (-entry[1], entry[0]))[:MOST_NAMED]


def _token_figures(
    documents: list[list[str]], characters: dict[str, int], scale: float, tokenizer: TokenizerSpec
) -> TokenFigures:
    store = store_in_memory(documents, tokenizer)
    tokens = store.tokens
    num_chars = sum(len(sentence) for document in documents for sentence in document)
    pairs = {length: pair_figures(store, length) for length in SEQUENCE_LENGTHS}
    return TokenFigures(
        vocab_size=tokenizer.vocab_size,
        tokens=round(len(tokens) * scale),
        unknown_share=float(np.mean(tokens == tokenizer.unk_id)) if len(tokens) else 0.0,
        unknown_characters=unknown_characters(characters, tokenizer),
        is_uncased=lacks_capitals(tokenizer),
        lost_marks=lost_marks(characters, tokenizer.normalized),
        pieces_per_word=len(tokens) / max(int(store.starts_word.sum()), 1),
        chars_per_token=num_chars / max(len(tokens), 1),
        unigram_entropy=unigram_entropy(tokens, tokenizer),
        pairs={length: figures for length, figures in pairs.items() if figures is not None},
    )

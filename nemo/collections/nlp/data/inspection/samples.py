"""A few samples as a model would get them in training.

Shapes: n samples, T tokens of a row.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from nemo.collections.nlp.data.datasets import BertPretrainingPreprocessedDataset
from nemo.collections.nlp.data.inputs.options import AUTO, TextOptions
from nemo.collections.nlp.data.inputs.sections import SectionReader, sections_of
from nemo.collections.nlp.data.inputs.sources import sources_of
from nemo.collections.nlp.data.inspection.inspected import kind_of, prepared_in, tokenizer_beside
from nemo.collections.nlp.data.inspection.memory_store import store_in_memory
from nemo.collections.nlp.data.inspection.tokens import StoreArrays
from nemo.collections.nlp.data.samples.masking import Masking
from nemo.collections.nlp.data.samples.pairs import joined, make_pairs
from nemo.collections.nlp.data.samples.sampling import Sampling
from nemo.collections.nlp.data.samples.sequences import SequenceBuilder
from nemo.collections.nlp.data.store.store_builder import excerpt_of
from nemo.collections.nlp.data.store.token_store import open_or_build
from nemo.collections.nlp.data.text.sentences import make_splitter
from nemo.collections.nlp.data.tokenizers.base import TokenizerSpec
from nemo.collections.nlp.data.tokenizers.files import CONTINUATION
from nemo.collections.nlp.data.tokenizers.word_starts import WordStarts
from nemo.utils.errors import DataError, UsageError

TEXT_CHARS = 1 << 20  # drawn from a corpus, to take samples from
SECTION_BYTES = 1 << 20
NEIGHBORS = 64  # consecutive documents, one of whose pairs is drawn


@dataclass(frozen=True)
class Token:
    """One token of a sample.

    Attributes:
        text: the original token, without marks.
        shown: what the model sees in its place.
        starts_word: whether a word begins with it.
        is_target: whether the model must predict it.
        is_masked: whether the model sees a mask in its place.
    """

    text: str
    shown: str
    starts_word: bool
    is_target: bool
    is_masked: bool


@dataclass(frozen=True)
class Sample:
    """One sample: `[CLS] A [SEP] B [SEP]` and padding.

    Attributes:
        a, b: tokens of the two texts; b is empty if there is one text.
        is_random: whether B does not follow A; None without a label.
        num_tokens: number of tokens, special ones included.
        max_seq_length: length with padding.
    """

    a: list[Token]
    b: list[Token]
    is_random: bool | None
    num_tokens: int
    max_seq_length: int


@dataclass(frozen=True)
class Drawing:
    """Which samples are drawn, and how they are masked.

    Attributes:
        number: how many, at most.
        sampling: how they are masked; shards have their own length.
    """

    number: int = 4
    sampling: Sampling = field(default_factory=Sampling)


def draw_samples(
    path: str, drawing: Drawing, tokenizer: TokenizerSpec | None = None, options: TextOptions = AUTO
) -> list[Sample]:
    """Samples of a text, a token store, shards, or the training store of a prepared folder.

    Reads only a little of a text, and writes nothing.

    Args:
        path: what to draw from.
        tokenizer: default: the one saved with prepared data.
        options: how text is read.

    Raises:
        UsageError: there is no tokenizer, or stored masks are requested but the data has none.
        DataError: text or shards are not usable, or there is too little text.
    """
    kind = kind_of(path)
    if kind != "text":
        data = prepared_in(Path(path))[0]
        tokenizer = tokenizer or tokenizer_beside(data)
    if tokenizer is None:
        raise UsageError(
            "no tokenizer",
            where=path,
            expected="--tokenizer with a folder, a name or a vocab.txt",
            fix="" if kind != "text" else f"nemo-bert tokenizer {path} trains one",
        )
    if kind == "shards":
        return _of_shards(data, drawing, tokenizer)
    drawing = replace(drawing, sampling=drawing.sampling.of_text())
    store = _store_of_text(path, tokenizer, options, drawing.sampling.seed) if kind == "text" else None
    return _of_store(store or open_or_build(data, tokenizer), path, drawing, tokenizer)


def target_words(tokens: Sequence[Token]) -> list[list[Token]]:
    """The words with tokens to predict, reduced to these tokens."""
    number = itertools.accumulate(token.starts_word for token in tokens)
    words = itertools.groupby(zip(number, tokens, strict=True), key=lambda pair: pair[0])
    targets = ([token for _, token in word if token.is_target] for _, word in words)
    return [word for word in targets if word]


def _store_of_text(path: str, tokenizer: TokenizerSpec, options: TextOptions, seed: int) -> StoreArrays:
    """A few documents from random positions of a corpus."""
    sources = sources_of(path, options)
    sections = sections_of(sources, SECTION_BYTES)
    splitter = make_splitter(excerpt_of(sections, options), options.sentences)
    documents, size = [], 0
    for number in np.random.default_rng(seed).permutation(len(sections)).tolist():
        for document in SectionReader(sections[number], options).documents():
            documents.append([s for paragraph in document for s in splitter(paragraph)])
            size += sum(map(len, document))
            if size > TEXT_CHARS:
                return store_in_memory(documents, tokenizer)
    return store_in_memory(documents, tokenizer)


def _of_store(store: StoreArrays, path: str, drawing: Drawing, tokenizer: TokenizerSpec) -> list[Sample]:
    num_documents = len(store.document_offsets) - 1
    if num_documents == 0:
        raise DataError("no text to draw samples from", where=path)
    sampling = drawing.sampling
    assert sampling.max_seq_length is not None and sampling.mask_probability is not None
    rng = np.random.default_rng(sampling.seed)
    tables = []
    for first in rng.integers(0, num_documents, drawing.number).tolist():
        some = range(first, min(first + NEIGHBORS, num_documents))
        pairs = make_pairs(store, sampling.max_seq_length, seed=sampling.seed, source=path, documents=some)
        tables.append(pairs[rng.integers(0, len(pairs), 1)])
    pairs = joined(tables)
    builder = SequenceBuilder(tokenizer, sampling.max_seq_length)
    rows = builder.build(store, pairs)
    masking = Masking(
        sampling.mask_probability,
        tokenizer.mask_id,
        builder.replacements,
        str(sampling.masking),
        sampling.seed,
    )
    shown, chosen = masking(
        rows.ids, rows.starts_word, rows.may_choose, rows.lengths, 0, np.arange(len(pairs))
    )
    return _samples(
        _Rows(rows.ids, shown, chosen, rows.is_token, rows.in_b, rows.starts_word, pairs.is_random), tokenizer
    )


def _of_shards(path: Path, drawing: Drawing, tokenizer: TokenizerSpec) -> list[Sample]:
    dataset = BertPretrainingPreprocessedDataset(
        path,
        sampling=replace(drawing.sampling, max_seq_length=None),
        tokenizer=tokenizer,
        only_mlm_loss=True,
    )
    batch = next(dataset.batches(drawing.number))
    ids, is_token = batch["output_ids"], batch["input_mask"] == 1
    starts_word = np.zeros_like(is_token)
    words = WordStarts(tokenizer.starts_word, tokenizer.vocabulary(), tokenizer.special_ids)
    starts_word[is_token] = words([row[there] for row, there in zip(ids, is_token, strict=True)])
    return _samples(
        _Rows(
            ids,
            batch["input_ids"],
            batch["output_mask"] == 1,
            is_token,
            batch["input_type_ids"] == 1,
            starts_word,
            batch["labels"],
        ),
        tokenizer,
    )


@dataclass(frozen=True)
class _Rows:
    """Samples as arrays: (n, T), labels (n)."""

    ids: np.ndarray
    shown: np.ndarray
    chosen: np.ndarray
    is_token: np.ndarray
    in_b: np.ndarray
    starts_word: np.ndarray
    labels: np.ndarray


def _samples(rows: _Rows, tokenizer: TokenizerSpec) -> list[Sample]:
    specials = {tokenizer.mask_id: tokenizer.mask_token, tokenizer.unk_id: tokenizer.unk_token}
    frame = {tokenizer.cls_id, tokenizer.sep_id}
    vocabulary = tokenizer.vocabulary()

    def text(number: int) -> str:
        token = specials.get(number) or vocabulary[number]
        return token.removeprefix(CONTINUATION) or token

    samples = []
    for row in range(len(rows.ids)):
        sides: tuple[list[Token], list[Token]] = ([], [])
        for position in np.flatnonzero(rows.is_token[row]).tolist():
            was, shown = int(rows.ids[row, position]), int(rows.shown[row, position])
            if was not in frame:
                side = sides[int(rows.in_b[row, position])]
                side.append(
                    Token(
                        text(was),
                        text(shown),
                        starts_word=bool(rows.starts_word[row, position]) or not side,
                        is_target=bool(rows.chosen[row, position]),
                        is_masked=shown == tokenizer.mask_id,
                    )
                )
        label = int(rows.labels[row])
        samples.append(
            Sample(
                *sides,
                is_random=None if label < 0 else bool(label),
                num_tokens=int(rows.is_token[row].sum()),
                max_seq_length=rows.ids.shape[1],
            )
        )
    return samples

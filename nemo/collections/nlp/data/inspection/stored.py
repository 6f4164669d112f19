"""Statistics of prepared data: token stores and shards."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nemo.collections.nlp.data.datasets import BertPretrainingPreprocessedDataset
from nemo.collections.nlp.data.hdf5 import has_held_out_shards, open_shard, shards_of
from nemo.collections.nlp.data.inspection.counts import LENGTHS, bars_of
from nemo.collections.nlp.data.inspection.tokens import SEQUENCE_LENGTHS, PairFigures, pair_figures
from nemo.collections.nlp.data.store.token_store import TokenStore, open_or_build
from nemo.collections.nlp.data.tokenizers.base import TokenizerSpec

MOST_LENGTHS = 1 << 20  # sentences or documents to measure, evenly spaced over the store
MOST_PAIRED = 1 << 16  # documents whose pairs are counted


@dataclass(frozen=True)
class StoreFigures:
    """Statistics of a token store.

    Attributes:
        documents, sentences, tokens: their numbers.
        unknown_share: share of the tokens.
        pieces_per_word: mean tokens per word.
        unigram_entropy: nats per token.
        sentence_tokens: median, 90th percentile and longest.
        one_sentence_share: share of documents with a single sentence.
        documents_by_length: lower bound of a range of lengths in tokens -> share of the documents in it.
        pairs: sequence length -> statistics of its pairs.
    """

    documents: int
    sentences: int
    tokens: int
    unknown_share: float
    pieces_per_word: float
    unigram_entropy: float
    sentence_tokens: tuple[int, int, int]
    one_sentence_share: float
    documents_by_length: dict[int, float]
    pairs: dict[int, PairFigures]


@dataclass(frozen=True)
class ShardFigures:
    """Statistics of a folder of shards, from the headers and the first shard.

    Attributes:
        shards, rows, bytes: of the training shards.
        held_out_shards, held_out_rows: of the held-out shards.
        seq_length, max_predictions: maximum tokens and targets per row.
        padding_share: share of all positions.
        random_share: share of random pairs; None without labels.
        cls_id, sep_id, mask_id: ids of the special tokens; None if too few rows show them.
        fits_tokenizer: True if the tokenizer made them; None without a tokenizer (another one is refused).
    """

    shards: int
    rows: int
    bytes: int
    held_out_shards: int
    held_out_rows: int
    seq_length: int
    max_predictions: int | None
    padding_share: float
    random_share: float | None
    cls_id: int
    sep_id: int
    mask_id: int | None
    fits_tokenizer: bool | None


def inspect_store(folder: Path, tokenizer: TokenizerSpec | None = None) -> StoreFigures:
    """Statistics of a token store.

    Args:
        tokenizer: the tokenizer that must have made the store.

    Raises:
        MissingFileError, DataError: it is missing or damaged, or was made with a different tokenizer.
    """
    return figures_of_store(TokenStore(folder) if tokenizer is None else open_or_build(folder, tokenizer))


def figures_of_store(store: TokenStore, seq_lengths: Sequence[int] = SEQUENCE_LENGTHS) -> StoreFigures:
    """Statistics of an open token store.

    Args:
        seq_lengths: sequence lengths at which pairs are counted.
    """
    counts = store.manifest["counts"]
    sentences, documents = store.sentence_offsets, store.document_offsets
    num_documents = counts["documents"]
    some = _evenly_spaced(num_documents)
    lengths = sentences[documents[some + 1]] - sentences[documents[some]]
    shares = np.bincount(bars_of(lengths), minlength=len(LENGTHS)) / len(some)
    present = np.flatnonzero(shares)
    some_sentences = _evenly_spaced(counts["sentences"])
    sentence_lengths = sentences[some_sentences + 1] - sentences[some_sentences]
    middle = max(0, num_documents - MOST_PAIRED) // 2
    paired = range(middle, min(middle + MOST_PAIRED, num_documents))
    pairs = {length: pair_figures(store, length, paired) for length in seq_lengths}
    median, ninth, longest = np.quantile(sentence_lengths, (0.5, 0.9, 1)).astype(int).tolist()
    return StoreFigures(
        documents=num_documents,
        sentences=counts["sentences"],
        tokens=counts["tokens"],
        unknown_share=counts["unknown_tokens"] / counts["tokens"],
        pieces_per_word=counts["tokens"] / int(np.count_nonzero(store.starts_word)),
        unigram_entropy=store.manifest["unigram_entropy"],
        sentence_tokens=(median, ninth, longest),
        one_sentence_share=float(np.mean(documents[some + 1] - documents[some] == 1)),
        documents_by_length={LENGTHS[bar]: float(shares[bar]) for bar in range(present[0], present[-1] + 1)},
        pairs={length: figures for length, figures in pairs.items() if figures is not None},
    )


def _evenly_spaced(number: int) -> np.ndarray:
    """At most `MOST_LENGTHS` indices from 0 to number - 1."""
    return (
        np.arange(number) if number <= MOST_LENGTHS else np.linspace(0, number - 1, MOST_LENGTHS).astype(int)
    )


def inspect_shards(path: Path, tokenizer: TokenizerSpec | None = None) -> ShardFigures:
    """Statistics of a shard or a folder of shards. The first one is read and checked in full.

    Args:
        tokenizer: the tokenizer that must have made the shards.

    Raises:
        DataError: the shards are not usable, or were made with a different tokenizer.
    """
    dataset = BertPretrainingPreprocessedDataset(path, None, tokenizer=tokenizer, only_mlm_loss=True)
    return figures_of_shards(dataset, path, tokenizer)


def figures_of_shards(
    dataset: BertPretrainingPreprocessedDataset, path: Path, tokenizer: TokenizerSpec | None = None
) -> ShardFigures:
    """Statistics of an open dataset, and of the held-out shards in the folder `path`."""
    held_out = map(open_shard, shards_of(path, "eval")) if has_held_out_shards(path) else ()
    held_out_rows = [shard.num_rows for shard in held_out]
    survey = dataset.survey
    return ShardFigures(
        shards=len(dataset.shards),
        rows=len(dataset),
        bytes=sum(shard.num_bytes for shard in dataset.shards),
        held_out_shards=len(held_out_rows),
        held_out_rows=sum(held_out_rows),
        seq_length=dataset.max_seq_length,
        max_predictions=dataset.shards[0].max_predictions,
        padding_share=survey.padding_share,
        random_share=survey.random_share,
        cls_id=survey.frame.cls_id,
        sep_id=survey.frame.sep_id,
        mask_id=survey.mask_id,
        fits_tokenizer=None if tokenizer is None else True,
    )

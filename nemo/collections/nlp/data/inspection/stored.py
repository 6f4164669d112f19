"""What was prepared for training - a token store, or shards - -> figures."""

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

MOST_LENGTHS = 1 << 20  # sentences or documents that are measured, evenly spaced over the store
MOST_PAIRED = 1 << 16  # documents whose pairs are looked at


@dataclass(frozen=True)
class StoreFigures:
    """Figures on a token store.

    Attributes:
        documents, sentences, tokens: how many.
        unknown_share: of the tokens.
        pieces_per_word: tokens in a word, on average.
        unigram_entropy: nats per token.
        sentence_tokens: median, 90th percentile and longest.
        one_sentence_share: documents of a single sentence.
        documents_by_length: smallest number of tokens -> share of the documents that have so many, up to the
            next.
        pairs: length of sequences -> pairs of that length.
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
    """Figures on a folder of shards, from the headers and the first shard.

    Attributes:
        shards, rows, bytes: of the shards for training.
        held_out_shards, held_out_rows: of the others.
        seq_length, max_predictions: tokens and predictions in a row at most.
        padding_share: of all places.
        random_share: pairs whose B does not follow A; None without labels.
        cls_id, sep_id, mask_id: the special tokens; None where there are too few to tell.
        fits_tokenizer: None where no tokenizer is at hand; another one is refused.
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
    """Figures of a token store.

    Args:
        tokenizer: the store is held to it.

    Raises:
        MissingFileError, DataError: there is none, it is damaged, or was made with a different tokenizer.
    """
    return figures_of_store(TokenStore(folder) if tokenizer is None else open_or_build(folder, tokenizer))


def figures_of_store(store: TokenStore, seq_lengths: Sequence[int] = SEQUENCE_LENGTHS) -> StoreFigures:
    """Figures of an open token store.

    Args:
        seq_lengths: of the sequences whose pairs are looked at.
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
    """Places from 0 to number - 1, `MOST_LENGTHS` of them at most."""
    return (
        np.arange(number) if number <= MOST_LENGTHS else np.linspace(0, number - 1, MOST_LENGTHS).astype(int)
    )


def inspect_shards(path: Path, tokenizer: TokenizerSpec | None = None) -> ShardFigures:
    """Figures of a shard, or of a folder of them. The first one is read and checked in full.

    Args:
        tokenizer: the shards are held to it.

    Raises:
        DataError: shards that cannot be used, or were made with a different tokenizer.
    """
    dataset = BertPretrainingPreprocessedDataset(path, None, tokenizer=tokenizer, only_mlm_loss=True)
    return figures_of_shards(dataset, path, tokenizer)


def figures_of_shards(
    dataset: BertPretrainingPreprocessedDataset, path: Path, tokenizer: TokenizerSpec | None = None
) -> ShardFigures:
    """Figures of an open dataset, and of what is held out in the folder `path`."""
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

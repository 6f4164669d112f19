"""A token store in memory, made of a few documents, to show samples without writing a store."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from nemo.collections.nlp.data.tokenizers.base import TokenizerSpec
from nemo.collections.nlp.data.tokenizers.word_starts import WordStarts


@dataclass
class MemoryStore:
    """The arrays of a store, see `token_store.TokenStore`."""

    tokens: np.ndarray
    starts_word: np.ndarray
    sentence_offsets: np.ndarray
    document_offsets: np.ndarray


def store_in_memory(documents: Iterable[list[str]], tokenizer: TokenizerSpec) -> MemoryStore:
    """Tokenize documents, each a list of sentences; sentences without tokens are dropped."""
    sentences: list[str] = []
    first: list[bool] = []
    for document in documents:
        sentences += document
        first += [True] + [False] * (len(document) - 1) if document else []
    encoded = tokenizer.encode_batch(sentences)
    document_of = np.cumsum(first) - 1
    lengths = np.array([len(ids) for ids in encoded], np.int64)
    kept = [ids for ids in encoded if len(ids)]
    document_of = document_of[lengths > 0]
    starts = np.flatnonzero(np.diff(document_of, prepend=-1))
    words = WordStarts(tokenizer.starts_word, tokenizer.vocabulary(), tokenizer.special_ids)
    return MemoryStore(
        tokens=np.concatenate(kept) if kept else np.empty(0, np.int32),
        starts_word=words(kept) if kept else np.empty(0, bool),
        sentence_offsets=np.append(0, np.cumsum(lengths[lengths > 0])),
        document_offsets=np.append(starts, len(kept)),
    )

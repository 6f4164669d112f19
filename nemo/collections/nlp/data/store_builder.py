"""Text -> the files of a token store (what they are: see token_store.py), in bounded memory."""

import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from nemo.collections.nlp.data.corpus import LAYOUTS, TextOptions, TextReader
from nemo.collections.nlp.data.sentences import Splitter, make_splitter
from nemo.collections.nlp.data.tokenizers.base import TokenizerSpec
from nemo.collections.nlp.data.word_starts import WordStarts
from nemo.utils.errors import DataError
from nemo.utils.files import sync, write_atomically
from nemo.utils.logging import logging

FORMAT, VERSION = "nemo-bert token store", 2  # 2: other sentences and words in Chinese
ARRAYS = ("tokens", "starts_word", "sentence_offsets", "document_offsets")
BATCH_CHARS = 1 << 20  # text that is tokenised at once
SAMPLE_CHARS = 1 << 18  # text that sentence splitting is learned from
SECONDS_BETWEEN_REPORTS = 10


def common_folder(files: list[Path]) -> Path:
    """The innermost folder that holds all of them."""
    return Path(os.path.commonpath([file.absolute().parent for file in files]))


def names_of(files: list[Path]) -> list[str]:
    """Paths within the common folder, the same wherever that is mounted."""
    root = common_folder(files)
    return [file.absolute().relative_to(root).as_posix() for file in files]


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_store(folder: Path, files: list[Path], tokenizer: TokenizerSpec, options: TextOptions) -> None:
    """Write the arrays and then the manifest into an empty folder, all of it on the disk at the end.

    Raises:
        DataError: the text cannot be used, changed while it was read, or holds no known token.
    """
    root = common_folder(files)
    sources = [_source(*named) for named in zip(names_of(files), files, strict=True)]
    readers = [TextReader(file, options) for file in files]
    for layout, count in Counter(reader.layout for reader in readers).items():
        logging.info("%s: %d file(s), %s (layout %r)", root, count, LAYOUTS[layout].meaning, layout)
    splitter = make_splitter(_sample(files, options), options.sentences)

    writer = _StoreWriter(folder, tokenizer)
    progress = _Progress(total=sum(source["bytes"] for source in sources))
    for is_first, sentences in _batches(_sentences(readers, splitter)):
        writer.add(is_first, sentences)
        progress.report(sum(reader.bytes_read for reader in readers))
    counts = writer.counts

    for source, file in zip(sources, files, strict=True):
        status = file.stat()
        if (status.st_size, status.st_mtime_ns) != (source["bytes"], source["mtime_ns"]):
            raise DataError("the text changed while it was being read", where=file)
    if not counts["tokens"]:
        found = f"no tokens in {progress.total} bytes"
        raise DataError("no text in the corpus", where=", ".join(map(str, files)), found=found)
    if counts["unknown_tokens"] == counts["tokens"]:
        found, fix = f"{counts['tokens']} tokens", "use a tokenizer that was trained on such text"
        raise DataError("every token is unknown to the tokenizer", where=root, found=found, fix=fix)
    arrays = writer.finish()
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "tokenizer": tokenizer.fingerprint,
        "options": asdict(options),
        "sources": sources,
        "counts": counts,
        "arrays": arrays,
    }
    write_atomically(folder / "manifest.json", json.dumps(manifest, indent=1).encode())


def _source(name: str, file: Path) -> dict[str, Any]:
    status = file.stat()
    return {
        "name": name,
        "bytes": status.st_size,
        "mtime_ns": status.st_mtime_ns,
        "sha256": sha256_of(file),
    }


def _sample(files: list[Path], options: TextOptions) -> list[str]:
    """Paragraphs from the beginning of each file."""
    sample: list[str] = []
    for file in files:
        size = 0
        for document in TextReader(file, options).documents():
            sample += document
            size += sum(map(len, document))
            if size * len(files) > SAMPLE_CHARS:
                break
    return sample


def _sentences(readers: list[TextReader], splitter: Splitter) -> Iterator[tuple[bool, str]]:
    """(is it the first of its document, the sentence)"""
    for reader in readers:
        is_empty = True
        for document in reader.documents():
            is_first, is_empty = True, False
            for paragraph in document:
                for sentence in splitter(paragraph):
                    yield is_first, sentence
                    is_first = False
        if is_empty:
            logging.warning("%s: no text in this file", reader.path)


def _batches(sentences: Iterator[tuple[bool, str]]) -> Iterator[tuple[list[bool], list[str]]]:
    is_first, texts, size = [], [], 0
    for first, text in sentences:
        is_first.append(first)
        texts.append(text)
        size += len(text)
        if size > BATCH_CHARS:
            yield is_first, texts
            is_first, texts, size = [], [], 0
    if texts:
        yield is_first, texts


class _StoreWriter:
    """Tokenises sentences and appends them to the arrays of a store."""

    def __init__(self, folder: Path, tokenizer: TokenizerSpec):
        self.tokenizer = tokenizer
        self.word_starts = WordStarts(tokenizer.starts_word, tokenizer.vocabulary(), tokenizer.special_ids)
        token_type = "uint16" if tokenizer.vocab_size <= 1 << 16 else "uint32"
        types = (token_type, "bool", "int64", "int64")
        self.arrays = {
            name: _ArrayWriter(folder / f"{name}.bin", dtype)
            for name, dtype in zip(ARRAYS, types, strict=True)
        }
        self.counts = {"documents": 0, "sentences": 0, "tokens": 0, "unknown_tokens": 0}
        self.is_new_document = False

    def add(self, is_first: list[bool], texts: list[str]) -> None:
        """Append sentences; those that tokenise to nothing, and documents of only such, leave no trace."""
        sentences, starts_document = [], []
        for first, ids in zip(is_first, self.tokenizer.encode_batch(texts), strict=True):
            self.is_new_document |= first
            if len(ids):
                sentences.append(ids)
                starts_document.append(self.is_new_document)
                self.is_new_document = False
        if not sentences:
            return
        tokens = np.concatenate(sentences)
        ends = np.cumsum([len(ids) for ids in sentences])
        counts = self.counts
        self.arrays["tokens"].append(tokens)
        self.arrays["starts_word"].append(self.word_starts(sentences))
        self.arrays["sentence_offsets"].append(counts["tokens"] + np.append(0, ends[:-1]))
        self.arrays["document_offsets"].append(counts["sentences"] + np.flatnonzero(starts_document))
        counts["documents"] += sum(starts_document)
        counts["sentences"] += len(sentences)
        counts["tokens"] += len(tokens)
        counts["unknown_tokens"] += int(np.count_nonzero(tokens == self.tokenizer.unk_id))

    def finish(self) -> dict[str, dict[str, Any]]:
        """Complete the arrays; returns what the manifest says of each."""
        self.arrays["sentence_offsets"].append(np.array([self.counts["tokens"]]))
        self.arrays["document_offsets"].append(np.array([self.counts["sentences"]]))
        return {name: array.finish() for name, array in self.arrays.items()}


class _ArrayWriter:
    """A flat array on disk that grows, hashed as it is written."""

    def __init__(self, path: Path, dtype: str):
        self.path, self.dtype = path, dtype
        self.hash = hashlib.sha256()

    def append(self, values: np.ndarray) -> None:
        data = values.astype(self.dtype).tobytes()
        self.hash.update(data)
        with open(self.path, "ab") as file:
            file.write(data)

    def finish(self) -> dict[str, Any]:
        """Put it on the disk; returns what the manifest says of it."""
        sync(self.path)
        size = self.path.stat().st_size
        return {"dtype": self.dtype, "bytes": size, "sha256": self.hash.hexdigest()}


class _Progress:
    """Tells in the log how far a long build has come."""

    def __init__(self, total: int):
        self.total = total
        self.start = self.last = time.monotonic()

    def report(self, done: int) -> None:
        now = time.monotonic()
        if now - self.last < SECONDS_BETWEEN_REPORTS:
            return
        self.last = now
        speed = done / (now - self.start)
        logging.info(
            "tokenised %d of %d MB, %.1f MB/s, %.0f s left",
            done / 1e6,
            self.total / 1e6,
            speed / 1e6,
            (self.total - done) / speed,
        )

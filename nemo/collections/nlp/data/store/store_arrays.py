"""The flat arrays of parts and token stores: written, hashed and read in bounded memory.

N tokens, S sentences, D documents; see token_store.py.
"""

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from nemo.utils.errors import DataError, MissingFileError
from nemo.utils.files import storage_errors, sync
from nemo.utils.strict import parse_json

ARRAYS = ("tokens", "starts_word", "sentence_offsets", "document_offsets")

# Limits of a block in memory. Documents are never split, so one above the limit is a block of its own.
BLOCK_DOCUMENTS, BLOCK_SENTENCES, BLOCK_TOKENS = 1 << 18, 1 << 20, 1 << 22


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_manifest(path: Path, kind: str, version: int) -> dict[str, Any]:
    """The content of a manifest.

    Raises:
        MissingFileError: it does not exist.
        DataError: it is not a manifest of this kind and version.
    """
    if not path.exists():
        raise MissingFileError(f"no {kind} here", where=path.parent, expected=f"a {path.name}")
    try:
        manifest = parse_json(path.read_bytes())
        found = (manifest["format"], manifest["version"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"not the manifest of a {kind}", where=path) from error
    if found != (kind, version):
        expected = f"{kind} {version}"
        raise DataError("unsupported format", where=path, found="{} {}".format(*found), expected=expected)
    return manifest


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """A new folder to write to; at the end of the block it replaces the one at `folder`.

    Readers see the old folder, the new one, or for a moment none; after a failure the old one remains.
    Leftovers of a killed process are removed. Its children may still be alive: they use another hidden name,
    so they cannot write into this folder.

    Raises:
        StorageError: it cannot be written.
    """
    for left_behind in folder.parent.glob(f".{escape(folder.name)}.aside-*"):
        shutil.rmtree(left_behind, ignore_errors=True)
    aside, old = (folder.with_name(f".{folder.name}.aside-{uuid4().hex}") for _ in range(2))
    try:
        with storage_errors(folder):
            aside.mkdir(parents=True)
        yield aside
        with storage_errors(folder):
            sync(aside)
            if folder.exists():
                folder.rename(old)
            aside.rename(folder)
            sync(folder.parent)
    finally:
        for left_behind in (aside, old):
            shutil.rmtree(left_behind, ignore_errors=True)


@dataclass(frozen=True)
class DocumentBlock:
    """A block of consecutive documents.

    Attributes:
        tokens: ids of all their tokens, [n].
        starts_word: bool [n].
        sentence_lengths: number of tokens in each sentence, [s].
        document_lengths: number of sentences in each document, [d].
    """

    tokens: np.ndarray
    starts_word: np.ndarray
    sentence_lengths: np.ndarray
    document_lengths: np.ndarray

    def __getitem__(self, keep: np.ndarray) -> "DocumentBlock":
        """Only the documents for which `keep`, bool [d], is True."""
        if keep.all():
            return self
        of_sentence = np.repeat(keep, self.document_lengths)
        of_token = np.repeat(of_sentence, self.sentence_lengths)
        return DocumentBlock(
            self.tokens[of_token],
            self.starts_word[of_token],
            self.sentence_lengths[of_sentence],
            self.document_lengths[keep],
        )


class ArrayWriter:
    """Appends to a flat array on disk, hashing it as it is written."""

    def __init__(self, path: Path, dtype: str):
        self.path, self.dtype = path, dtype
        self._hash = hashlib.sha256()
        with storage_errors(path):
            path.touch()

    def append(self, values: np.ndarray) -> None:
        """Write values [n] to the end of the file, converted to its dtype."""
        data = np.ascontiguousarray(values, dtype=self.dtype).data
        self._hash.update(data)
        with storage_errors(self.path), open(self.path, "ab") as file:
            file.write(data)

    def finish(self) -> dict[str, Any]:
        """Flush it to disk, and return its entry in the manifest."""
        with storage_errors(self.path):
            sync(self.path)
        return {"dtype": self.dtype, "bytes": self.path.stat().st_size, "sha256": self._hash.hexdigest()}


class BlockWriter:
    """Appends blocks to the four arrays of a part or store.

    Attributes:
        documents, sentences: numbers so far.
        token_counts: how often each id occurs, int64 [vocab_size].
    """

    def __init__(self, folder: Path, vocab_size: int):
        types = ("uint16" if vocab_size <= 1 << 16 else "uint32", "bool", "int64", "int64")
        self._arrays = {
            name: ArrayWriter(folder / f"{name}.bin", dtype)
            for name, dtype in zip(ARRAYS, types, strict=True)
        }
        self.documents = self.sentences = self.tokens = 0
        self.token_counts = np.zeros(vocab_size, dtype=np.int64)

    def append(self, block: DocumentBlock) -> None:
        """Write a block of tokenized documents after those so far, and count its tokens."""
        self._arrays["tokens"].append(block.tokens)
        self._arrays["starts_word"].append(block.starts_word)
        for name, before, lengths in (
            ("sentence_offsets", self.tokens, block.sentence_lengths),
            ("document_offsets", self.sentences, block.document_lengths),
        ):
            self._arrays[name].append(before + np.cumsum(lengths) - lengths)
        self.documents += len(block.document_lengths)
        self.sentences += len(block.sentence_lengths)
        self.tokens += len(block.tokens)
        self.token_counts += np.bincount(block.tokens, minlength=len(self.token_counts))

    def counts(self, unknown_id: int) -> dict[str, int]:
        """The counts for the manifest."""
        return {
            "documents": self.documents,
            "sentences": self.sentences,
            "tokens": self.tokens,
            "unknown_tokens": int(self.token_counts[unknown_id]),
        }

    def finish(self) -> dict[str, dict[str, Any]]:
        """Complete the arrays, and return the entry of each in the manifest."""
        self._arrays["sentence_offsets"].append(np.array([self.tokens]))
        self._arrays["document_offsets"].append(np.array([self.sentences]))
        return {name: array.finish() for name, array in self._arrays.items()}


class ArrayReader:
    """The arrays in a folder, as its manifest describes them.

    Args:
        arrays: name -> dtype, bytes and SHA-256.
        kind: what the folder is, for messages.
        fix: how to repair damage, for messages.
    """

    def __init__(self, folder: Path, arrays: Mapping[str, dict[str, Any]], kind: str, fix: str):
        self.folder, self.arrays = folder, arrays
        self._kind, self._fix = kind, fix

    def path(self, name: str) -> Path:
        """The file of an array."""
        return self.folder / f"{name}.bin"

    def check_sizes(self) -> None:
        """Raise a DataError if an array is truncated or missing."""
        for name, array in self.arrays.items():
            path = self.path(name)
            found = path.stat().st_size if path.exists() else 0
            if found != array["bytes"]:
                raise self._damaged(path, f"{found} bytes", f"{array['bytes']}")

    def verify(self) -> None:
        """Raise a DataError if an array is not what was written."""
        self.check_sizes()
        for name, array in self.arrays.items():
            found = sha256_of(self.path(name))
            if found != array["sha256"]:
                raise self._damaged(self.path(name), f"SHA-256 {found}", array["sha256"])

    def _damaged(self, path: Path, found: str, expected: str) -> DataError:
        problem = f"damaged {self._kind}"
        return DataError(problem, where=path, found=found, expected=expected, fix=self._fix)

    def read(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Values `start` to `stop` of an array (default: all), in memory."""
        dtype = np.dtype(self.arrays[name]["dtype"])
        count = -1 if stop is None else stop - start
        return np.fromfile(self.path(name), dtype, count, offset=start * dtype.itemsize)

    def blocks(self) -> Iterator[DocumentBlock]:
        """All documents in order, in blocks within the limits at the top of this file."""
        num_documents = self.arrays["document_offsets"]["bytes"] // 8 - 1
        for first in range(0, num_documents, BLOCK_DOCUMENTS):
            documents = self.read("document_offsets", first, min(first + BLOCK_DOCUMENTS, num_documents) + 1)
            for start, stop in cuts(documents, BLOCK_SENTENCES):
                sentences = self.read("sentence_offsets", documents[start], documents[stop] + 1)
                yield from self._blocks_of(sentences, documents[start : stop + 1] - documents[start])

    def _blocks_of(self, sentences: np.ndarray, documents: np.ndarray) -> Iterator[DocumentBlock]:
        """Blocks of the documents with these document and sentence offsets."""
        for start, stop in cuts(sentences[documents], BLOCK_TOKENS):
            some = sentences[documents[start] : documents[stop] + 1]
            yield DocumentBlock(
                self.read("tokens", some[0], some[-1]),
                self.read("starts_word", some[0], some[-1]),
                np.diff(some),
                np.diff(documents[start : stop + 1]),
            )


def cuts(offsets: np.ndarray, limit: int) -> Iterator[tuple[int, int]]:
    """(start, stop) of runs of items whose total length is at most `limit`, or of a single longer item."""
    start = 0
    while start < len(offsets) - 1:
        stop = max(int(np.searchsorted(offsets, offsets[start] + limit, "right")) - 1, start + 1)
        yield start, stop
        start = stop

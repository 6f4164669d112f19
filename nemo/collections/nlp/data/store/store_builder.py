"""Text -> parts -> token stores (see token_store.py), in bounded memory.

A part is the tokenized text of some sections of the corpus (see inputs/sections.py), made by one task. In
addition to the arrays of a store it has

    document_hashes.bin      uint64 [D]         see `duplicates.document_hash`
    near_duplicate_keys.bin  uint64 [D, BANDS]  see `duplicates.NearDuplicateKeys`; optional
    part.json                sources, counts and checksums; written last

The parts in the order of the text make up the store. It is bit-identical however sections are grouped into
parts.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nemo.collections.nlp.data.inputs.options import READER, TextOptions
from nemo.collections.nlp.data.inputs.sections import Section, SectionReader, check_bad_records
from nemo.collections.nlp.data.inputs.sources import Source, content_hash
from nemo.collections.nlp.data.store.duplicates import BANDS, NearDuplicateKeys, document_hash
from nemo.collections.nlp.data.store.store_arrays import (
    ARRAYS,
    BLOCK_DOCUMENTS,
    ArrayReader,
    ArrayWriter,
    BlockWriter,
    DocumentBlock,
    read_manifest,
    replacing_folder,
)
from nemo.collections.nlp.data.text.sentences import Splitter
from nemo.collections.nlp.data.tokenizers.base import TokenizerSpec
from nemo.collections.nlp.data.tokenizers.word_starts import WordStarts
from nemo.utils.errors import DataError, StorageError
from nemo.utils.files import write_atomically

FORMAT, VERSION = "nemo-bert token store", 3  # 3: built from parts; some layouts give other documents
FILES = {"manifest.json", *(f"{name}.bin" for name in ARRAYS)}
PART_FORMAT, PART_VERSION = "nemo-bert part of a token store", 2
HASHES, NEAR_KEYS = "document_hashes", "near_duplicate_keys"  # arrays in parts only
GROUP_BYTES = 32 << 20  # bytes of text in a part
BATCH_CHARS = 1 << 20  # characters tokenized at once
EXCERPT_CHARS, EXCERPT_SECTIONS = 1 << 18, 64  # for learning to split sentences
NAMED = 5  # files named in a message


def describe_source(source: Source) -> dict[str, Any]:
    """A source's entry in the manifest, which does not change when the file is copied."""
    return {"name": source.name, "bytes": source.num_bytes, "sha256": content_hash(source)}


def groups_of(sections: Sequence[Section], group_bytes: int = GROUP_BYTES) -> list[list[Section]]:
    """Group consecutive sections into parts of at most `group_bytes` of text, or one section.

    A file of unknown size counts as a whole part.
    """
    groups: list[list[Section]] = []
    size = 0
    for section in sections:
        num_bytes = section.num_bytes if section.num_bytes >= 0 else group_bytes
        size += num_bytes
        if not groups or size > group_bytes:
            groups.append([])
            size = num_bytes
        groups[-1].append(section)
    return groups


def excerpt_of(sections: Sequence[Section], options: TextOptions) -> list[str]:
    """Paragraphs to learn sentence splitting from: the beginnings of sections all over the corpus."""
    num_sections = min(len(sections), EXCERPT_SECTIONS)
    excerpt: list[str] = []
    for i in range(num_sections):
        size = 0
        for document in SectionReader(sections[i * len(sections) // num_sections], options).documents():
            excerpt += document
            size += sum(map(len, document))
            if size * num_sections > EXCERPT_CHARS:
                break
    return excerpt


# Parts.


def write_part(
    folder: Path,
    sections: Sequence[Section],
    tokenizer: TokenizerSpec,
    splitter: Splitter,
    options: TextOptions,
    near_duplicates: bool = False,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Tokenize sections into a part at `folder`, atomically.

    Args:
        splitter: paragraph -> sentences.
        near_duplicates: also write the keys for finding near-duplicates.
        progress: called from time to time with the number of bytes read.

    Returns:
        The content of `part.json`.

    Raises:
        DataError: the text is not usable, or changed while it was read.
        StorageError: the part cannot be written.
        UsageError: datasketch is needed but not installed.
    """
    with replacing_folder(folder) as aside:
        writer = _PartWriter(aside, tokenizer, NearDuplicateKeys() if near_duplicates else None)
        oddities: Counter[str] = Counter()
        bytes_read = 0
        for section in sections:
            reader = SectionReader(section, options)
            for document in reader.documents():
                sentences = [sentence for paragraph in document for sentence in splitter(paragraph)]
                if writer.add(document, sentences) and progress is not None:
                    progress(bytes_read + reader.bytes_read)
            bytes_read += reader.bytes_read
            oddities.update(asdict(reader.odd))
        arrays = writer.finish()
        part = {
            "format": PART_FORMAT,
            "version": PART_VERSION,
            "tokenizer": {
                "fingerprint": tokenizer.fingerprint,
                "vocab_size": tokenizer.vocab_size,
                "unknown_id": tokenizer.unk_id,
                "special_ids": tokenizer.special_ids.tolist(),
            },
            "options": asdict(options),
            "sections": [[section.source.name, section.start, section.stop] for section in sections],
            "bytes_read": bytes_read,
            "oddities": dict(oddities),
            "counts": writer.blocks.counts(tokenizer.unk_id),
            "arrays": arrays,
        }
        write_atomically(aside / "part.json", json.dumps(part, indent=1).encode())
    return part


def finished_part(folder: Path) -> dict[str, Any] | None:
    """The content of `part.json` if there is an intact part at `folder`; else None."""
    try:
        part = _open_part(folder)
        part.arrays.verify()
    except DataError:
        return None
    return part.manifest


@dataclass(frozen=True)
class _Part:
    manifest: dict[str, Any]
    arrays: ArrayReader


def _open_part(folder: Path) -> _Part:
    manifest = read_manifest(folder / "part.json", PART_FORMAT, PART_VERSION)
    fix = f"delete {folder}; it is rebuilt from the text"
    return _Part(manifest, ArrayReader(folder, manifest["arrays"], "part of a token store", fix))


class _PartWriter:
    """Tokenizes documents and appends them to the arrays of a part.

    Sentences without tokens, and documents of only such sentences, are dropped.
    """

    def __init__(self, folder: Path, tokenizer: TokenizerSpec, near_duplicate_keys: NearDuplicateKeys | None):
        self._tokenizer = tokenizer
        self._word_starts = WordStarts(tokenizer.starts_word, tokenizer.vocabulary(), tokenizer.special_ids)
        self.blocks = BlockWriter(folder, tokenizer.vocab_size)
        self._near_duplicate_keys = near_duplicate_keys
        names = [HASHES, NEAR_KEYS] if near_duplicate_keys is not None else [HASHES]
        self._by_document = {name: ArrayWriter(folder / f"{name}.bin", "uint64") for name in names}
        self._clear()

    def _clear(self) -> None:
        self._documents: list[list[str]] = []
        self._sentences: list[str] = []
        self._num_sentences: list[int] = []  # in each document
        self._chars = 0

    def add(self, document: list[str], sentences: list[str]) -> bool:
        """Add a document; returns whether the buffered text was tokenized."""
        self._documents.append(document)
        self._sentences += sentences
        self._num_sentences.append(len(sentences))
        self._chars += sum(map(len, sentences))
        if self._chars < BATCH_CHARS:
            return False
        self._flush()
        return True

    def _flush(self) -> None:
        encoded = self._tokenizer.encode_batch(self._sentences)
        ids = [sentence for sentence in encoded if len(sentence)]
        if ids:
            lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
            document = np.repeat(np.arange(len(self._documents)), self._num_sentences)
            num_sentences = np.bincount(document[lengths > 0], minlength=len(self._documents))
            is_kept = num_sentences > 0
            self.blocks.append(
                DocumentBlock(
                    np.concatenate(ids), self._word_starts(ids), lengths[lengths > 0], num_sentences[is_kept]
                )
            )
            self._identify([self._documents[i] for i in np.flatnonzero(is_kept)])
        self._clear()

    def _identify(self, documents: list[list[str]]) -> None:
        """Write the hashes and keys for finding duplicates of these documents."""
        hashes = np.array([document_hash(document) for document in documents], dtype=np.uint64)
        self._by_document[HASHES].append(hashes)
        if self._near_duplicate_keys is not None:
            self._by_document[NEAR_KEYS].append(self._near_duplicate_keys(documents))

    def finish(self) -> dict[str, dict[str, Any]]:
        """Complete the arrays, and return the entry of each in `part.json`."""
        if self._documents:
            self._flush()
        return self.blocks.finish() | {name: array.finish() for name, array in self._by_document.items()}


# From parts to stores.


def document_hashes(parts: Sequence[Path]) -> np.ndarray:
    """The hash of every document in the order of the text, uint64 [D]; see `duplicates.document_hash`."""
    return _column([_open_part(folder) for folder in parts], HASHES)


def near_duplicate_bands(parts: Sequence[Path]) -> Iterator[np.ndarray]:
    """The bands for `duplicates.near_duplicates`: uint64 [D] each, one in memory at a time."""
    opened = [_open_part(folder) for folder in parts]
    for band in range(BANDS):
        yield _column(opened, NEAR_KEYS, BANDS, band)


def _column(parts: Sequence[_Part], name: str, width: int = 1, column: int = 0) -> np.ndarray:
    """One column of an array [D, width], joined over all parts: uint64 [D]."""
    values = np.empty(sum(part.manifest["counts"]["documents"] for part in parts), dtype=np.uint64)
    first = 0
    for part in parts:
        num_documents = part.manifest["counts"]["documents"]
        for start in range(0, num_documents, BLOCK_DOCUMENTS):
            stop = min(start + BLOCK_DOCUMENTS, num_documents)
            rows = part.arrays.read(name, start * width, stop * width).reshape(-1, width)
            values[first + start : first + stop] = rows[:, column]
        first += num_documents
    return values


def held_out(hashes: np.ndarray, test_fraction: float, candidates: np.ndarray | None = None) -> np.ndarray:
    """Which documents are held out, bool [D]: a share of them, selected by hash.

    So a document is on the same side as its duplicates, in any corpus. If the share is not 0 and two
    documents differ, there is at least one on each side.

    Args:
        hashes: uint64 [D], see `document_hashes`.
        test_fraction: 0 <= f < 1.
        candidates: bool [D], which documents are used; default: all.
    """
    used = np.ones(len(hashes), dtype=bool) if candidates is None else candidates
    is_held_out = (hashes < np.uint64(int(test_fraction * 2**64))) & used
    if test_fraction > 0 and used.any():
        low, high = hashes[used].min(), hashes[used].max()
        if low != high and not is_held_out.any():
            is_held_out = (hashes == low) & used
        elif low != high and (is_held_out == used).all():
            is_held_out = (hashes != high) & used
    return is_held_out


def assemble(
    parts: Sequence[Path],
    targets: Mapping[str, tuple[Path, np.ndarray | None]],
    header: Mapping[str, Any],
) -> dict[str, dict[str, Any]]:
    """Assemble parts into stores, in one pass; each store is written atomically.

    Args:
        parts: folders in the order of the text.
        targets: name -> folder of a store, and which documents go into it: bool [D], None for all.
        header: additional entries for the manifests, such as the `sources` of the text.

    Returns:
        name -> manifest, for the stores with documents; empty ones are not written.

    Raises:
        DataError: a part is damaged or does not match the others; or together they have no text, only unknown
            tokens, or too many bad records.
        StorageError: a store cannot be written, or its folder contains something else.
    """
    opened = [_open_part(folder) for folder in parts]
    _check_parts(opened)
    chosen = {name: target for name, target in targets.items() if target[1] is None or target[1].any()}
    for folder, _ in chosen.values():
        refuse_other_things(folder)
    with ExitStack() as stack:
        asides = {name: stack.enter_context(replacing_folder(folder)) for name, (folder, _) in chosen.items()}
        vocab_size = opened[0].manifest["tokenizer"]["vocab_size"]
        writers = {name: BlockWriter(aside, vocab_size) for name, aside in asides.items()}
        first = 0
        for part in opened:
            part.arrays.verify()
            for block in part.arrays.blocks():
                stop = first + len(block.document_lengths)
                for name, (_, keep) in chosen.items():
                    writers[name].append(block if keep is None else block[keep[first:stop]])
                first = stop
        manifests = {name: _manifest(writer, opened[0], header) for name, writer in writers.items()}
        for name, manifest in manifests.items():
            write_atomically(asides[name] / "manifest.json", json.dumps(manifest, indent=1).encode())
    return manifests


def _manifest(writer: BlockWriter, part: _Part, header: Mapping[str, Any]) -> dict[str, Any]:
    """Complete the arrays of a store, and return its manifest. `part` may be any of the parts."""
    tokenizer = part.manifest["tokenizer"]
    return {
        "format": FORMAT,
        "version": VERSION,
        "reader": READER,
        "tokenizer": tokenizer["fingerprint"],
        "options": part.manifest["options"],
        **header,
        "counts": writer.counts(tokenizer["unknown_id"]),
        "unigram_entropy": _entropy(writer.token_counts, tokenizer["special_ids"]),
        "arrays": writer.finish(),
    }


def _entropy(token_counts: np.ndarray, special_ids: list[int]) -> float:
    """-sum p ln p over text tokens: the loss of a model that knows only token frequencies."""
    counts = np.delete(token_counts, special_ids)
    p = counts[counts > 0] / max(counts.sum(), 1)
    # Processors differ in the last digits of a logarithm; manifests must not.
    return round(float(-(p * np.log(p)).sum()), 6)


def _check_parts(parts: Sequence[_Part]) -> None:
    """Raise a DataError if the parts do not match, or have no usable text."""
    total: Counter[str] = Counter()
    for part in parts:
        for what in ("tokenizer", "options"):
            found, expected = part.manifest[what], parts[0].manifest[what]
            if found != expected:
                fix = "delete it; it is rebuilt from the text"
                problem = f"a part made with a different {what}"
                raise DataError(problem, where=part.arrays.folder, found=found, expected=expected, fix=fix)
        total.update(part.manifest["counts"] | part.manifest["oddities"])
        total["bytes_read"] += part.manifest["bytes_read"]
    check_bad_records(total["bad_records"], TextOptions(**parts[0].manifest["options"]))
    where = _some(list(dict.fromkeys(name for part in parts for name, _, _ in part.manifest["sections"])))
    if not total["tokens"]:
        found = f"no tokens in {total['bytes_read']} bytes"
        raise DataError("no text in the corpus", where=where, found=found)
    if total["unknown_tokens"] == total["tokens"]:
        found, fix = f"{total['tokens']} tokens", "use a tokenizer trained on similar text"
        raise DataError("every token is unknown to the tokenizer", where=where, found=found, fix=fix)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def refuse_other_things(folder: Path) -> None:
    """Raise a StorageError if the folder contains something other than a store, which would be lost."""
    if folder.exists() and (others := {entry.name for entry in folder.iterdir()} - FILES):
        fix = "use an empty or new folder"
        raise StorageError(
            "the folder contains something other than a token store", where=folder, found=min(others), fix=fix
        )

"""Text -> parts -> token stores (what those are: see token_store.py), in bounded memory.

A part is the tokenised text of some pieces of the corpus (see inputs/pieces.py), made by one task. Besides
the arrays of a store it has

    document_hashes.bin      uint64 [D]         see `duplicates.document_hash`
    near_duplicate_keys.bin  uint64 [D, BANDS]  see `duplicates.NearDuplicateKeys`; only if asked for
    part.json                what it was made from, counts and checksums; written last

Parts put together in the order of the text are the store. It is the same to the bit however pieces were
spread over parts.
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
from nemo.collections.nlp.data.inputs.pieces import Piece, PieceReader, check_bad_records
from nemo.collections.nlp.data.inputs.sources import Source, content_hash
from nemo.collections.nlp.data.store.duplicates import BANDS, NearDuplicateKeys, document_hash
from nemo.collections.nlp.data.store.store_arrays import (
    ARRAYS,
    BLOCK_DOCUMENTS,
    ArrayReader,
    ArrayWriter,
    Block,
    BlockWriter,
    read_manifest,
    replacing_folder,
)
from nemo.collections.nlp.data.text.sentences import Splitter
from nemo.collections.nlp.data.tokenizers.base import TokenizerSpec
from nemo.collections.nlp.data.tokenizers.word_starts import WordStarts
from nemo.utils.errors import DataError, StorageError
from nemo.utils.files import write_atomically

FORMAT, VERSION = "nemo-bert token store", 3  # 3: made of parts, other documents in some layouts
FILES = {"manifest.json", *(f"{name}.bin" for name in ARRAYS)}
PART_FORMAT, PART_VERSION = "nemo-bert part of a token store", 1
HASHES, NEAR_KEYS = "document_hashes", "near_duplicate_keys"  # arrays that only parts have
GROUP_BYTES = 32 << 20  # of text in a part
BATCH_CHARS = 1 << 20  # text that is tokenised at once
SAMPLE_CHARS, SAMPLE_PIECES = 1 << 18, 64  # text that sentence splitting is learned from
NAMED = 5  # files that are named in a message


def describe_source(source: Source) -> dict[str, Any]:
    """What a manifest says of a file of the corpus: the same wherever and whenever it was copied."""
    return {"name": source.name, "bytes": source.num_bytes, "sha256": content_hash(source)}


def groups_of(pieces: Sequence[Piece], group_bytes: int = GROUP_BYTES) -> list[list[Piece]]:
    """Neighbouring pieces together for parts of at most `group_bytes` of text, or one piece.

    A file of unknown size counts as a whole part.
    """
    groups: list[list[Piece]] = []
    size = 0
    for piece in pieces:
        num_bytes = piece.num_bytes if piece.num_bytes >= 0 else group_bytes
        size += num_bytes
        if not groups or size > group_bytes:
            groups.append([])
            size = num_bytes
        groups[-1].append(piece)
    return groups


def sample_paragraphs(pieces: Sequence[Piece], options: TextOptions) -> list[str]:
    """Paragraphs to learn sentence splitting from: the beginnings of pieces from all over the corpus."""
    num_pieces = min(len(pieces), SAMPLE_PIECES)
    sample: list[str] = []
    for i in range(num_pieces):
        size = 0
        for document in PieceReader(pieces[i * len(pieces) // num_pieces], options).documents():
            sample += document
            size += sum(map(len, document))
            if size * num_pieces > SAMPLE_CHARS:
                break
    return sample


# Parts.


def write_part(
    folder: Path,
    pieces: Sequence[Piece],
    tokenizer: TokenizerSpec,
    splitter: Splitter,
    options: TextOptions,
    near_duplicates: bool = False,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Tokenise pieces into a part at `folder`, which is complete or absent.

    Args:
        splitter: paragraph -> sentences.
        near_duplicates: also write what near duplicates are found by.
        progress: called now and then with the number of bytes read.

    Returns:
        What `part.json` says.

    Raises:
        DataError: the text cannot be used, or changed while it was read.
        StorageError: the part cannot be written.
        UsageError: datasketch is needed and not installed.
    """
    with replacing_folder(folder) as aside:
        writer = _PartWriter(aside, tokenizer, NearDuplicateKeys() if near_duplicates else None)
        oddities: Counter[str] = Counter()
        bytes_read = 0
        for piece in pieces:
            reader = PieceReader(piece, options)
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
            "pieces": [[piece.source.name, piece.start, piece.stop] for piece in pieces],
            "bytes_read": bytes_read,
            "oddities": dict(oddities),
            "counts": writer.blocks.counts(tokenizer.unk_id),
            "arrays": arrays,
        }
        write_atomically(aside / "part.json", json.dumps(part, indent=1).encode())
    return part


def finished_part(folder: Path) -> dict[str, Any] | None:
    """What `part.json` says, if there is a part at `folder` that is as it was written; else None."""
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
    """Tokenises documents and appends them to the arrays of a part.

    Sentences that tokenise to nothing, and documents of only such, leave no trace.
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
        self._num_sentences: list[int] = []  # of each document
        self._chars = 0

    def add(self, document: list[str], sentences: list[str]) -> bool:
        """Take a document; returns whether it was time to tokenise what had been taken."""
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
                Block(
                    np.concatenate(ids), self._word_starts(ids), lengths[lengths > 0], num_sentences[is_kept]
                )
            )
            self._identify([self._documents[i] for i in np.flatnonzero(is_kept)])
        self._clear()

    def _identify(self, documents: list[list[str]]) -> None:
        """Write what duplicates of these are found by."""
        hashes = np.array([document_hash(document) for document in documents], dtype=np.uint64)
        self._by_document[HASHES].append(hashes)
        if self._near_duplicate_keys is not None:
            self._by_document[NEAR_KEYS].append(self._near_duplicate_keys(documents))

    def finish(self) -> dict[str, dict[str, Any]]:
        """Complete the arrays; returns what `part.json` says of each."""
        if self._documents:
            self._flush()
        return self.blocks.finish() | {name: array.finish() for name, array in self._by_document.items()}


# From parts to stores.


def document_hashes(parts: Sequence[Path]) -> np.ndarray:
    """The hash of every document in the order of the text, uint64 [D]; see `duplicates.document_hash`."""
    return _column([_open_part(folder) for folder in parts], HASHES)


def near_duplicate_bands(parts: Sequence[Path]) -> Iterator[np.ndarray]:
    """What `duplicates.near_duplicates` takes: uint64 [D], band after band, one of them in memory."""
    opened = [_open_part(folder) for folder in parts]
    for band in range(BANDS):
        yield _column(opened, NEAR_KEYS, BANDS, band)


def _column(parts: Sequence[_Part], name: str, width: int = 1, column: int = 0) -> np.ndarray:
    """One column of an array [D, width] that parts have, all of them together: uint64 [D]."""
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
    """Which documents are held out for tests, bool [D]: a share of them, chosen by their hashes.

    So a document is on the same side as its duplicates, wherever it stands in whatever corpus. If a share is
    asked for and two documents differ, there is one at least on each side.

    Args:
        hashes: uint64 [D], see `document_hashes`.
        test_fraction: 0 <= f < 1.
        candidates: bool [D], which documents are used at all; all by default.
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
    """Put parts together into stores, all of them in one pass; each is complete or absent.

    Args:
        parts: folders in the order of the text.
        targets: name -> the folder of a store, and which documents are in it: bool [D], None for all.
        header: what else the manifests say, such as the `sources` of the text.

    Returns:
        name -> manifest, of the stores that have any document; others are not written.

    Raises:
        DataError: a part is damaged or does not go with the others; or in all of them there is no text,
            nothing but unknown tokens, or too many bad records.
        StorageError: a store cannot be written, or there is something else in its folder.
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
    """Completes the arrays of a store; returns what its manifest says. Any of the parts will do."""
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
    """-sum p ln p of tokens that are text: the loss of a model that knows how frequent each is, no more."""
    counts = np.delete(token_counts, special_ids)
    p = counts[counts > 0] / max(counts.sum(), 1)
    # Processors differ in the last digits of a logarithm, and manifests should not.
    return round(float(-(p * np.log(p)).sum()), 6)


def _check_parts(parts: Sequence[_Part]) -> None:
    """Raise a DataError if parts do not go together, or hold no text that can be used."""
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
    where = _some(list(dict.fromkeys(name for part in parts for name, _, _ in part.manifest["pieces"])))
    if not total["tokens"]:
        found = f"no tokens in {total['bytes_read']} bytes"
        raise DataError("no text in the corpus", where=where, found=found)
    if total["unknown_tokens"] == total["tokens"]:
        found, fix = f"{total['tokens']} tokens", "use a tokenizer trained on such text"
        raise DataError("every token is unknown to the tokenizer", where=where, found=found, fix=fix)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def refuse_other_things(folder: Path) -> None:
    """Raise a StorageError if there is a folder that is no store: its content would be lost."""
    if folder.exists() and (others := {entry.name for entry in folder.iterdir()} - FILES):
        fix = "use an empty or a new folder"
        raise StorageError("no place for a token store", where=folder, found=min(others), fix=fix)

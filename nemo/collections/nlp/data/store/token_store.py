"""A corpus, tokenized once: flat arrays in a folder, which every run memory-maps.

    tokens.bin            uint16 or uint32 [N]  ids, sentence after sentence
    starts_word.bin       bool [N]              whether the token begins a word
    sentence_offsets.bin  int64 [S + 1]         sentence s is tokens[offsets[s]:offsets[s + 1]]
    document_offsets.bin  int64 [D + 1]         document d is sentences offsets[d] to offsets[d + 1]
    manifest.json         sources, counts and checksums; written last

N tokens, S sentences, D documents. No sentence and no document is empty.
"""

import fcntl
import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from nemo.collections.nlp.data.inputs.options import AUTO, READER, TextOptions
from nemo.collections.nlp.data.inputs.places import is_url
from nemo.collections.nlp.data.inputs.sections import sections_of
from nemo.collections.nlp.data.inputs.sources import Source, content_hash, sources_of
from nemo.collections.nlp.data.inputs.splits import TRAIN, split_of
from nemo.collections.nlp.data.store.store_arrays import ARRAYS, ArrayReader, read_manifest
from nemo.collections.nlp.data.store.store_builder import (
    FORMAT,
    VERSION,
    assemble,
    describe_source,
    excerpt_of,
    groups_of,
    refuse_other_things,
    write_part,
)
from nemo.collections.nlp.data.text.sentences import make_splitter
from nemo.collections.nlp.data.tokenizers.base import TokenizerSpec
from nemo.utils.errors import DataError
from nemo.utils.files import common_folder, storage_errors
from nemo.utils.logging import LogMode, logging
from nemo.utils.progress import working
from nemo.utils.strict import has_shape
from nemo.utils.user_cache import user_cache

VERIFIED_BYTES = 1 << 30  # a store up to this size is verified each time it is opened (about a second)
MUCH_TEXT = 1 << 30  # bytes of text; more takes one process longer than a few minutes

Path_ = str | os.PathLike[str]


_MANIFEST = {
    "tokenizer": str,
    "options": dict,
    "sources": [{"name": str, "bytes": int, "sha256": str}],
    "counts": {name: int for name in ("documents", "sentences", "tokens", "unknown_tokens")},
    "unigram_entropy": (int, float),
    "arrays": {name: {"dtype": str, "bytes": int, "sha256": str} for name in ARRAYS},
}
_ITEM_BYTES = {"bool": 1, "uint16": 2, "uint32": 4, "int64": 8}


class TokenStore:
    """A token store opened for reading. Cheap to open, and to send to another process.

    Attributes:
        tokens, starts_word, sentence_offsets, document_offsets: see the top of the file.
        manifest: the content of `manifest.json`.

    Raises:
        MissingFileError: there is no store in the folder.
        DataError: the store has another version, or an array has the wrong size.
    """

    def __init__(self, folder: Path_):
        self.folder = Path(folder)
        path = self.folder / "manifest.json"
        self.manifest = read_manifest(path, FORMAT, VERSION)
        fix = f"delete {self.folder}, and rebuild it from the text"
        if not has_shape(self.manifest, _MANIFEST) or self._array_lengths() != self._counted_lengths():
            raise DataError("damaged manifest", where=path, fix=fix)
        self._arrays = ArrayReader(self.folder, self.manifest["arrays"], "token store", fix)
        self.check_sizes()
        self.tokens, self.starts_word, self.sentence_offsets, self.document_offsets = (
            np.memmap(self._arrays.path(name), self.manifest["arrays"][name]["dtype"], "r").view(np.ndarray)
            for name in ARRAYS
        )

    def _array_lengths(self) -> list[float]:
        """The lengths of the arrays, from their sizes in the manifest."""
        arrays = [self.manifest["arrays"][name] for name in ARRAYS]
        return [array["bytes"] / _ITEM_BYTES.get(array["dtype"], math.inf) for array in arrays]

    def _counted_lengths(self) -> list[float]:
        """The lengths of the arrays, from the counts in the manifest."""
        counts = self.manifest["counts"]
        return [counts["tokens"], counts["tokens"], counts["sentences"] + 1, counts["documents"] + 1]

    def __reduce__(self) -> tuple[type["TokenStore"], tuple[Path]]:
        return TokenStore, (self.folder,)

    def check_sizes(self) -> None:
        """Raise a DataError if an array is truncated: reading past its end would kill the process."""
        self._arrays.check_sizes()

    def verify(self) -> None:
        """Raise a DataError if an array is not what was written."""
        self._arrays.verify()

    def describe(self) -> str:
        """Documents, sentences, tokens and the share of unknown ones, in one line."""
        counts = self.manifest["counts"]
        return (
            f"{counts['documents']:,} documents, {counts['sentences']:,} sentences, "
            f"{counts['tokens']:,} tokens, "
            f"{counts['unknown_tokens'] / counts['tokens']:.2%} of them unknown"
        )


def is_store(path: Path_) -> bool:
    """Whether this is the folder of a token store, of any version."""
    try:
        return json.loads((Path(path) / "manifest.json").read_bytes())["format"] == FORMAT
    except (OSError, ValueError, KeyError, TypeError):
        return False


def store_in(path: Path_, name: str) -> Path | None:
    """The store `train` or `test` in the output of `nemo-bert prepare`; None if `path` is something else."""
    store = Path(path, name)
    return store if is_store(store) else None


def held_out_in(path: Path_) -> Path | None:
    """The held-out store in the output of `nemo-bert prepare`; None if `path` is something else.

    Raises:
        DataError: nothing was held out.
    """
    store = store_in(path, "test")
    if store is None and store_in(path, "train"):
        fix = "give other text, or prepare it again with --test_fraction"
        raise DataError("no text was held out when this was prepared", where=path, fix=fix)
    return store


def open_or_build(
    path: Path_ | Iterable[Path_ | Source],
    tokenizer: TokenizerSpec,
    folder: Path_ | None = None,
    options: TextOptions = AUTO,
) -> TokenStore:
    """The store of a corpus: the existing one if it matches the text, tokenizer and options, else a new one.

    If several processes call this at once, one builds the store and the others wait.

    Args:
        path: as `sources_of` takes it; or the folder of a store, which is opened.
        folder: folder of the store. Default: `bert/store-<key>` in the folder of the text if it is a writable
            `data_dir` (it has `bert`, or a file named as training text); else in the user's cache
            (`$XDG_CACHE_HOME` or `~/.cache`).

    Raises:
        DataError: the corpus is not usable (see inputs/), is empty, or has only unknown tokens; or the store
            at `path` is damaged or was made with another tokenizer.
        StorageError: the store cannot be written, or `folder` contains something else.
    """
    if isinstance(path, str | os.PathLike) and is_store(path):
        return _open_prepared(Path(path), tokenizer)
    sources = sources_of(path, options)
    folders = [Path(folder)] if folder else _default_folders(sources, tokenizer, options)
    for candidate in folders:
        if store := _open_if_current(candidate, sources, tokenizer, options):
            return store
    folder = next(filter(_is_writable, folders), folders[-1])
    with _locked(folder):
        # Another process may have built it while this one waited.
        if store := _open_if_current(folder, sources, tokenizer, options):
            return store
        _build(folder, sources, tokenizer, options)
    store = TokenStore(folder)
    logging.info("%s: %s", folder, store.describe())
    return store


# Finding a store, and whether it matches.


def _default_folders(sources: list[Source], tokenizer: TokenizerSpec, options: TextOptions) -> list[Path]:
    """Folders for the store of a corpus, in order of preference."""
    # Only names: a changed text replaces its store instead of leaving the old one behind.
    names = [source.name for source in sources]
    key = f"store-{_short_hash([VERSION, names, tokenizer.fingerprint, asdict(options)])}"
    cache = user_cache()
    if any(is_url(source.path) for source in sources):
        return [cache / _short_hash([source.path for source in sources]) / key]
    root = common_folder([source.path for source in sources])
    in_cache = cache / _short_hash(str(root)) / key
    return [root / "bert" / key, in_cache] if _is_data_dir(root) else [in_cache]


def _is_data_dir(folder: Path) -> bool:
    """Whether it is a `data_dir` as in the tutorial, where files for training are expected."""
    if not os.access(folder, os.R_OK):
        return False
    with os.scandir(folder) as entries:
        return any(entry.name == "bert" or split_of(entry.name) == TRAIN for entry in entries)


def _short_hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _is_writable(folder: Path) -> bool:
    existing = next(parent for parent in folder.absolute().parents if parent.exists())
    return os.access(existing, os.W_OK | os.X_OK)


def _opened(folder: Path) -> TokenStore:
    """Open a store with the checks that take less than a second. Raises as `TokenStore`."""
    store = TokenStore(folder)
    if sum(array["bytes"] for array in store.manifest["arrays"].values()) <= VERIFIED_BYTES:
        store.verify()
    return store


def _open_prepared(folder: Path, tokenizer: TokenizerSpec) -> TokenStore:
    store = _opened(folder)
    if (made_by := store.manifest["tokenizer"]) != tokenizer.fingerprint:
        raise DataError(
            "the token store was made with a different tokenizer",
            where=folder,
            found=made_by,
            expected=tokenizer.fingerprint,
            fix="use the tokenizer that made it; `nemo-bert prepare` saved it beside the store, in bert/",
        )
    logging.info("%s: %s", folder, store.describe())
    return store


def _open_if_current(
    folder: Path, sources: list[Source], tokenizer: TokenizerSpec, options: TextOptions
) -> TokenStore | None:
    try:
        store = _opened(folder)
    except FileNotFoundError:
        return None
    except DataError as error:
        logging.warning(f"rebuilding the token store: {error}", mode=LogMode.ONCE)
        return None
    found = store.manifest
    differs = {
        "tokenizer": found["tokenizer"] != tokenizer.fingerprint,
        "options": found["options"] != asdict(options),
        "version that splits text differently": found.get("reader") != READER,
        "text": not _are_the_same(found["sources"], sources),
    }
    if any(differs.values()):
        changed = ", ".join(what for what, is_so in differs.items() if is_so)
        logging.info(f"rebuilding {folder}: it was made with a different {changed}", mode=LogMode.ONCE)
        return None
    return store


def _are_the_same(recorded: list[dict[str, Any]], sources: list[Source]) -> bool:
    return [each["name"] for each in recorded] == [source.name for source in sources] and all(
        each["bytes"] == source.num_bytes
        # The same time means the same content; with a new time or place, the content may still be the same.
        and (each.get("version") == source.version or each["sha256"] == content_hash(source))
        for each, source in zip(recorded, sources, strict=True)
    )


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a store; the kernel releases it even if this process is killed."""
    lock = Path(f"{folder}.lock")
    with storage_errors(folder):
        lock.parent.mkdir(parents=True, exist_ok=True)
        lock.touch()
    with open(lock, "r+") as file:
        with storage_errors(lock):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                logging.info("waiting for another process to build %s", folder)
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


# Building a store.


def _build(folder: Path, sources: list[Source], tokenizer: TokenizerSpec, options: TextOptions) -> None:
    """Build a store in this process, one part after another; `nemo-bert prepare` makes parts in parallel."""
    refuse_other_things(folder)
    total = sum(source.num_bytes for source in sources)
    if total > MUCH_TEXT:
        logging.info(
            "%.1f GB of text: `nemo-bert prepare` uses all cores and can be resumed",
            total / 1e9,
        )
    # With the version, unchanged files need not be hashed again.
    recorded = [{**describe_source(source), "version": source.version} for source in sources]
    sections = sections_of(sources)
    splitter = make_splitter(excerpt_of(sections, options), options.sentences)
    work = folder.with_name(f".{folder.name}.parts")
    shutil.rmtree(work, ignore_errors=True)  # left by a killed process
    try:
        parts = []
        with working("tokenizing", total / 1e6, "MB") as progress:
            before = 0

            def report(of_part: int) -> None:
                progress.done = (before + of_part) / 1e6

            for number, some in enumerate(groups_of(sections)):
                parts.append(work / str(number))
                part = write_part(parts[-1], some, tokenizer, splitter, options, progress=report)
                before += part["bytes_read"]
        with working("writing the token store"):
            assemble(parts, {"store": (folder, None)}, {"sources": recorded})
    finally:
        shutil.rmtree(work, ignore_errors=True)

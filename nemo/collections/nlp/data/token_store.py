"""A corpus, tokenised once: flat arrays in a folder, memory-mapped by all who train on it.

    tokens.bin            uint16 or uint32 [N]  ids, sentence after sentence
    starts_word.bin       bool [N]              whether the token begins a word
    sentence_offsets.bin  int64 [S + 1]         sentence s is tokens[offsets[s]:offsets[s + 1]]
    document_offsets.bin  int64 [D + 1]         document d is sentences offsets[d] to offsets[d + 1]
    manifest.json         what it was made from, counts and checksums; written last

N tokens, S sentences, D documents. No sentence and no document is empty.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from nemo.collections.nlp.data.corpus import AUTO, TextOptions, files_of
from nemo.collections.nlp.data.store_builder import (
    ARRAYS,
    FORMAT,
    VERSION,
    common_folder,
    names_of,
    sha256_of,
    write_store,
)
from nemo.collections.nlp.data.tokenizers.base import TokenizerSpec
from nemo.utils.errors import DataError, MissingFileError, StorageError
from nemo.utils.files import storage_errors, sync
from nemo.utils.logging import LogMode, logging

FILES = {"manifest.json", *(f"{name}.bin" for name in ARRAYS)}
VERIFIED_BYTES = 1 << 30  # up to this size a store is hashed whenever it is opened (about a second)

Path_ = str | os.PathLike[str]


class TokenStore:
    """A token store, opened for reading. Cheap to open, and to send to another process.

    Attributes:
        tokens, starts_word, sentence_offsets, document_offsets: see the top of the file.
        manifest: what `manifest.json` says.

    Raises:
        MissingFileError: no store is there.
        DataError: the store is of another version, or an array has not the size it should have.
    """

    def __init__(self, folder: Path_):
        self.folder = Path(folder)
        self.manifest = _read_manifest(self.folder)
        self.check_sizes()
        self.tokens, self.starts_word, self.sentence_offsets, self.document_offsets = (
            np.memmap(self._path(name), self.manifest["arrays"][name]["dtype"], "r").view(np.ndarray)
            for name in ARRAYS
        )

    def __reduce__(self) -> tuple[type["TokenStore"], tuple[Path]]:
        return TokenStore, (self.folder,)

    def _path(self, array: str) -> Path:
        return self.folder / f"{array}.bin"

    def check_sizes(self) -> None:
        """Raise a DataError if an array was cut short: touching what is gone would kill the process."""
        for name in ARRAYS:
            path, expected = self._path(name), self.manifest["arrays"][name]["bytes"]
            found = path.stat().st_size if path.exists() else 0
            if found != expected:
                raise self._damaged(path, f"{found} bytes", f"{expected}")

    def verify(self) -> None:
        """Raise a DataError if an array is not what was written."""
        for name in ARRAYS:
            found, expected = sha256_of(self._path(name)), self.manifest["arrays"][name]["sha256"]
            if found != expected:
                raise self._damaged(self._path(name), f"SHA-256 {found}", expected)

    def _damaged(self, path: Path, found: str, expected: str) -> DataError:
        fix = f"delete {self.folder}; it is made again from the text"
        return DataError("damaged token store", where=path, found=found, expected=expected, fix=fix)

    def describe(self) -> str:
        """Documents, sentences, tokens and the share of unknown ones, in one line."""
        counts = self.manifest["counts"]
        return (
            f"{counts['documents']:,} documents, {counts['sentences']:,} sentences, "
            f"{counts['tokens']:,} tokens, "
            f"{counts['unknown_tokens'] / counts['tokens']:.2%} of them unknown"
        )


def open_or_build(
    path: Path_ | Iterable[Path_],
    tokenizer: TokenizerSpec,
    folder: Path_ | None = None,
    options: TextOptions = AUTO,
) -> TokenStore:
    """The store of a corpus: the one that is there if it fits text, tokenizer and options, else a new one.

    Of several processes that ask at once, one builds and the others wait for it.

    Args:
        path: as `corpus.files_of` takes it.
        folder: where the store is. Default: `bert/store-<key>` in the folder of the text, or in the
            user's cache (`$XDG_CACHE_HOME` or `~/.cache`) where that cannot be written.

    Raises:
        DataError: the corpus cannot be used (see corpus.py), is empty or all unknown to the tokenizer.
        StorageError: the store cannot be written, or `folder` holds something else.
    """
    files = files_of(path)
    folders = [Path(folder)] if folder else _default_folders(files, tokenizer, options)
    for place in folders:
        if store := _open_if_current(place, files, tokenizer, options):
            return store
    place = next(filter(_is_writable, folders), folders[-1])
    with _locked(place):
        # Another process may have built it while this one waited.
        return _open_if_current(place, files, tokenizer, options) or _replace(
            place, files, tokenizer, options
        )


def build_token_store(
    files: list[Path], tokenizer: TokenizerSpec, folder: Path_, options: TextOptions = AUTO
) -> TokenStore:
    """Tokenise `files` into a store at `folder`, in place of an older one. Raises as `open_or_build`."""
    with _locked(Path(folder)):
        return _replace(Path(folder), files, tokenizer, options)


# Where a store is, and whether it fits.


def _default_folders(files: list[Path], tokenizer: TokenizerSpec, options: TextOptions) -> list[Path]:
    root = common_folder(files)
    # Names only: a changed text replaces its store instead of leaving an old one behind.
    key = _short_hash([VERSION, names_of(files), tokenizer.fingerprint, asdict(options)])
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nemo-bert"
    return [root / "bert" / f"store-{key}", cache / _short_hash(str(root)) / f"store-{key}"]


def _short_hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _is_writable(folder: Path) -> bool:
    existing = next(parent for parent in folder.absolute().parents if parent.exists())
    return os.access(existing, os.W_OK | os.X_OK)


def _open_if_current(
    folder: Path, files: list[Path], tokenizer: TokenizerSpec, options: TextOptions
) -> TokenStore | None:
    try:
        store = TokenStore(folder)
        if sum(array["bytes"] for array in store.manifest["arrays"].values()) <= VERIFIED_BYTES:
            store.verify()
    except FileNotFoundError:
        return None
    except DataError as error:
        logging.warning(f"the token store is made again: {error}", mode=LogMode.ONCE)
        return None
    found = store.manifest
    differs = {
        "tokenizer": found["tokenizer"] != tokenizer.fingerprint,
        "options": found["options"] != asdict(options),
        "text": not _same_sources(found["sources"], files),
    }
    if any(differs.values()):
        changed = ", ".join(what for what, is_so in differs.items() if is_so)
        logging.info(f"{folder} was made from another {changed}; it is made again", mode=LogMode.ONCE)
        return None
    return store


def _same_sources(recorded: list[dict[str, Any]], files: list[Path]) -> bool:
    return [source["name"] for source in recorded] == names_of(files) and all(
        source["bytes"] == file.stat().st_size
        # A file with its old time has its old content; one with a new time may have it too.
        and (source["mtime_ns"] == file.stat().st_mtime_ns or source["sha256"] == sha256_of(file))
        for source, file in zip(recorded, files, strict=True)
    )


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / "manifest.json"
    if not path.exists():
        raise MissingFileError("no token store here", where=folder, expected="a manifest.json")
    try:
        manifest = json.loads(path.read_text("utf-8"))
        found = (manifest["format"], manifest["version"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError("not the manifest of a token store", where=path) from error
    if found != (FORMAT, VERSION):
        expected = f"{FORMAT} {VERSION}"
        raise DataError("another format", where=path, found="{} {}".format(*found), expected=expected)
    return manifest


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a store; the kernel gives it back even if this process is killed."""
    lock = Path(f"{folder}.lock")
    with storage_errors(folder):
        lock.parent.mkdir(parents=True, exist_ok=True)
        lock.touch()
    with open(lock, "r+") as file:
        with storage_errors(lock):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                logging.info("waiting for another process that builds %s", folder)
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _replace(folder: Path, files: list[Path], tokenizer: TokenizerSpec, options: TextOptions) -> TokenStore:
    """Build beside `folder`, then rename: whoever looks sees the old store, the new one, or none."""
    if folder.exists() and (others := {entry.name for entry in folder.iterdir()} - FILES):
        fix = "give an empty or a new folder"
        raise StorageError("no place for a token store", where=folder, found=min(others), fix=fix)
    partial, old = (folder.with_name(f".{folder.name}.{what}") for what in ("partial", "old"))
    for left_behind in (partial, old):
        shutil.rmtree(left_behind, ignore_errors=True)
    with storage_errors(folder):
        try:
            partial.mkdir()
            write_store(partial, files, tokenizer, options)
            if folder.exists():
                folder.rename(old)
            partial.rename(folder)
            sync(folder.parent)
        finally:
            for left_behind in (partial, old):
                shutil.rmtree(left_behind, ignore_errors=True)
    store = TokenStore(folder)
    logging.info("%s: %s", folder, store.describe())
    return store

"""Which files of a folder, or of an address, are text by their names, and which lie beside it."""

import os
from pathlib import Path, PurePosixPath
from typing import Any

from nemo.collections.nlp.data.inputs.kinds import format_by_name
from nemo.collections.nlp.data.inputs.places import filesystem_of, reading, shown, without_compression
from nemo.utils.errors import DataError
from nemo.utils.logging import LogMode, logging

_NAMED = 5
# Files that lie beside a corpus and are none of it, by their names without endings; and those whose JSON is.
_BESIDE = {"readme", "license", "licence", "copying", "notice", "changelog", "vocab"}
_JSON_BESIDE = {
    *("config", "tokenizer", "manifest", "metadata", "metrics", "state", "status", "dataset_info"),
    *("dataset_infos", "dataset_dict", "tokenizer_config", "special_tokens_map", "added_tokens"),
    *("generation_config", "bert-config"),
}
# `bert` holds tokenizers and token stores, and the next three are in the work folder of a run.
_FOLDERS_BESIDE = {"bert", "tokenizer", "checkpoints", "tensorboard", "__MACOSX"}
_SHARDS = (".hdf5", ".h5")


def files_in(folder: Path, format_: str) -> tuple[list[Path], list[str]]:
    """The files in a folder and the folders in it that may be text, and the names of those that are none.

    Those without an ending may be text, or not. What begins with a dot is neither.

    Args:
        format_: a name in `options.FORMATS`, to take other names than those that end as text does; or "auto".

    Raises:
        DataError: an entry is a link, or no regular file; or the folder is a token store.
    """
    if _is_store(folder):
        fix = "give it as --train_data of pretrain, or give the text that it was made from"
        raise DataError("a token store, not text", where=folder, fix=fix)
    files, others = [], []
    for file in _entries(folder):
        if not _may_be_text(file.name, format_):
            others.append(file.relative_to(folder).as_posix())
            continue
        _refuse_link(file)
        check_regular(file)
        files.append(file)
    return files, others


def addresses_at(url: str, format_: str) -> list[str]:
    """The address itself; or if it is that of a folder, or has a `*` in it, those of the text there.

    Raises:
        DataError: there is no text.
    """
    filesystem, inner = filesystem_of(url)
    with reading(url):
        is_http = url.startswith(("http://", "https://"))
        # To ask a server of web pages whether an address is a folder is to load what is there.
        is_folder = url.endswith("/") if is_http else "*" in inner or filesystem.isdir(inner)
        if not is_folder:
            return [url]
        found = sorted(filesystem.glob(inner) if "*" in inner else filesystem.find(inner))
    root = inner.partition("*")[0]
    chosen, others = [], []
    for each in found:
        *folders, name = PurePosixPath(each[len(root) :].lstrip("/")).parts
        if any(part.startswith(".") for part in (*folders, name)) or not _FOLDERS_BESIDE.isdisjoint(folders):
            continue
        is_named = format_ != "auto" or format_by_name(name)
        if is_named and _may_be_text(name, format_):
            chosen.append(filesystem.unstrip_protocol(each))
        else:
            others.append("/".join((*folders, name)))
    check_and_tell(shown(url), len(chosen), others)
    return chosen


def check_and_tell(folder: Any, num_files: int, others: list[str]) -> None:
    """Name in the log what is not read.

    Raises:
        DataError: that is all there is.
    """
    if num_files:
        if others:
            logging.info(f"{folder}: not read as text: {some_of(others)}", mode=LogMode.ONCE)
        return
    if any(name.lower().endswith(_SHARDS) for name in others):
        fix = "to train on shards add data_preprocessed, no data_text"
        raise DataError("HDF5 shards, not text", where=folder, fix=fix)
    raise DataError(
        "no text in this folder",
        where=folder,
        found=some_of(others) or "nothing",
        expected="files named *.txt, *.jsonl, *.parquet or *.csv, or these with .gz, .bz2, .xz or .zst",
        fix="for files of other names say which format they have: --text_format" if others else "",
    )


def some_of(names: list[str]) -> str:
    """The first of some names, and how many more there are."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def check_regular(path: Path) -> None:
    """Raise a DataError if a path is no file: opening a pipe or a socket would wait for ever."""
    if not path.is_file():
        raise DataError("not a regular file", where=path)


def _entries(folder: Path) -> list[Path]:
    """The files in a folder and the folders in it, without those that are never text."""
    files = []

    def refuse(problem: OSError) -> None:
        raise DataError("cannot be read", where=problem.filename, found=problem.strerror) from problem

    for place, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [n for n in folders if not n.startswith(".") and n not in _FOLDERS_BESIDE]
        for name in folders:
            _refuse_link(Path(place, name))
        folders[:] = [name for name in folders if not _is_store(Path(place, name))]
        files += [Path(place, name) for name in names if not name.startswith(".")]
    return sorted(files)


def _may_be_text(name: str, format_: str) -> bool:
    """May a file of a folder be text, by its name? One without an ending may."""
    stem, ending = os.path.splitext(without_compression(name).lower())
    by_name = format_by_name(name)
    if stem in _BESIDE or (stem in _JSON_BESIDE and by_name == "json-lines"):
        return False
    if format_ != "auto":
        return by_name in (None, format_) and ending not in _SHARDS
    return by_name is not None or not ending


def _refuse_link(path: Path) -> None:
    if path.is_symlink():
        raise DataError("a link, not a file", where=path, fix=f"give {os.readlink(path)} itself")


def _is_store(folder: Path) -> bool:
    return (folder / "tokens.bin").is_file()

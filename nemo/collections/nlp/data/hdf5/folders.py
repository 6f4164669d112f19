"""Finds the shards in a folder, and which of them are held out.

NVIDIA's scripts write `<dataset>_training_<i>.hdf5` and `<dataset>_test_<i>.hdf5` to one folder, in later
versions to `training/` and `test/`; Intel's write `train_shard_<i>.hdf5` and `test_shard_<i>.hdf5`; MLPerf
has the folders `training` and `eval`. Shards with other names are used for whatever they are given for.
"""

import os
import re
from pathlib import Path

from nemo.collections.nlp.data.hdf5.manifest import MANIFEST_FILE
from nemo.collections.nlp.data.tokenizers.files import TOKENIZER_FOLDER
from nemo.utils.errors import DataError
from nemo.utils.files import missing, refuse_link, refuse_special
from nemo.utils.logging import LogMode, logging

SUFFIXES = (".hdf5", ".h5")
TRAINING, HELD_OUT = "training", "held out"

_MEANING = {
    **dict.fromkeys(("train", "training"), TRAINING),
    **dict.fromkeys(("test", "eval", "evaluation", "valid", "validation", "dev"), HELD_OUT),
}
_NAMED_IN_LOG = 5


def shards_of(path: str | os.PathLike[str], mode: str) -> list[Path]:
    """The shards to use, sorted by path: one file, or `*.hdf5` and `*.h5` in a folder and its subfolders.

    A file is used whatever its name. From a folder, training never uses a held-out shard; evaluation uses the
    held-out shards, or all if there are none. Other files are skipped and logged, except a manifest and the
    tokenizer in `bert`.

    Args:
        mode: "train" or not.

    Raises:
        MissingFileError: it does not exist.
        DataError: the folder has no shards (for this mode), or an entry is a link or not a regular file.
    """
    path = Path(path)
    if not path.exists():
        raise missing(path, "HDF5 shards: a file, or a folder of them")
    if not path.is_dir():
        return [path]
    shards, others = _entries(path)
    if others:
        more = f" and {len(others) - _NAMED_IN_LOG} more" if len(others) > _NAMED_IN_LOG else ""
        named = ", ".join(others[:_NAMED_IN_LOG]) + more
        logging.info(f"{path}: not read as shards: {named}", mode=LogMode.ONCE)
    if not shards:
        is_text = any(name.endswith(".txt") for name in others)
        raise DataError(
            "there is text in this folder, but no HDF5 shards"
            if is_text
            else "no HDF5 shards in this folder",
            where=path,
            expected=f"files named {' or '.join('*' + suffix for suffix in SUFFIXES)}",
            fix="to train on text add data_text" if is_text else "",
        )
    meanings = {shard: meaning_of(shard.relative_to(path)) for shard in shards}
    if mode == "train":
        chosen = [shard for shard in shards if meanings[shard] != HELD_OUT]
        if not chosen:
            raise DataError(
                "this folder contains only held-out shards",
                where=path,
                found=shards[0].relative_to(path),
            )
        return chosen
    return [shard for shard in shards if meanings[shard] == HELD_OUT] or shards


def holds_shards_instead_of_text(path: str | os.PathLike[str]) -> bool:
    """Whether this is a shard, or a folder with shards and no text."""
    path = Path(path)
    if not path.is_dir():
        return path.suffix.lower() in SUFFIXES
    return not any(path.glob("*.txt")) and bool(_entries(path)[0])


def has_held_out_shards(path: str | os.PathLike[str]) -> bool:
    """Whether this is a folder with shards named as held-out."""
    folder = Path(path)
    return folder.is_dir() and any(
        meaning_of(shard.relative_to(folder)) == HELD_OUT for shard in _entries(folder)[0]
    )


def meaning_of(shard: Path) -> str | None:
    """The split of a shard by its name, else by its folders; None if they name none.

    In a file name the last such word counts (`books_test_training_0` is for training); in a folder name only
    the first word, because folders of NVIDIA's scripts may end in `_shard_1472_test_split_10`.
    """
    words = [*reversed(_words(shard.stem)), *(_words(folder)[0] for folder in reversed(shard.parts[:-1]))]
    return next((_MEANING[word] for word in words if word in _MEANING), None)


def lengths_by_name(shard: Path) -> tuple[int | None, int | None]:
    """Tokens and targets in a row, from the names that NVIDIA's scripts give folders; None if unknown."""
    found = [re.findall(rf"{what}_(\d+)", str(shard)) for what in ("seq_len", "max_pred")]
    tokens, targets = (int(numbers[-1]) if numbers else None for numbers in found)
    return tokens, targets


def _words(name: str) -> list[str]:
    return re.split(r"[^a-z]+", name.lower())


def _entries(folder: Path) -> tuple[list[Path], list[str]]:
    """The shards in a folder, and the names of other files; names that begin with a dot are ignored."""

    def refuse(problem: OSError) -> None:
        raise DataError("cannot be read", where=problem.filename, found=problem.strerror) from problem

    shards, others = [], []
    for place, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in (*folders, *files):
            entry = Path(place, name)
            is_shard = name not in folders and entry.suffix.lower() in SUFFIXES
            if is_shard or name in folders:
                refuse_link(entry)
            if name in folders or name.startswith("."):
                continue
            if not is_shard:
                if name != MANIFEST_FILE and entry.parent.name != TOKENIZER_FOLDER:
                    others.append(str(entry.relative_to(folder)))
            else:
                refuse_special(entry)
                shards.append(entry)
    return sorted(shards), sorted(others)

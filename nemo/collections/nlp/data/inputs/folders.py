"""Lists a folder or an address: which files are text, judging by their names, and which are not."""

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from nemo.collections.nlp.data.inputs.compression import without_compression
from nemo.collections.nlp.data.inputs.kinds import format_by_name
from nemo.collections.nlp.data.inputs.places import filesystem_of, reading, shown
from nemo.collections.nlp.data.inputs.splits import TEST, TRAIN, VALIDATION, Splits, split_of, splits_of
from nemo.utils.errors import DataError
from nemo.utils.files import refuse_link, refuse_special
from nemo.utils.logging import LogMode, logging

_NAMED = 5
# Files that lie beside a corpus but do not belong to it, by stem; and those only where they are JSON.
_BESIDE = {"readme", "license", "licence", "copying", "notice", "changelog", "vocab"}
_JSON_BESIDE = {
    *("config", "tokenizer", "manifest", "metadata", "metrics", "state", "status", "dataset_info"),
    *("dataset_infos", "dataset_dict", "tokenizer_config", "special_tokens_map", "added_tokens"),
    *("generation_config", "bert-config"),
}
# `bert` holds tokenizers and token stores; the next three are in a run's work folder.
_FOLDERS_BESIDE = {"bert", "tokenizer", "checkpoints", "tensorboard", "__MACOSX"}
_SHARDS = (".hdf5", ".h5")


Place = Path | str  # a local path, or an address


@dataclass(frozen=True)
class Listing:
    """The files in a folder, or matching an address with a `*`, by name relative to it.

    Attributes:
        where: the folder, in a form that is safe to log.
        files: files that may be text; one without a suffix may still turn out to be something else.
        others: names of files that are not text.
    """

    where: str
    files: dict[str, Place]
    others: list[str]

    @cached_property
    def splits(self) -> Splits:
        """The files by split, judging by their names."""
        return splits_of(self.files)

    def training(self) -> dict[str, Place]:
        """The files to train on. Logs the files that are skipped because of their names."""
        splits = self.splits
        if splits.has_training:
            self._tell(f"training text: {some_of(splits.training)}; not trained on, by name", splits.training)
        elif splits.training:
            self._warn(f"no file is named as training text, so all are read: {some_of(splits.training)}")
        if splits.train and splits.others:
            self._warn(
                f"skipped, because by name {some_of(splits.train)} is the training text: "
                f"{some_of(splits.others)}; to read both, name each file"
            )
        return {name: self.files[name] for name in splits.training}

    def held_out(self) -> dict[str, Place]:
        """The files to evaluate on: validation files, else test files, else all."""
        chosen = self.splits.held_out
        self._tell(f"held-out text: {some_of(chosen)}; not evaluated on, by name", chosen)
        return {name: self.files[name] for name in chosen}

    def _tell(self, what: str, chosen: list[str]) -> None:
        """Log which files are skipped because of their names."""
        splits = {TRAIN: self.splits.train, VALIDATION: self.splits.validation, TEST: self.splits.test}
        left_out = [f"{some_of(names)} ({split})" for split, names in splits.items() if {*names} - {*chosen}]
        if left_out:
            logging.info(f"{self.where}: {what}: {', '.join(left_out)}", mode=LogMode.ONCE)
        if unclear := self.splits.contradictory:
            said = ", ".join(f"{name} ({split_of(name)})" for name in unclear[:_NAMED])
            self._warn(
                f"names that match more than one of training, validation and test were read as one: {said}"
            )

    def _warn(self, what: str) -> None:
        logging.warning(f"{self.where}: {what}", mode=LogMode.ONCE)


def listing_at(place: Place, format_: str) -> Listing | None:
    """The listing of a folder, or of the matches of an address with `*`; None for a single file.

    Names that begin with a dot are ignored.

    Args:
        format_: a name in `options.FORMATS`, to accept files whatever their suffix; or "auto".

    Raises:
        DataError: an entry is a link or not a regular file, or the folder is a token store.
    """
    if isinstance(place, str):
        return _listing_at_address(place, format_)
    return _listing_of(place, format_) if place.is_dir() else None


def _listing_of(folder: Path, format_: str) -> Listing:
    if _looks_like_store(folder):
        fix = "give it as --train_data of pretrain, or give the text it was made from"
        raise DataError("a token store, not text", where=folder, fix=fix)
    files: dict[str, Place] = {}
    others = []
    for file in _entries(folder):
        name = file.relative_to(folder).as_posix()
        if not _may_be_text(file.name, format_):
            others.append(name)
            continue
        refuse_link(file)
        refuse_special(file)
        files[name] = file
    return Listing(str(folder), files, others)


def _listing_at_address(url: str, format_: str) -> Listing | None:
    filesystem, inner = filesystem_of(url)
    with reading(url):
        is_http = url.startswith(("http://", "https://"))
        # A web server cannot say whether an address is a folder without sending its content.
        is_folder = url.endswith("/") if is_http else "*" in inner or filesystem.isdir(inner)
        if not is_folder:
            return None
        found = sorted(filesystem.glob(inner) if "*" in inner else filesystem.find(inner))
    root = inner.partition("*")[0].rpartition("/")[0] if "*" in inner else inner
    files: dict[str, Place] = {}
    others = []
    for each in found:
        *folders, file = PurePosixPath(each[len(root) :].lstrip("/")).parts
        name = "/".join((*folders, file))
        if any(part.startswith(".") for part in (*folders, file)) or not _FOLDERS_BESIDE.isdisjoint(folders):
            continue
        # Without a suffix it may be anything, and finding out would mean downloading it.
        is_named = format_ != "auto" or format_by_name(name)
        if is_named and _may_be_text(file, format_):
            files[name] = filesystem.unstrip_protocol(each)
        else:
            others.append(name)
    return Listing(shown(url), files, others)


def check_and_tell(folder: str, num_files: int, others: list[str]) -> None:
    """Log the files that are not read.

    Raises:
        DataError: there are no other files.
    """
    if num_files:
        if others:
            logging.info(f"{folder}: not read as text: {some_of(others)}", mode=LogMode.ONCE)
        return
    if any(name.lower().endswith(_SHARDS) for name in others):
        fix = "to train on shards add data_preprocessed instead of data_text"
        raise DataError("HDF5 shards, not text", where=folder, fix=fix)
    raise DataError(
        "no text in this folder",
        where=folder,
        found=some_of(others) or "nothing",
        expected="files named *.txt, *.jsonl, *.parquet or *.csv, or these with .gz, .bz2, .xz or .zst",
        fix="for other file names, give the format: --text_format" if others else "",
    )


def some_of(names: list[str]) -> str:
    """The first few names, and the number of the others."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _entries(folder: Path) -> list[Path]:
    """The files in a folder and its subfolders, without those that are never text."""
    files = []

    def refuse(problem: OSError) -> None:
        raise DataError("cannot be read", where=problem.filename, found=problem.strerror) from problem

    for place, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [n for n in folders if not n.startswith(".") and n not in _FOLDERS_BESIDE]
        for name in folders:
            refuse_link(Path(place, name))
        folders[:] = [name for name in folders if not _looks_like_store(Path(place, name))]
        files += [Path(place, name) for name in names if not name.startswith(".")]
    return sorted(files)


def _may_be_text(name: str, format_: str) -> bool:
    """Whether a file in a folder may be text, judging by its name; without a suffix it may."""
    stem, ending = os.path.splitext(without_compression(name).lower())
    by_name = format_by_name(name)
    if stem in _BESIDE or (stem in _JSON_BESIDE and by_name == "json-lines"):
        return False
    if format_ != "auto":
        return by_name in (None, format_) and ending not in _SHARDS
    return by_name is not None or not ending


def _looks_like_store(folder: Path) -> bool:
    """Whether a folder has the tokens of a store, be it finished or not."""
    return (folder / "tokens.bin").is_file()

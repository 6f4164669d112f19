"""Folders with a corpus in parts: train.txt beside valid.txt, or the same in JSON lines, compressed, ..."""

from pathlib import Path, PurePosixPath

from nemo.collections.nlp.data.inputs.kinds import format_by_name
from nemo.collections.nlp.data.inputs.places import is_url, local_path, without_compression
from nemo.collections.nlp.data.inputs.sources import Path_

VALIDATION = ("valid", "validation")


def place_of(path: Path_) -> Path | str:
    """The path of this machine, or the address, that is meant."""
    return str(path) if is_url(path) else local_path(path)


def part_of(folder: Path | str, *names: str) -> Path | None:
    """The text file of a folder that has one of these names and any of the endings of text; None without."""
    if isinstance(folder, str) or not folder.is_dir():
        return None
    for name in names:
        for file in sorted(folder.glob(f"{name}.*")):
            plain = PurePosixPath(without_compression(file.name))
            if plain.stem == name and format_by_name(file.name) and file.is_file():
                return file
    return None

"""Sorts the files of a folder into training, validation and test files by their names.

The keywords and separators are those of Hugging Face's `datasets`, so that a folder is split as
`load_dataset` splits it: `train-00000-of-00001.parquet`, `wiki.valid.raw`, `dev.jsonl`, `data/test/a.txt`,
but not `latest.txt`. The differences are on the safe side: case is ignored, each file is judged by itself,
and a name that says both training and held-out counts as held-out.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import PurePosixPath

TRAIN, VALIDATION, TEST = "train", "validation", "test"
# Held-out first: a name that says both must not be trained on.
KEYWORDS = {
    VALIDATION: ("validation", "valid", "dev", "val"),
    TEST: ("test", "testing", "eval", "evaluation"),
    TRAIN: ("train", "training"),
}
_AROUND = "[-._ 0-9]"


def _pattern(words: Iterable[str], end: str) -> re.Pattern[str]:
    return re.compile(f"(?:^|{_AROUND})(?:{'|'.join(words)})(?:{end})", re.IGNORECASE)


_IN_FILE = {split: _pattern(words, _AROUND) for split, words in KEYWORDS.items()}
_IN_FOLDER = {split: _pattern(words, f"{_AROUND}|$") for split, words in KEYWORDS.items()}


@dataclass
class Splits:
    """File names by split, in the order given.

    Attributes:
        train, validation, test: files whose name, or whose folder's name, says so.
        others: files whose names name no split.
        contradictory: those of the first three whose names name several splits.
    """

    train: list[str] = field(default_factory=list)
    validation: list[str] = field(default_factory=list)
    test: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    contradictory: list[str] = field(default_factory=list)

    @property
    def has_training(self) -> bool:
        """Whether any file is not held-out by name."""
        return bool(self.train or self.others)

    @property
    def training(self) -> list[str]:
        """The training files: those named so, else those that name no split, else all."""
        return self.train or self.others or self.held_out_by_name

    @property
    def held_out(self) -> list[str]:
        """The files to evaluate on: validation files, else test files, else all."""
        return self.validation or self.test or self.train + self.others

    @property
    def held_out_by_name(self) -> list[str]:
        """Validation and test files."""
        return self.validation + self.test


def splits_of(names: Iterable[str]) -> Splits:
    """Sort file paths, with `/` as separator, by split.

    The folders decide; if they name no split, the file name does.
    """
    splits = Splits()
    for name in names:
        said, is_clear = _said_by(name)
        getattr(splits, said or "others").append(name)
        if not is_clear:
            splits.contradictory.append(name)
    return splits


def split_of(name: str) -> str | None:
    """The split that a file's path, with `/` as separator, names; None if it names none."""
    return _said_by(name)[0]


def _said_by(name: str) -> tuple[str | None, bool]:
    """The split that a path names, and whether it names only that one."""
    *folders, file = PurePosixPath(name).parts
    of_folders = [split for split in KEYWORDS if any(_IN_FOLDER[split].search(f) for f in folders)]
    of_file = [split for split in KEYWORDS if _IN_FILE[split].search(file)]
    said = of_folders or of_file
    return (said[0] if said else None), len({*of_folders, *of_file}) < 2

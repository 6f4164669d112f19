"""The purpose of the files of a folder, by their names: training, validation or test.

The words, and what may stand around them, are those of Hugging Face's `datasets`, so that a folder is split
as `load_dataset` splits it: `train-00000-of-00001.parquet`, `wiki.valid.raw`, `dev.jsonl`, `data/test/a.txt`,
but not `latest.txt`. What is different is on the safe side: upper case is read like lower case, each file is
judged by itself, and a name that says both training and held-out text is held-out text.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import PurePosixPath

TRAIN, VALIDATION, TEST = "train", "validation", "test"
# Held-out text first: a name that says both is not trained on.
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
    """File names by purpose, in the order given.

    Attributes:
        train, validation, test: by their names, or those of their folders.
        others: whose names say nothing.
        contradictory: of the first three, those whose names say several things.
    """

    train: list[str] = field(default_factory=list)
    validation: list[str] = field(default_factory=list)
    test: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    contradictory: list[str] = field(default_factory=list)

    @property
    def has_training(self) -> bool:
        """Whether any file is not held-out text."""
        return bool(self.train or self.others)

    @property
    def training(self) -> list[str]:
        """The training text: files named so, else files with no such name, else all."""
        return self.train or self.others or self.held_out_by_name

    @property
    def held_out(self) -> list[str]:
        """The evaluation text: validation files, else test files, else all."""
        return self.validation or self.test or self.train + self.others

    @property
    def held_out_by_name(self) -> list[str]:
        """Validation text and tests."""
        return self.validation + self.test


def splits_of(names: Iterable[str]) -> Splits:
    """Sort file names, with their folders and `/` between, by purpose.

    Folders count, and where these say nothing, the file's own name.
    """
    splits = Splits()
    for name in names:
        said, is_clear = _said_by(name)
        getattr(splits, said or "others").append(name)
        if not is_clear:
            splits.contradictory.append(name)
    return splits


def split_of(name: str) -> str | None:
    """What a name, with its folders and `/` between, says that a file is for; None if nothing."""
    return _said_by(name)[0]


def _said_by(name: str) -> tuple[str | None, bool]:
    """What a path says a file is for, and whether it says so once."""
    *folders, file = PurePosixPath(name).parts
    of_folders = [split for split in KEYWORDS if any(_IN_FOLDER[split].search(f) for f in folders)]
    of_file = [split for split in KEYWORDS if _IN_FILE[split].search(file)]
    said = of_folders or of_file
    return (said[0] if said else None), len({*of_folders, *of_file}) < 2

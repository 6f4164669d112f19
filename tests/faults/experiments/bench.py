"""What experiments share.

An experiment is a generator: it yields once for every trial, "" if all was as it must be, else what was not.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from nemo.backends.pytorch.checkpoints.checkpoint import list_checkpoints
from nemo.backends.pytorch.checkpoints.manifest import verify
from nemo.utils.errors import CheckpointError
from tests.conftest import write_english
from tests.distributed.launching import by_hand
from tests.faults.runs import final_hash, outcome, prepared, start, words

Trials = Iterator[str]
SAVE_STEP_FREQ = 7  # of all trainings here
# Both roads of data, several lengths of a step; the text by tokens goes through more than two epochs.
ROADS = (
    (),
    ("--tokens_per_batch", "256", "--batches_per_step", "3"),
    ("data_preprocessed", "--batches_per_step", "1"),
    ("data_preprocessed", "--masking", "span", "--batches_per_step", "4"),
)


@dataclass
class Training:
    """A training that nothing disturbed.

    Attributes:
        data: text or shards.
        more: options beside those of all.
        run: its work folder.
        expected: the hash it ended with.
    """

    data: Path
    more: tuple[str, ...]
    run: Path
    expected: str

    @classmethod
    def make(cls, data: Path, run: Path, *more: str) -> "Training":
        code, told = outcome(start(words(data, run, *more)))
        assert code == 0, told
        return cls(data, more, run, final_hash(run))

    def words(self, work_dir: Path) -> list[str]:
        """The command line of the same training in another folder."""
        return words(self.data, work_dir, *self.more)


@dataclass
class Bench:
    """What experiments share.

    Attributes:
        folder: where they work.
        data: text.
        run, expected: a training on it that nothing disturbed, and the hash it ended with.
        notes: figures beside success and failure, by name.
        numbers: of the folders of trials.
    """

    folder: Path
    rng: random.Random
    data: Path
    run: Path
    expected: str
    notes: dict[str, list[float]]
    numbers: Iterator[int] = field(default_factory=count)

    @classmethod
    def make(cls, folder: Path, seed: int) -> "Bench":
        data, run = write_english(folder / "data"), folder / "undisturbed"
        return cls(folder, random.Random(seed), data, run, Training.make(data, run).expected, {})

    def trainings(self) -> list[Training]:
        """One on each road."""
        shards = prepared(self.data, self.folder / "prepared")
        data = [shards if "data_preprocessed" in more else self.data for more in ROADS]
        return [
            Training.make(place, self.new_folder(), *more) for place, more in zip(data, ROADS, strict=True)
        ]

    def new_folder(self) -> Path:
        """A place that nobody has had before; the folder itself is not made."""
        return self.folder / f"trial-{next(self.numbers)}"

    def note(self, name: str, value: float) -> None:
        self.notes.setdefault(name, []).append(value)


def job_alone(work_dir: Path, program: list[Any]) -> Any:
    return by_hand(work_dir.with_suffix(".logs"), [program])


def newest_step(work_dir: Path) -> int:
    """Of the newest checkpoint that is good; 0 without any."""
    good = [path for path in list_checkpoints(work_dir / "checkpoints") if _is_good(path)]
    return int(good[-1].name.removeprefix("STEP-")) if good else 0


def _is_good(path: Path) -> bool:
    try:
        verify(path)
    except CheckpointError:
        return False
    return True


def identity(work_dir: Path) -> int:
    """Of the rows that are written down; a run that begins or goes on writes a file of its own."""
    path = work_dir / "metrics.jsonl"
    return path.stat().st_ino if path.exists() else 0


def has_come_to(step: int, work_dir: Path, rows_before: int) -> bool:
    return identity(work_dir) != rows_before and last_row(work_dir) >= step


def last_row(work_dir: Path) -> int:
    """The last step that was written down."""
    path = work_dir / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    for line in reversed(lines):
        try:
            return json.loads(line)["step"]
        except ValueError:
            continue  # cut short by a kill
    return 0

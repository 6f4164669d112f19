from pathlib import Path

import pytest

from tests.conftest import made_once, write_english
from tests.faults.runs import final_hash, outcome, start, words


@pytest.fixture(scope="session")
def undisturbed(shared_folder) -> tuple[Path, str]:
    """A folder of text, and what a training on it ends with when nothing happens."""

    def make(folder: Path) -> None:
        data = write_english(folder / "data")
        code, told = outcome(start(words(data, folder / "run")))
        assert code == 0, told

    folder = made_once(shared_folder / "undisturbed", make)
    return folder / "data", final_hash(folder / "run")

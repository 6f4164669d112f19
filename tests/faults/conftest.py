from pathlib import Path

import pytest

from tests.conftest import write_english
from tests.faults.runs import final_hash, outcome, start, words


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory) -> tuple[Path, str]:
    """A folder of text, and what a training on it ends with when nothing happens."""
    folder = tmp_path_factory.mktemp("undisturbed")
    data = write_english(folder / "data")
    code, told = outcome(start(words(data, folder / "run")))
    assert code == 0, told
    return data, final_hash(folder / "run")

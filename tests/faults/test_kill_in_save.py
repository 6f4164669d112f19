"""SIGKILL at every moment of a save: what can be loaded is the old checkpoint or the new one."""

import signal
from pathlib import Path

import pytest

from nemo.backends.pytorch.checkpoints.checkpoint import latest_good
from tests.faults.runs import STRIKE, final_hash, outcome, start, words

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def num_touches(undisturbed, tmp_path_factory) -> int:
    """How often a whole training touches its checkpoints."""
    folder = tmp_path_factory.mktemp("touches")
    data, expected = undisturbed
    strike = (str(STRIKE), "kill", "0", "0", str(folder / "count"))
    code, told = outcome(start(words(data, folder / "run"), *strike))
    assert code == 0, told
    assert final_hash(folder / "run") == expected
    return int((folder / "count").read_text())


def kill_and_rerun(data: Path, work_dir: Path, touch: int) -> str:
    """The hash that a training ends with that was killed at one touch, and run again."""
    strike = (str(STRIKE), "kill", str(touch), str(touch), str(work_dir) + ".count")
    code, told = outcome(start(words(data, work_dir), *strike))
    assert code == -signal.SIGKILL, told
    latest_good(work_dir / "checkpoints")  # raises if there are some and none is good
    assert not list((work_dir / "checkpoints").glob("bad-*"))
    code, told = outcome(start(words(data, work_dir)))
    assert code == 0, told
    return final_hash(work_dir)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.55, 0.8])
def test_a_run_killed_while_saving_resumes_to_the_same_result(undisturbed, num_touches, tmp_path, share):
    data, expected = undisturbed
    assert num_touches > 100
    assert kill_and_rerun(data, tmp_path / "run", int(share * num_touches)) == expected

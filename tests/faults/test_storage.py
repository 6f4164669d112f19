"""A disk that is full or fails while a checkpoint is written: training continues, the last good one stays."""

import re
import signal

import pytest

from nemo.backends.pytorch.checkpoints.checkpoint import list_checkpoints
from nemo.backends.pytorch.checkpoints.manifest import verify
from tests.faults.runs import STRIKE, final_hash, leftovers, outcome, start, wait_for_step, words

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("error", ["ENOSPC", "EIO"])
def test_training_continues_and_saves_once_the_disk_works_again(undisturbed, tmp_path, error):
    data, expected = undisturbed
    # The first checkpoint, STEP-7, takes some 40 touches; these fall into it and the next.
    strike = (str(STRIKE), error, "12", "12", str(tmp_path / "count"))
    code, told = outcome(start(words(data, tmp_path / "run", "--checkpoints_to_keep", "99"), *strike))
    assert code == 0, told
    missed = [line for line in told.splitlines() if "training continues" in line]
    assert len(missed) == 1
    if error == "ENOSPC":
        assert re.search(r"disk full.*found [\d,]+ bytes free.*expected [\d,]+ bytes", missed[0])
    steps = [path.name for path in list_checkpoints(tmp_path / "run/checkpoints")]
    assert "STEP-7" not in steps and "STEP-14" in steps
    assert leftovers(tmp_path / "run") == []
    assert final_hash(tmp_path / "run") == expected


@pytest.mark.parametrize("file_size", [40_000, 60_000])
def test_three_failed_checkpoints_end_training_and_keep_the_last_good(undisturbed, tmp_path, file_size):
    data, expected = undisturbed
    run = start(words(data, tmp_path))
    wait_for_step(run, tmp_path, 3)
    run.send_signal(signal.SIGTERM)
    assert outcome(run)[0] == 75
    good = list_checkpoints(tmp_path / "checkpoints")
    code, told = outcome(start(words(data, tmp_path), file_size=file_size))
    assert code == 5, told
    assert re.match(r"error\[STORAGE\] .*disk full.*expected [\d,]+ bytes", told.splitlines()[-1])
    assert told.count("training continues, and the next checkpoint") == 2
    assert list_checkpoints(tmp_path / "checkpoints") == good
    verify(good[0])
    assert leftovers(tmp_path) == []
    code, told = outcome(start(words(data, tmp_path)))
    assert code == 0, told
    assert final_hash(tmp_path) == expected

"""Numbers that go wrong in a real run: stopped before the step, written down, explained."""

import json

import pytest

from nemo.backends.pytorch.checkpoints.checkpoint import list_checkpoints
from nemo.backends.pytorch.checkpoints.manifest import verify
from tests.faults.runs import outcome, start, words

pytestmark = pytest.mark.slow


def test_a_diverging_run_stops_and_records_the_bad_step(undisturbed, tmp_path):
    data, _ = undisturbed
    diverging = ("--optimizer", "sgd", "--lr", "1e12", "--save_step_freq", "1")
    code, told = outcome(start(words(data, tmp_path, *diverging)))
    assert code == 6, told
    assert told.splitlines()[-1].startswith("error[NUMERIC] step ")
    (line,) = (tmp_path / "bad_steps.jsonl").read_text().splitlines()
    bad = json.loads(line)
    newest = list_checkpoints(tmp_path / "checkpoints")[-1]
    assert newest.name == f"STEP-{bad['step'] - 1}"
    verify(newest)
    status = json.loads((tmp_path / "status.json").read_text())
    assert (status["state"], status["code"], status["checkpoint"]) == ("stopped", "NUMERIC", newest.name)
    assert len(bad["samples"]) == 8  # two batches of four


def test_a_loss_that_stays_at_the_unigram_entropy_is_explained_once(undisturbed, tmp_path):
    data, _ = undisturbed
    run = start(words(data, tmp_path, "--lr", "1e-9", "--num_iters", "260", "--eval_step_freq", "40"))
    code, told = outcome(run)
    assert code == 0, told
    (line,) = [line for line in told.splitlines() if "is not below the unigram entropy" in line]
    assert "likely causes are: a learning rate that is too high" in line

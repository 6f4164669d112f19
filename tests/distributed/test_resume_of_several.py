"""Runs of several processes go on after an end, with as many processes or with another number."""

import random
import shutil
import time

import pytest
import torch

from nemo.cli.main import main
from tests.cli.outcome import error_of, weights
from tests.distributed.conftest import NUM_STEPS
from tests.distributed.launching import (
    TORCHRUN,
    Job,
    by_hand,
    checkpoint_at,
    pretraining,
    rows,
    wait_for_steps,
    wait_until,
)

pytestmark = pytest.mark.slow
STEP = 21
NOTE = "same samples and masks, but not bit-identical"


def stopped(run, folder):
    """A copy of a run as it was when it had made 21 steps."""
    shutil.copytree(run, folder)
    for checkpoint in (folder / "checkpoints").glob("STEP-*"):
        if int(checkpoint.name.removeprefix("STEP-")) > STEP:
            shutil.rmtree(checkpoint)
    return folder


def words_for(text, run, batch_size):
    return pretraining(text, run, "--num_iters", NUM_STEPS, "--batch_size", batch_size)


def run_alone(text, run, batch_size):
    _, *words = words_for(text, run, batch_size)
    return main(["pretrain", *map(str, words)])


def losses(run):
    return [row["loss"] for row in rows(run)]


@pytest.fixture(scope="module")
def disturbed(text, tmp_path_factory):
    """The work folder of a run of two, and the logs of its parts: one was killed, later all were."""
    folder = tmp_path_factory.mktemp("disturbed")
    run = folder / "run"
    words = [*TORCHRUN, "--nproc_per_node=2", "--max-restarts=1", *words_for(text, run, 16)]
    with Job(folder, *words) as first:
        wait_for_steps(run, 7, first)
        time.sleep(random.uniform(0, 0.1))
        first.kill(1)
        wait_until(lambda: "resuming from" in first.out, first)
        wait_for_steps(run, checkpoint_at(run) + 1, first)
        first.kill()
        assert first.wait() == -9
    assert len(rows(run)) < NUM_STEPS
    with Job(folder, *words) as second:
        second.succeed()
    return run, first.out, second.out


def test_torchrun_restarts_all_after_a_kill_and_they_resume(disturbed):
    _, first, _ = disturbed
    assert first.count("2 processes train together") == 2
    assert first.count("resuming from") == 1


def test_two_processes_killed_at_some_step_go_on_bit_for_bit(disturbed, undisturbed):
    run, _, second = disturbed
    assert "resuming from" in second
    assert NOTE not in second
    expected, found = (weights(r / "checkpoints" / f"STEP-{NUM_STEPS}") for r in (undisturbed("two"), run))
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert losses(run) == losses(undisturbed("two"))


def test_one_process_resumes_a_run_of_two(text, undisturbed, tmp_path, capsys):
    run = stopped(undisturbed("two"), tmp_path / "run")
    assert run_alone(text, run, 32) == 0
    assert "processes 1 instead of 2" in capsys.readouterr().out
    assert losses(run) == pytest.approx(losses(undisturbed("one")), abs=1e-4)


def test_two_processes_resume_a_run_of_one(text, undisturbed, tmp_path):
    run = stopped(undisturbed("one"), tmp_path / "run")
    with by_hand(tmp_path, [words_for(text, run, 16)] * 2) as (first, second):
        second.succeed()
        assert "processes 2 instead of 1" in first.succeed().out
    assert losses(run) == pytest.approx(losses(undisturbed("one")), abs=1e-4)


def test_another_number_of_samples_in_a_step_is_refused_by_name(text, undisturbed, tmp_path, capsys):
    run = stopped(undisturbed("two"), tmp_path / "run")
    before = (run / "metrics.jsonl").read_bytes()
    assert run_alone(text, run, 16) == 4
    assert "a different samples_per_step; found 32, expected 16" in error_of(capsys)
    assert (run / "metrics.jsonl").read_bytes() == before

"""Several processes that are asked to stop: all stop at the same step, and go on to the same end."""

import json
import signal

import pytest
import torch

from tests.cli.outcome import weights
from tests.distributed.conftest import NUM_STEPS
from tests.distributed.launching import TORCHRUN, Job, by_hand, checkpoint_at, pretraining, wait_for_steps

pytestmark = pytest.mark.slow


def words_for(text, run, *more):
    return pretraining(text, run, "--num_iters", NUM_STEPS, "--batch_size", 16, *more)


def status_of(run):
    return json.loads((run / "status.json").read_text())


def same_weights(run, other):
    found, expected = (weights(r / "checkpoints" / f"STEP-{NUM_STEPS}") for r in (run, other))
    return found.keys() == expected.keys() and all(torch.equal(expected[n], found[n]) for n in expected)


@pytest.mark.parametrize("more", [(), ("--shard",)], ids=["whole", "sharded"])
def test_a_signal_to_one_process_stops_all_at_the_same_step(text, undisturbed, tmp_path, more):
    run = tmp_path / "run"
    with by_hand(tmp_path, [words_for(text, run, *more)] * 2) as (first, second):
        wait_for_steps(run, 9, first)
        second.kill(1, signal.SIGTERM)
        assert (first.wait(), second.wait()) == (75, 75)
        step = checkpoint_at(run)
        told = f"error[PREEMPTED] stopped by another process after step {step}, and saved"
        assert any(told in line for line in first.errors()), first.err
        assert "Traceback" not in first.err + second.err
    status = status_of(run)
    assert (status["state"], status["step"], status["checkpoint"]) == ("preempted", step, f"STEP-{step}")
    with by_hand(tmp_path, [words_for(text, run, *more)] * 2) as (first, second):
        second.succeed()
        assert "resuming from" in first.succeed().out
    if not more:
        assert same_weights(run, undisturbed("two"))


def test_a_signal_to_torchrun_stops_and_saves_the_run(text, undisturbed, tmp_path):
    run = tmp_path / "run"
    command = [*TORCHRUN, "--nproc_per_node=2", *words_for(text, run)]
    with Job(tmp_path, *command) as job:
        wait_for_steps(run, 9, job)
        job.kill_first(signal.SIGTERM)
        assert job.wait() != 0  # torchrun says 1 to it in any case: the status has more to say
        assert status_of(run)["state"] == "preempted"
        assert not job.pids()
    with Job(tmp_path, *command) as job:
        job.succeed()
    assert same_weights(run, undisturbed("two"))

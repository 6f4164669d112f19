"""Being asked to stop: saved once, exit code 75, and the rerun ends as if nothing had been."""

import json
import signal
import subprocess
import time
from contextlib import suppress

import pytest

from nemo.backends.pytorch.checkpoints.checkpoint import list_checkpoints
from tests.faults.runs import final_hash, leftovers, outcome, start, wait_for_step, words

pytestmark = pytest.mark.slow


def is_training(work_dir):
    status = work_dir / "status.json"
    return status.exists() and json.loads(status.read_text())["state"] == "training"


def test_every_signal_saves_and_the_run_resumes_exactly(undisturbed, tmp_path):
    data, expected = undisturbed
    command = words(data, tmp_path)
    for number, step in ((signal.SIGTERM, 3), (signal.SIGUSR1, 12), (signal.SIGINT, 22), (signal.SIGHUP, 32)):
        run = start(command)
        wait_for_step(run, tmp_path, step)
        run.send_signal(number)
        code, told = outcome(run)
        assert code == 75, told
        assert told.splitlines()[-1].startswith(f"error[PREEMPTED] stopped by {number.name} after step ")
        status = json.loads((tmp_path / "status.json").read_text())
        newest = list_checkpoints(tmp_path / "checkpoints")[-1].name
        assert (status["state"], status["code"], status["checkpoint"]) == ("preempted", "PREEMPTED", newest)
        assert f"after step {newest.removeprefix('STEP-')}," in told
        assert int(newest.removeprefix("STEP-")) >= step
    code, told = outcome(start(command))
    assert code == 0, told
    assert final_hash(tmp_path) == expected


def test_a_second_signal_ends_a_long_step_at_once(undisturbed, tmp_path):
    data, _ = undisturbed
    # The whole epoch is one step, of many minutes: only the second signal can end it.
    sizes = ("--hidden_size", "768", "--num_attention_heads", "12", "--intermediate_size", "3072")
    slow = ("--num_hidden_layers", "6", "--batches_per_step", "2000", "--num_iters", "3")
    told = ""
    for seconds in (5, 20, 60):  # until the step goes on: before it the first signal would be enough
        run = start(words(data, tmp_path / str(seconds), *sizes, *slow))
        while not is_training(tmp_path / str(seconds)):
            assert run.poll() is None
            time.sleep(0.01)
        time.sleep(seconds)
        # What comes within a second after the first is heeded is a copy of it; a busy process heeds it late.
        while run.poll() is None:
            run.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                run.wait(3)
        code, told = outcome(run)
        assert code == 75, told
        assert leftovers(tmp_path / str(seconds)) == []
        if "after step 0" not in told:
            break
    assert told.splitlines()[-1].startswith("error[PREEMPTED] stopped by SIGTERM; fix: run the same command")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_before_training_saves_nothing(undisturbed, tmp_path, number):
    data, _ = undisturbed
    run = start(words(data, tmp_path))
    while not (tmp_path / ".lock").exists():
        assert run.poll() is None
        time.sleep(0.002)
    run.send_signal(number)
    code, told = outcome(run)
    assert code == 75, told
    assert told.splitlines()[-1].startswith(f"error[PREEMPTED] stopped by {number.name}")
    assert "Traceback" not in told


def test_a_launchers_late_copy_of_a_signal_changes_nothing(undisturbed, tmp_path):
    data, _ = undisturbed
    run = start(words(data, tmp_path))
    wait_for_step(run, tmp_path, 3)
    while run.poll() is None:
        run.send_signal(signal.SIGTERM)
        time.sleep(0.05)
        if (tmp_path / "status.json").read_text().count("preempted"):
            break
    for _ in range(50):
        run.send_signal(signal.SIGTERM)
        time.sleep(0.01)
    code, told = outcome(run)
    assert code == 75, told


SCRIPT = """
from nemo.backends.pytorch.tutorials import MSELoss, RealFunctionDataLayer, TaylorNet
from nemo.core import CheckpointCallback, NeuralModuleFactory

factory = NeuralModuleFactory()
x, y = RealFunctionDataLayer(n=1000, batch_size=10)()
loss = MSELoss()(predictions=TaylorNet(dim=4)(x=x), target=y)
callback = CheckpointCallback(folder="checkpoints", step_freq=10)
how = {"num_epochs": 10**6, "lr": 1e-4}
factory.train([loss], callbacks=[callback], optimization_params=how, optimizer="sgd")
"""


def test_a_users_script_saves_and_ends_with_75_too(tmp_path):
    (tmp_path / "train.py").write_text(SCRIPT)
    run = start([], str(tmp_path / "train.py"), cwd=tmp_path)
    while not list_checkpoints(tmp_path / "checkpoints"):
        assert run.poll() is None
        time.sleep(0.01)
    run.send_signal(signal.SIGTERM)
    code, told = outcome(run)
    assert code == 75, told
    last = told.splitlines()[-1]
    assert "stopped by SIGTERM after step" in last
    newest = list_checkpoints(tmp_path / "checkpoints")[-1]
    assert f"after step {newest.name.removeprefix('STEP-')}:" in last

"""However processes are started, they find each other; and what does not go together is told."""

import json

import pytest
import torch

from nemo.cli.main import main
from tests.cli.outcome import error_of
from tests.distributed.launching import (
    TORCHRUN,
    Job,
    by_hand,
    checkpoint_at,
    pretraining,
    rows,
)

# As a user writes it: nothing but the names of NeMo 0.10.
SCRIPT = """
import argparse, json, os, time
import nemo, torch

parser = argparse.ArgumentParser()
parser.add_argument("--local_rank", type=int, default=None)
parser.add_argument("--slow", type=int)
parser.add_argument("--bad", type=int)
parser.add_argument("--out")
args = parser.parse_args()
torch.manual_seed(int(os.environ.get("RANK", 0)))  # processes begin with other weights
nf = nemo.core.NeuralModuleFactory(
    backend=nemo.core.Backend.PyTorch, local_rank=args.local_rank, placement=nemo.core.DeviceType.CPU
)
size = nf.world_size
dl = nemo.tutorials.RealFunctionDataLayer(n=1000, batch_size=64 // size)
fx = nemo.tutorials.TaylorNet(dim=4)
loss = nemo.tutorials.MSELoss()
x, y = dl()
lss = loss(predictions=fx(x=x), target=y)
seen = []
callback = nemo.core.SimpleLossLoggerCallback(
    tensors=[lss], print_func=lambda x: seen.append(float(x[0])), step_freq=1
)
nf.train([lss], callbacks=[callback], optimization_params={"num_epochs": 2, "lr": 0.001}, optimizer="sgd")
nf.sync_all_processes()
if args.slow == nf.global_rank:
    time.sleep(5)  # longer than a process that says nothing is waited for
if args.bad == nf.global_rank:
    raise KeyError("mine")
if args.bad is not None:
    nf.sync_all_processes()
told = {"weights": fx.fc1.weight.tolist(), "losses": seen, "size": size, "rank": nf.global_rank}
with open(f"{args.out}.{size}.{nf.global_rank}", "w") as file:
    json.dump(told, file)
"""


@pytest.mark.slow
def test_the_command_of_2020_trains(undisturbed):
    """`python -m torch.distributed.launch ... --num_gpus=2`, which passes --local-rank."""
    assert len(rows(undisturbed("two"))) == 50


@pytest.mark.slow
def test_torchrun_trains_a_model(undisturbed):
    assert len(rows(undisturbed("four"))) == 50


@pytest.mark.slow
def test_the_environment_alone_is_enough(undisturbed):
    assert len(rows(undisturbed("accumulated"))) == 50


@pytest.mark.slow
def test_both_spellings_of_local_rank_are_taken(text, tmp_path):
    spellings = ("--local_rank=0", "--local-rank=1")
    commands = [pretraining(text, tmp_path / "run", word, "--num_iters=2") for word in spellings]
    with by_hand(tmp_path, commands) as jobs:
        for job in jobs:
            job.succeed()
    assert checkpoint_at(tmp_path / "run") == 2


@pytest.mark.slow
@pytest.mark.parametrize("slow", [0, 1])
def test_a_users_script_trains_with_two_processes_what_it_trains_with_one(tmp_path, slow):
    """Whichever of them ends first."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    words = [script, "--out", tmp_path / "told"]
    of_ranks = [[*words, "--local_rank", rank, "--slow", slow] for rank in (0, 1)]
    with by_hand(tmp_path, of_ranks) as jobs, Job(tmp_path, *words) as alone:
        for job in (*jobs, alone):
            job.succeed()
    first, second, one = (json.loads((tmp_path / f"told.{n}").read_text()) for n in ("2.0", "2.1", "1.0"))
    assert first["weights"] == second["weights"]
    assert torch.allclose(torch.tensor(first["weights"]), torch.tensor(one["weights"]), atol=1e-5)
    assert len(one["losses"]) == 32  # 16 steps an epoch
    assert first["losses"] == pytest.approx(one["losses"], abs=1e-4)


@pytest.mark.slow
def test_a_users_script_that_fails_in_one_process_ends_in_all(tmp_path):
    bad = 0  # it has the store, in which the other reads why
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    with by_hand(tmp_path, [[script, "--bad", bad]] * 2) as jobs:
        codes = [job.wait() for job in jobs]
        assert (codes[bad], codes[1 - bad]) == (1, 7)
        assert "KeyError: 'mine'" in jobs[bad].err
        assert jobs[1 - bad].err == ""


@pytest.mark.slow
def test_another_number_of_processes_than_num_gpus_is_refused(text, tmp_path):
    words = pretraining(text, tmp_path / "run", "--num_gpus=3")
    with Job(tmp_path, *TORCHRUN, "--nproc_per_node=2", *words) as job:
        assert job.wait() != 0
        refused = [error for error in job.errors() if error.startswith("error[USAGE] --num_gpus")]
        assert refused and all("found 3, expected 2" in error for error in refused)
        # The launcher stops the process that has not come so far.
        others = [error for error in job.errors() if error not in refused]
        assert all(error.startswith("error[PREEMPTED]") for error in others)
    assert not (tmp_path / "run").exists()


def test_num_gpus_without_a_launcher_is_refused(tmp_path, capsys):
    _, *words = pretraining(tmp_path, tmp_path / "run", "--num_gpus=2")
    assert main(["pretrain", *map(str, words)]) == 2
    error = error_of(capsys)
    assert error.startswith("error[USAGE] --num_gpus")
    assert "found 2, expected 1" in error
    assert "torchrun --nproc_per_node=2" in error


def test_half_an_environment_is_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    _, *words = pretraining(tmp_path, tmp_path / "run")
    assert main(["pretrain", *map(str, words)]) == 2
    assert "LOCAL_RANK, MASTER_ADDR, MASTER_PORT" in error_of(capsys)

"""Whatever happens to one process, all end, and somebody says why."""

import json
import re
import signal
import socket
import time

import pytest

from nemo.collections.nlp.data.tokenizers import load_tokenizer
from nemo.collections.nlp.data.tokenizers.vocabulary import train_tokenizer
from tests.conftest import PATIENCE
from tests.distributed.launching import (
    TORCHRUN,
    WORKER,
    Job,
    by_hand,
    free_port,
    pretraining,
    wait_until,
)

pytestmark = pytest.mark.slow
ENDLESS = ("--num_iters", 10**6, "--batch_size", 16)


def training(folder):
    """Do both processes of the worker's endless training train, and know each other?"""
    return all((folder / f"training.{rank}").exists() for rank in (0, 1))


def wait_for_all(jobs):
    return [job.wait() for job in jobs]


@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_process_ends_the_others(tmp_path, killed):
    with by_hand(tmp_path, [[WORKER, tmp_path, "endless"]] * 2) as jobs:
        wait_until(lambda: training(tmp_path), jobs[0])
        jobs[killed].kill(killed)
        assert wait_for_all(jobs)[1 - killed] == 7
        (error,) = jobs[1 - killed].errors()
    # The notes by which processes know each other are gone with rank 0.
    name = r"rank 1 \(process" if killed == 1 else r"rank 0 \(process|store of rank 0 or its launcher"
    assert error.startswith("error[DISTRIBUTED]")
    assert re.search(name, error)


@pytest.mark.parametrize("stopped", [0, 1])
def test_a_suspended_process_ends_all_and_is_named(tmp_path, stopped):
    """With rank 0 the store is stopped in which the others would read what is the matter."""
    with by_hand(tmp_path, [[WORKER, tmp_path, "endless"]] * 2) as jobs:
        wait_until(lambda: training(tmp_path), jobs[0])
        jobs[stopped].kill(stopped, how=signal.SIGSTOP)
        codes = wait_for_all(jobs)
        assert (codes[stopped], codes[1 - stopped]) == (-signal.SIGKILL, 7)
        told = rf"rank {stopped} \(process \d+ on .*\) was killed or stopped, "
        assert re.search(told, jobs[1 - stopped].err)


def test_a_hanging_process_ends_all_and_prints_its_stack(tmp_path):
    with by_hand(tmp_path, [[WORKER, tmp_path, "hang"]] * 2) as jobs:
        assert wait_for_all(jobs) == [7, 7]
        for job in jobs:
            (error,) = job.errors()
            assert re.search(r"rank 1 \(process \d+ on .*\) hangs: callbacks and data for \d+ s", error)
        assert re.search(r'worker.py", line \d+ in on_iteration_end', jobs[1].err)  # its stack
        assert "in on_iteration_end" not in jobs[0].err


def test_workers_do_not_outlive_the_launcher(tmp_path):
    with Job(tmp_path, *TORCHRUN, "--nproc_per_node=2", WORKER, tmp_path, "endless") as job:
        wait_until(lambda: training(tmp_path), job)
        assert len(job.pids()) == 3
        job.kill_first()
        deadline = time.monotonic() + PATIENCE
        while job.pids() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert job.pids() == []


@pytest.mark.parametrize(
    ("case", "rank", "exit_code", "error"),
    [
        ("bad_data", 1, 3, r"error\[DATA\] text:7: a record that cannot be read$"),
        ("no_folder", 0, 5, r"error\[STORAGE\] .*file"),
        ("slow_listener", 0, 5, r"error\[STORAGE\] .*file"),
        (
            "other_model",
            1,
            7,
            r"error\[DISTRIBUTED\] rank 1 on \S+, weights: differs from rank 0; found ",
        ),
    ],
)
def test_only_the_process_that_raises_prints_an_error(tmp_path, case, rank, exit_code, error):
    with by_hand(tmp_path, [[WORKER, tmp_path, case]] * 2) as jobs:
        codes = wait_for_all(jobs)
        assert (codes[rank], codes[1 - rank]) == (exit_code, 7)
        assert jobs[1 - rank].errors() == []
        (found,) = jobs[rank].errors()
    assert re.match(error, found)


def test_a_failed_process_leaves_no_waiting_threads(tmp_path):
    """An interpreter that ends before such a thread aborts."""
    with by_hand(tmp_path, [[WORKER, tmp_path, "late_answers"]] * 2) as jobs:
        assert wait_for_all(jobs) == [7, 3]
        assert jobs[1].err.splitlines()[-1] == "['MainThread'] at the end"


def test_only_the_process_without_data_prints_an_error(text, tmp_path):
    commands = [pretraining(folder, tmp_path / "run") for folder in (text, tmp_path / "nowhere")]
    with by_hand(tmp_path, commands) as jobs:
        assert wait_for_all(jobs) == [7, 3]
        assert jobs[0].errors() == []
        (error,) = jobs[1].errors()
        assert error.startswith("error[DATA]")
        assert "nowhere" in error


def test_a_missing_process_is_named(text, tmp_path):
    with by_hand(tmp_path, [pretraining(text, tmp_path / "run", "--hang_timeout=5")], size=2) as (job,):
        assert job.wait() == 7
        (error,) = job.errors()
    assert error.startswith("error[DISTRIBUTED] rank 0: not all processes have joined; found no rank 1,")
    assert "expected 2 processes within 5 s" in error


def test_an_unusable_address_is_an_error_with_a_hint(tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": other.getsockname()[1]}
        nobody = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
        words = [WORKER, tmp_path, "endless"]
        process = {"WORLD_SIZE": 2, "LOCAL_RANK": 0, "SECONDS_UNTIL_HUNG": 3}
        with (
            Job(tmp_path, *words, RANK=0, **process, **taken) as first,
            Job(tmp_path, *words, RANK=1, **process, **nobody) as second,
            Job(tmp_path, *words, RANK=1, **process, **{**nobody, "MASTER_ADDR": "nowhere.invalid"}) as third,
        ):
            for job in (first, second, third):
                assert job.wait() == 7
                (error,) = job.errors()
                assert re.match(
                    r"error\[DISTRIBUTED\] rank [01], MASTER_ADDR:MASTER_PORT [\w.]+:\d+: ", error
                )
                assert "a free port" in error


@pytest.mark.parametrize("field", ["seed", "tokenizer", "training_data", "config"])
def test_a_process_that_differs_is_refused_by_name(text, tmp_path, field):
    vocab_size = load_tokenizer(text / "bert").vocab_size
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    for rank in (0, 1):
        config = sizes | {"vocab_size": vocab_size, "layer_norm_eps": 1e-12 if rank == 0 else 1e-6}
        (tmp_path / str(rank)).mkdir()
        (tmp_path / str(rank) / "config.json").write_text(json.dumps(config))
    other = tmp_path / "other"
    other.mkdir()
    (other / "train.txt").write_text((text / "train.txt").read_text().replace("cat", "dog", 1))
    ours, theirs = [], {
        "seed": ["--seed=1"],
        "tokenizer": ["--tokenizer", other],
        "training_data": ["--train_data", other / "train.txt", "--tokenizer", text / "bert"],
        "config": ["--config_file=config.json"],
    }[field]  # fmt: skip
    if field == "config":
        ours = theirs
    if field == "tokenizer":
        train_tokenizer("sentence-piece", [text / "train.txt"], other, vocab_size=40)
    with by_hand(tmp_path, [pretraining(text, tmp_path / "run", *more) for more in (ours, theirs)]) as jobs:
        assert wait_for_all(jobs) == [7, 7], jobs[1].err
        assert jobs[0].errors() == []
        (error,) = jobs[1].errors()
    assert re.match(rf"error\[DISTRIBUTED\] rank 1 on \S+, {field}: differs from rank 0; found ", error)

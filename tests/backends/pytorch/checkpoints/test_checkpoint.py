"""Checkpoints survive crashes. Real files, real processes."""

import errno
import os
import random
import resource
import shutil
import signal
import stat
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
import torch

from nemo.backends.pytorch.checkpoints import checkpoint
from nemo.backends.pytorch.checkpoints.fit import check_fit
from nemo.backends.pytorch.checkpoints.manifest import verify
from nemo.utils.errors import CheckpointError, StorageError, UsageError

FILES = ["BERT.safetensors", "bert-config.json", "manifest.json", "optimizer.safetensors", "state.json"]


def tensors_of(step):
    """Whatever was saved tells its step everywhere."""
    return {
        "BERT": {"word.weight": torch.full((3, 2), float(step)), "bias": torch.tensor([step, 1])},
        "optimizer": {"word.weight.step": torch.tensor(float(step)).bfloat16()},
    }


def save(folder, *steps):
    for step in steps:
        extra = {"bert-config.json": b'{"hidden_size": 2}'}
        path = checkpoint.save(folder, step, tensors_of(step), {"step": step, "epoch": 0}, extra)
    return path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def flip_bit(path, bit):
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << (bit % 8)
    path.write_bytes(content)


def test_everything_saved_is_loaded(tmp_path):
    path = save(tmp_path / "checkpoints", 7)
    assert path == tmp_path / "checkpoints" / "STEP-7"
    assert names(path) == FILES
    tensors, state = checkpoint.load(path)
    assert state == {"step": 7, "epoch": 0}
    for stem, expected in tensors_of(7).items():
        assert tensors[stem].keys() == expected.keys()
        for name, tensor in expected.items():
            assert torch.equal(tensors[stem][name], tensor)
            assert tensors[stem][name].dtype == tensor.dtype
    assert (path / "bert-config.json").read_bytes() == b'{"hidden_size": 2}'


def test_no_tensors_and_tensors_in_odd_layouts(tmp_path):
    columns = torch.arange(6.0).reshape(2, 3).T
    parameter = torch.nn.Parameter(torch.ones(2))
    path = checkpoint.save(tmp_path, 0, {"a": {}, "b": {"t": columns, "p": parameter}}, {})
    tensors, _ = checkpoint.load(path)
    assert tensors["a"] == {}
    assert torch.equal(tensors["b"]["t"], columns)
    assert torch.equal(tensors["b"]["p"], torch.ones(2))


def test_files_may_be_copied(tmp_path):
    (tmp_path / "vocab.txt").write_text("[PAD]\n")
    extra = {"a.txt": tmp_path / "vocab.txt", "b.txt": str(tmp_path / "vocab.txt")}
    path = checkpoint.save(tmp_path, 1, {}, {}, extra)
    assert (path / "a.txt").read_text() == (path / "b.txt").read_text() == "[PAD]\n"


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_files_have_the_permissions_of_the_umask(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        path = save(tmp_path, 1)
    finally:
        os.umask(before)
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.iterdir()} == {mode}


def test_tied_tensors_are_refused_by_name(tmp_path):
    base = torch.zeros(4, 2)
    with pytest.raises(CheckpointError, match="share memory; found a and b"):
        checkpoint.save(tmp_path, 1, {"BERT": {"a": base, "b": base[1:3]}}, {})
    halves = {"a": base[:2], "b": base[2:]}
    assert checkpoint.load(checkpoint.save(tmp_path, 1, {"BERT": halves}, {}))[0]["BERT"].keys() == {"a", "b"}


@pytest.mark.parametrize("name", ["../x", "/x", ".hidden", "a/b", "", "state.json", "manifest.json", "é"])
def test_only_plain_names(tmp_path, name):
    with pytest.raises(UsageError, match="invalid name for a checkpoint file"):
        checkpoint.save(tmp_path / "checkpoints", 1, {}, {}, {name: b""})
    assert not (tmp_path / "checkpoints").exists()


def test_too_little_disk_space_is_an_error_before_anything_is_written(tmp_path):
    huge = torch.zeros(1).expand(2**50)
    with pytest.raises(
        StorageError, match=r"disk full.*found [\d,]+ bytes free.*expected 4,503,599,628,419,072 bytes"
    ):
        checkpoint.save(tmp_path, 1, {"BERT": {"huge": huge}}, {})
    assert names(tmp_path) == []


@contextmanager
def file_size_limit(size):
    """No file may grow beyond `size` bytes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("limit", [10, 1000, 500_000])
def test_a_disk_that_fails_leaves_nothing(tmp_path, limit):
    """There is no room for state.json, for the tensors, or for a further file."""
    save(tmp_path, 1)
    tensors = {"BERT": {"w": torch.zeros(100_000)}}
    with pytest.raises(StorageError, match="disk full"), file_size_limit(limit):
        checkpoint.save(tmp_path, 2, tensors, {"note": "x" * 100}, {"a.txt": b"a" * 600_000})
    assert names(tmp_path) == ["STEP-1"]


def test_saving_a_step_again(tmp_path, capsys):
    path = save(tmp_path, 1)
    before = (path / "manifest.json").stat().st_mtime_ns
    assert save(tmp_path, 1) == path
    assert (path / "manifest.json").stat().st_mtime_ns == before
    assert names(tmp_path) == ["STEP-1"]

    with pytest.raises(CheckpointError, match="STEP-1: this step was already saved with different weights"):
        checkpoint.save(tmp_path, 1, tensors_of(2), {})
    assert names(tmp_path) == ["STEP-1"]

    flip_bit(path / "BERT.safetensors", 900)
    save(tmp_path, 1)
    verify(path)
    assert names(tmp_path) == ["STEP-1", "bad-STEP-1"]


def test_list_has_exact_names_in_the_order_of_steps(tmp_path):
    save(tmp_path, 10, 9, 100)
    for decoy in ("STEP-9.bak", "STEP-", "STEP-07", "BERT-STEP-5", "EPOCH-1", "step-5", "bad-STEP-3"):
        (tmp_path / decoy).mkdir()
    (tmp_path / "STEP-8").touch()
    (tmp_path / "STEP-11").symlink_to("STEP-10")
    listed = [path.name for path in checkpoint.list_checkpoints(tmp_path)]
    assert listed == ["STEP-9", "STEP-10", "STEP-11", "STEP-100"]
    assert checkpoint.list_checkpoints(tmp_path / "missing") == []


def test_find_returns_none_without_checkpoints(tmp_path):
    assert checkpoint.latest_good(tmp_path) is None
    assert checkpoint.latest_good(tmp_path / "missing") is None


def test_the_newest_is_taken(tmp_path):
    save(tmp_path, 9, 10)
    assert checkpoint.latest_good(tmp_path).name == "STEP-10"


def test_files_that_were_added_are_ignored(tmp_path):
    path = save(tmp_path, 1)
    (path / "notes.txt").write_text("a good one")
    (path / "evil.safetensors").write_text("no tensors")
    tensors, _ = checkpoint.load(path)
    assert tensors.keys() == {"BERT", "optimizer"}


@pytest.mark.parametrize("named", [".", "checkpoints", "checkpoints/STEP-10"])
def test_a_run_is_found_by_any_of_its_folders(tmp_path, named):
    save(tmp_path / "checkpoints", 9, 10)
    assert checkpoint.find(tmp_path / named) == tmp_path / "checkpoints" / "STEP-10"


def test_find_returns_the_checkpoint_that_is_named(tmp_path):
    save(tmp_path, 9, 10)
    assert checkpoint.find(tmp_path / "STEP-9") == tmp_path / "STEP-9"
    assert checkpoint.find(tmp_path, pattern="STEP-9") == tmp_path / "STEP-9"


def test_a_copy_under_another_name_can_be_loaded(tmp_path):
    shutil.copytree(save(tmp_path, 1), tmp_path / "best")
    assert checkpoint.load(tmp_path / "best")[1]["step"] == 1
    shutil.copytree(tmp_path / "STEP-1", tmp_path / "STEP-5")
    with pytest.raises(CheckpointError, match="manifest of a different checkpoint; found step 1"):
        verify(tmp_path / "STEP-5")


def test_prune_keeps_the_newest_and_all_that_is_not_ours(tmp_path):
    save(tmp_path, 1, 2, 3, 4)
    os.truncate(tmp_path / "STEP-4" / "BERT.safetensors", 20)
    (tmp_path / "STEP-0").mkdir()
    (tmp_path / "STEP-1.bak").mkdir()
    (tmp_path / "elsewhere").mkdir()
    shutil.move(save(tmp_path, 5), tmp_path / "elsewhere" / "STEP-5")
    (tmp_path / "STEP-5").symlink_to("elsewhere/STEP-5")
    checkpoint.prune(tmp_path, keep=2)
    assert names(tmp_path) == ["STEP-0", "STEP-1.bak", "STEP-2", "STEP-3", "STEP-4", "STEP-5", "elsewhere"]
    verify(tmp_path / "STEP-5")


def test_checkpoints_that_were_moved_and_linked_are_found(tmp_path):
    save(tmp_path, 1, 2)
    (tmp_path / "large disk").mkdir()
    for step in (1, 2):
        shutil.move(tmp_path / f"STEP-{step}", tmp_path / "large disk")
        (tmp_path / f"STEP-{step}").symlink_to(f"large disk/STEP-{step}")
    assert checkpoint.latest_good(tmp_path).name == "STEP-2"
    (tmp_path / "large disk").rename(tmp_path / "gone")
    with pytest.raises(CheckpointError, match="none of the 2 checkpoints is usable"):
        checkpoint.latest_good(tmp_path)


def test_pruning_retries_a_checkpoint_it_could_not_delete(tmp_path, monkeypatch):
    save(tmp_path, 1, 2, 3)
    with monkeypatch.context() as broken:
        broken.setattr(os, "rmdir", lambda *path, **more: fail(errno.EIO))
        with pytest.raises(StorageError, match="STEP-1: input/output error"):
            checkpoint.prune(tmp_path, keep=2)
    assert names(tmp_path) != ["STEP-2", "STEP-3"]
    of_another_process = tmp_path / f".STEP-4.{'0' * 32}.tmp"
    of_another_process.mkdir()
    checkpoint.prune(tmp_path, keep=2)
    assert names(tmp_path) == [of_another_process.name, "STEP-2", "STEP-3"]


def fail(number):
    raise OSError(number, os.strerror(number))


def test_prune_keeps_one_at_least(tmp_path):
    save(tmp_path, 1)
    with pytest.raises(UsageError, match="checkpoints to keep"):
        checkpoint.prune(tmp_path, keep=0)


def test_only_leftovers_are_removed(tmp_path):
    save(tmp_path, 1)
    stale = f".STEP-2.{'0123456789abcdef' * 2}.tmp"
    shutil.copytree(tmp_path / "STEP-1", tmp_path / stale)
    (tmp_path / ".STEP-2.tmp").mkdir()
    (tmp_path / f".STEP-3.{'0' * 32}.tmp").symlink_to("STEP-1")
    assert checkpoint.latest_good(tmp_path).name == "STEP-1"
    before = names(tmp_path)
    checkpoint.remove_leftovers(tmp_path)
    assert names(tmp_path) == [name for name in before if name != stale]
    checkpoint.remove_leftovers(tmp_path / "missing")


def test_fit_names_the_first_misfit():
    expected = {"a": torch.zeros(2), "b": torch.zeros(3)}
    check_fit("it", expected, {"b": torch.ones(3), "a": torch.ones(2)})
    with pytest.raises(
        CheckpointError, match="b: it does not match: 1 missing, 1 unexpected, 1 with a different"
    ):
        check_fit("it", expected, {"a": torch.zeros(3), "c": torch.zeros(3)})


SAVE_UNTIL_KILLED = """
import os, sys, torch
from itertools import count
from pathlib import Path
from nemo.backends.pytorch.checkpoints import checkpoint

def save_for_ever(folder, first_step):
    for step in count(first_step):
        weights = torch.full((200_000,), float(step))
        checkpoint.save(folder, step, {"BERT": {"w": weights}}, {"step": step}, {"a.txt": b"a" * 1000})
        checkpoint.prune(folder, 2)
        os.write(1, b"%d\\n" % step)  # whole or not at all

torch.set_num_threads(1)
for line in sys.stdin:  # one process for every line, which need not import torch again
    child = os.fork()
    if child == 0:
        print(os.getpid(), flush=True)
        save_for_ever(Path(sys.argv[1]), int(line))
    os.waitpid(child, 0)
    print("end", flush=True)
"""


@pytest.mark.slow
def test_a_kill_leaves_the_last_finished_checkpoint_or_a_newer_one(tmp_path):
    rng = random.Random(0)
    newest = 0
    with subprocess.Popen(
        [sys.executable, "-c", SAVE_UNTIL_KILLED, tmp_path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        for _ in range(12):
            print(newest + 1, file=server.stdin, flush=True)
            process = int(server.stdout.readline())
            finished = int(server.stdout.readline())
            time.sleep(rng.uniform(0, 0.05))
            os.kill(process, signal.SIGKILL)
            while (line := server.stdout.readline()) != "end\n":
                finished = int(line)

            path = checkpoint.latest_good(tmp_path)
            tensors, state = checkpoint.load(path)
            newest = state["step"]
            assert newest >= finished
            assert torch.equal(tensors["BERT"]["w"], torch.full((200_000,), float(newest)))
            checkpoint.remove_leftovers(tmp_path)
            assert all(name.startswith("STEP-") for name in names(tmp_path))

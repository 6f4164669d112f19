"""Files of single modules."""

import pytest
import torch

from nemo.backends.pytorch.tutorials import TaylorNet
from nemo.core import (
    ModuleSaverCallback,
)
from nemo.utils.errors import StorageError, UsageError
from tests.core.sine import train


def test_modules_are_saved_by_steps_and_at_the_end_and_old_files_go(graph, tmp_path):
    other = TaylorNet(4)
    kept = tmp_path / "TaylorNet_mine-STEP-2.safetensors"
    kept.write_bytes(b"mine")
    saver = ModuleSaverCallback([graph.net, other], step_freq=2, folder=tmp_path, checkpoints_to_keep=2)
    train(graph.loss, [saver], max_steps=7)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        kept.name,
        *(
            f"TaylorNet_{module.unique_instance_id}-STEP-{step}.safetensors"
            for module in (graph.net, other)
            for step in (6, 7)
        ),
    }
    assert kept.read_bytes() == b"mine"
    restored = TaylorNet(4)
    restored.restore_from(tmp_path / f"TaylorNet_{graph.net.unique_instance_id}-STEP-7.safetensors")
    assert torch.equal(restored.fc1.weight, graph.net.fc1.weight)


def test_a_step_is_saved_once(graph, tmp_path, capsys):
    train(graph.loss, [ModuleSaverCallback(graph.net, step_freq=2, folder=tmp_path)], max_steps=2)
    assert capsys.readouterr().out.count("saved ") == 1


def test_without_a_folder_modules_are_saved_in_the_current_one(graph, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train(graph.loss, [ModuleSaverCallback(graph.net)], max_steps=1)
    assert [path.name for path in tmp_path.iterdir()] == [
        f"TaylorNet_{graph.net.unique_instance_id}-STEP-1.safetensors"
    ]


def test_a_save_that_fails_halfway_leaves_no_file(graph, tmp_path):
    class Full(TaylorNet):
        def save_to(self, path):
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")

    saver = ModuleSaverCallback([Full(2)], step_freq=1, folder=tmp_path)
    with pytest.raises(StorageError, match="disk full"):
        train(graph.loss, [saver], max_steps=1)
    assert list(tmp_path.iterdir()) == []


def test_a_saver_that_cannot_save_is_refused_at_once(graph):
    with pytest.raises(UsageError, match="cannot be saved; found MSELoss"):
        ModuleSaverCallback([graph.loss_module])
    with pytest.raises(UsageError, match="step_freq: out of range"):
        ModuleSaverCallback([graph.net], step_freq=0)
    with pytest.raises(UsageError, match="checkpoints_to_keep: out of range"):
        ModuleSaverCallback([graph.net], checkpoints_to_keep=0)

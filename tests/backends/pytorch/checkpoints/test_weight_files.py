"""Weights in files, and what only pretends to be."""

import os

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from nemo.backends.pytorch.checkpoints.weight_files import read_weights
from nemo.utils.errors import CheckpointError, MissingFileError


class Payload:
    """Unpickled the unsafe way, it makes a folder."""

    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.mkdir, (self.canary,)


@pytest.mark.parametrize("zip_format", [True, False])
def test_written_weights_are_read_back(tmp_path, zip_format):
    """NeMo 0.10 wrote the format of torch before 1.6, which is no zip file."""
    weights = nn.Linear(2, 3).state_dict()
    torch.save(weights, tmp_path / "BERT-STEP-5.pt", _use_new_zipfile_serialization=zip_format)
    loaded = read_weights(tmp_path / "BERT-STEP-5.pt")
    assert list(loaded) == ["weight", "bias"]
    assert all(torch.equal(loaded[name], weights[name]) for name in weights)


def test_safetensors_are_recognized_under_any_suffix(tmp_path):
    weights = nn.Linear(2, 3).state_dict()
    save_file(weights, tmp_path / "BERT.pt")
    loaded = read_weights(tmp_path / "BERT.pt")
    assert all(torch.equal(loaded[name], weights[name]) for name in weights)


@pytest.mark.parametrize("zip_format", [True, False])
def test_code_in_a_file_is_not_run(tmp_path, zip_format):
    content = {"weight": torch.zeros(1), "x": Payload(str(tmp_path / "canary"))}
    torch.save(content, tmp_path / "bad.pt", _use_new_zipfile_serialization=zip_format)
    with pytest.raises(CheckpointError, match=r"bad\.pt: cannot be read as weights"):
        read_weights(tmp_path / "bad.pt")
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("size", [0, 1, 100, 400])
def test_a_file_cut_short(tmp_path, size):
    torch.save(nn.Linear(2, 3).state_dict(), tmp_path / "whole.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "whole.pt").read_bytes()[:size])
    with pytest.raises(CheckpointError, match=r"cut\.pt: cannot be read"):
        read_weights(tmp_path / "cut.pt")


@pytest.mark.parametrize("size", [10, 100])
def test_safetensors_cut_short(tmp_path, size):
    save_file(nn.Linear(2, 3).state_dict(), tmp_path / "whole")
    (tmp_path / "cut").write_bytes((tmp_path / "whole").read_bytes()[:size])
    with pytest.raises(CheckpointError, match="cut: cannot be read as weights"):
        read_weights(tmp_path / "cut")


def test_a_missing_file(tmp_path):
    with pytest.raises(MissingFileError, match="no such file"):
        read_weights(tmp_path / "missing.pt")


@pytest.mark.parametrize("content", [[torch.zeros(1)], {"step": 3}, {1: torch.zeros(1)}, torch.zeros(1)])
def test_something_else_than_weights(tmp_path, content):
    torch.save(content, tmp_path / "trainer-STEP-5.pt")
    with pytest.raises(CheckpointError, match="not the weights of a module"):
        read_weights(tmp_path / "trainer-STEP-5.pt")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
            "a Git LFS pointer.*git lfs pull",
        ),
        (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "a web page"),
    ],
)
@pytest.mark.parametrize("name", ["model.safetensors", "model.bin"])
def test_files_of_a_failed_download_are_named(tmp_path, name, content, found):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{name}: {found}"):
        read_weights(tmp_path / name)

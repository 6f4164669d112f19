"""Damage of a checkpoint is noticed, and what is not ours is left alone."""

import hashlib
import json
import os
import random

import pytest
import torch

from nemo.backends.pytorch.checkpoints import checkpoint
from nemo.backends.pytorch.checkpoints.manifest import verify
from nemo.utils.errors import CheckpointError
from tests.backends.pytorch.checkpoints.test_checkpoint import FILES, flip_bit, names, save


def reseal(path, change):
    """A manifest that was changed by someone who knows how."""
    content = json.loads(path.read_bytes())
    del content["sha256"]
    change(content)
    unsealed = json.dumps(content, indent=1, sort_keys=True).encode()
    path.write_text(json.dumps(content | {"sha256": hashlib.sha256(unsealed).hexdigest()}))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("part", [0, 0.5, 0.99])
def test_a_file_cut_short(tmp_path, capsys, name, part):
    save(tmp_path, 1, 2)
    file = tmp_path / "STEP-2" / name
    os.truncate(file, int(file.stat().st_size * part))
    assert_step_2_is_set_aside(tmp_path, capsys, name)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file(tmp_path, capsys, name):
    save(tmp_path, 1, 2)
    (tmp_path / "STEP-2" / name).unlink()
    assert_step_2_is_set_aside(tmp_path, capsys, name)


@pytest.mark.parametrize("name", FILES)
def test_a_link_in_place_of_a_file(tmp_path, capsys, name):
    save(tmp_path, 1, 2)
    (tmp_path / "STEP-2" / name).rename(tmp_path / "elsewhere")
    (tmp_path / "STEP-2" / name).symlink_to(tmp_path / "elsewhere")
    assert_step_2_is_set_aside(tmp_path, capsys, name)


def assert_step_2_is_set_aside(folder, capsys, name):
    assert checkpoint.latest_good(folder).name == "STEP-1"
    assert name in (folder / "bad-STEP-2" / "reason.txt").read_text()
    warnings = capsys.readouterr().err
    assert warnings.count("NeMo W") == 1
    assert "renaming STEP-2 to bad-STEP-2, using STEP-1" in warnings
    assert checkpoint.latest_good(folder).name == "STEP-1"
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", FILES)
def test_flipped_bits_are_found(tmp_path, name):
    path = save(tmp_path, 1)
    rng = random.Random(0)
    size = (path / name).stat().st_size
    for bit in rng.sample(range(8 * size), 40):
        flip_bit(path / name, bit)
        with pytest.raises(CheckpointError, match=name):
            verify(path)
        flip_bit(path / name, bit)
    verify(path)


def test_only_damaged_checkpoints_are_an_error_every_time(tmp_path):
    save(tmp_path, 1, 2)
    for step in (1, 2):
        (tmp_path / f"STEP-{step}" / "state.json").unlink()
    for _ in range(2):
        with pytest.raises(CheckpointError, match=r"none of the 2 .*STEP-2/state.*STEP-1/state"):
            checkpoint.latest_good(tmp_path)
    assert names(tmp_path) == ["STEP-1", "STEP-2"]


def test_a_second_bad_checkpoint_of_a_step_gets_a_number(tmp_path):
    save(tmp_path, 1)
    for _ in range(2):
        (save(tmp_path, 2) / "state.json").unlink()
        checkpoint.latest_good(tmp_path)
    assert names(tmp_path) == ["STEP-1", "bad-STEP-2", "bad-STEP-2.2"]


def test_a_named_damaged_checkpoint_is_refused_and_kept(tmp_path):
    save(tmp_path, 1, 2)
    (tmp_path / "STEP-2" / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match=r"STEP-2/manifest\.json: damaged"):
        checkpoint.find(tmp_path / "STEP-2")
    assert names(tmp_path) == ["STEP-1", "STEP-2"]


def test_another_version_is_left_alone(tmp_path):
    save(tmp_path, 1, 2)
    reseal(tmp_path / "STEP-2" / "manifest.json", lambda content: content.update(version=2))
    with pytest.raises(CheckpointError, match="unsupported checkpoint version; found 2, expected 1"):
        checkpoint.latest_good(tmp_path)
    assert names(tmp_path) == ["STEP-1", "STEP-2"]


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "a\0b", "", ".."])
def test_a_manifest_cannot_point_outside(tmp_path, name):
    path = save(tmp_path, 1)
    (tmp_path / "outside").write_text("not ours")
    record = {"size": 8, "sha256": "0" * 64}
    reseal(path / "manifest.json", lambda content: content["files"].update({name: record}))
    with pytest.raises(CheckpointError, match="manifest of a different checkpoint"):
        checkpoint.load(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.pop("files"),
        lambda content: content.pop("step"),
        lambda content: content.update(files=[]),
        lambda content: content.update(files={"state.json": 3}),
        lambda content: content.update(files={}),
        lambda content: content.update(format="other"),
    ],
)
def test_a_manifest_of_another_form(tmp_path, change):
    path = save(tmp_path, 1)
    reseal(path / "manifest.json", change)
    with pytest.raises(CheckpointError, match="manifest"):
        verify(path)


@pytest.mark.parametrize(
    "text",
    ['{"a": 1, "a": 2}', '{"a": NaN}', '{"a": -Infinity}', '{"a": 1e999}', "[1]", "[" * 100_000, "\xff", "{"],
)
def test_json_is_read_strictly(tmp_path, text):
    path = save(tmp_path, 1)
    (path / "manifest.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(CheckpointError, match="JSON"):
        verify(path)


def test_a_number_that_is_not_finite_is_damage(tmp_path, capsys):
    """Even where the manifest vouches for it: nobody trains on from NaN."""
    save(tmp_path, 1)
    weights = {"good": torch.zeros(3), "bad": torch.tensor([1.0, torch.nan])}
    checkpoint.save(tmp_path, 2, {"BERT": weights}, {})
    with pytest.raises(CheckpointError, match=r"STEP-2/BERT\.safetensors bad: weights are not finite"):
        checkpoint.load(tmp_path / "STEP-2")
    assert checkpoint.latest_good(tmp_path) == tmp_path / "STEP-1"
    assert (tmp_path / "bad-STEP-2").is_dir()


def test_a_verified_file_that_changes_is_verified_again(tmp_path):
    path = save(tmp_path, 1)
    verify(path)
    weights = path / "BERT.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    with pytest.raises(CheckpointError, match="its content has changed"):
        verify(path)

"""Of a run's checkpoints the best is taken."""

import json

import pytest
import torch

from nemo.backends.pytorch.checkpoints import checkpoint
from nemo.collections.nlp.checkpoints.best import choose_checkpoint


@pytest.fixture
def run(tmp_path):
    """Makes a work folder with checkpoints of some steps and held-out losses of some."""

    def make(steps, losses):
        for step in steps:
            tensors = {"m": {"w": torch.full((1,), float(step))}}
            checkpoint.save(tmp_path / "checkpoints", step, tensors, {"step": step})
        rows = [{"step": step, "eval_mlm_loss": loss} for step, loss in losses.items()]
        (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return tmp_path

    return make


@pytest.mark.parametrize(
    ("steps", "losses", "taken"),
    [
        ([10, 20, 30], {0: 9.0, 10: 5.0, 20: 4.0, 30: 4.5}, "STEP-20"),
        ([10, 20, 30], {0: 9.0, 10: 5.0, 20: 4.0}, "STEP-30"),  # it was still getting better
        ([10, 30], {10: 5.0, 20: 4.0, 30: 4.5}, "STEP-30"),  # the best one is gone
        ([10, 20], {10: None, 20: 5.0}, "STEP-20"),  # a loss that was not finite
        ([10, 20], {}, "STEP-20"),
    ],
)
def test_the_lowest_held_out_loss_decides(run, steps, losses, taken):
    folder = run(steps, losses)
    assert choose_checkpoint(folder).path.name == taken
    assert choose_checkpoint(folder / "checkpoints").path.name == taken
    assert choose_checkpoint(folder / "checkpoints" / "STEP-10").path.name == "STEP-10"


def test_the_choice_is_logged_with_its_reason(run):
    reason = choose_checkpoint(run([10, 20], {10: 4.0, 20: 4.5})).reason
    assert "4.000" in reason and "STEP-20" in reason


def test_a_damaged_best_one_is_not_taken(run):
    folder = run([10, 20], {10: 4.0, 20: 4.5})
    (folder / "checkpoints/STEP-10/m.safetensors").write_bytes(b"rot")
    assert choose_checkpoint(folder).path.name == "STEP-20"


def test_without_checkpoints_there_is_no_best_one(tmp_path):
    assert choose_checkpoint(tmp_path) is None


def test_pruning_spares_one(run):
    folder = run([10, 20, 30, 40], {}) / "checkpoints"
    checkpoint.prune(folder, 2, spared=10)
    assert sorted(path.name for path in folder.iterdir()) == ["STEP-10", "STEP-30", "STEP-40"]

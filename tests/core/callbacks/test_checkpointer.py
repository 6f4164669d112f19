"""When checkpoints come, and what a rerun does with them."""

import pytest
import torch

from nemo.backends.pytorch.tutorials import MSELoss, RealFunctionDataLayer, TaylorNet
from nemo.core import (
    CheckpointCallback,
)
from nemo.utils.errors import CheckpointError, UsageError
from tests.core.sine import Graph, train


def saved(folder):
    return sorted(int(path.name.removeprefix("STEP-")) for path in folder.glob("STEP-*"))


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({"step_freq": 2, "epoch_freq": 1}, [2, 3, 4, 6, 7]),
        ({"step_freq": 2}, [2, 4, 6, 7]),
        ({"epoch_freq": 2}, [6, 7]),
        ({"step_freq": 2, "epoch_freq": 1, "checkpoints_to_keep": 2}, [6, 7]),
    ],
)
def test_checkpoints_come_by_steps_and_by_epochs(graph, tmp_path, options, steps):
    options = {"checkpoints_to_keep": 9, **options}
    train(graph.loss, [CheckpointCallback(tmp_path, load_from_folder=None, **options)], max_steps=7)
    assert saved(tmp_path) == steps


def test_without_a_frequency_the_end_is_saved_and_a_warning_says_so(graph, tmp_path, capsys):
    callback = CheckpointCallback(folder=tmp_path, load_from_folder=None)
    assert "only the end of training will be saved" in capsys.readouterr().err
    train(graph.loss, [callback], max_steps=4)
    assert saved(tmp_path) == [4]


def test_a_rerun_goes_on_in_its_folder_or_starts_from_another(tmp_path):
    def run(folder, steps, **options):
        graph = Graph()
        callback = CheckpointCallback(tmp_path / folder, step_freq=2, **options)
        factory = train(graph.loss, [callback], optimizer="adam_w", max_steps=steps)
        return graph.weights(), factory.get_trainer().step

    whole, _ = run("whole", 5)
    run("parts", 3)
    again, step = run("parts", 5)
    assert step == 5
    assert torch.equal(whole, again)
    run("old", 3)
    moved, _ = run("new", 5, load_from_folder=tmp_path / "old")
    assert torch.equal(whole, moved)
    assert saved(tmp_path / "old") == [2, 3]
    with pytest.raises(CheckpointError, match="no checkpoint to resume from"):
        run("none", 5, force_load=True)


def test_two_modules_of_one_class_are_saved_apart(tmp_path):
    def run(seed):
        torch.manual_seed(seed)
        first, second = TaylorNet(2), TaylorNet(2)
        points = RealFunctionDataLayer(batch_size=4, n=12)()
        loss = MSELoss()(predictions=second(x=first(x=points.x)), target=points.y)
        train(loss, [CheckpointCallback(tmp_path, step_freq=1)], max_steps=2)
        return torch.cat([first.fc1.weight, second.fc1.weight]).detach()

    weights = run(seed=0)
    assert torch.equal(run(seed=5), weights)  # continues after the last step, so nothing is trained
    assert not torch.equal(weights[0], weights[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folder": None}, "no folder to save to; fix: pass a folder, or pass log_dir"),
        ({"folder": "x", "step_freq": 0}, "step_freq: out of range; found 0"),
        ({"folder": "x", "checkpoints_to_keep": 0}, "checkpoints_to_keep: out of range; found 0"),
    ],
)
def test_a_checkpointer_that_cannot_save_is_refused_at_once(options, message):
    with pytest.raises(UsageError, match=message):
        CheckpointCallback(**options)

"""Weights and Biases."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from nemo.core import (
    WandbCallback,
)
from nemo.utils.errors import UsageError
from tests.conftest import PATIENCE
from tests.core.sine import evaluator, train

# wandb itself needs an account: a package of the same name writes down what it is told.
STAND_IN = """
import json, os

run = None

def note(*what):
    with open(os.environ["WANDB_NOTES"], "a") as file:
        file.write(json.dumps(what) + "\\n")

note("import")

class config:
    @staticmethod
    def update(options, allow_val_change=None):
        note("config", options if isinstance(options, dict) else vars(options))

def init(name=None, project=None):
    global run
    run = object()
    note("init", name, project)

def log(figures, step=None):
    note("log", step, {name: value if isinstance(value, (int, float)) else list(value.shape)
                       for name, value in figures.items()})
"""


@pytest.fixture
def wandb_notes(tmp_path, monkeypatch):
    """Puts the stand-in where `import wandb` finds it; what it was told is read by calling this."""
    import json

    package = tmp_path / "packages" / "wandb"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(STAND_IN)
    notes = tmp_path / "notes"
    monkeypatch.setenv("WANDB_NOTES", str(notes))
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    yield lambda: [json.loads(line) for line in notes.read_text().splitlines()] if notes.exists() else []
    sys.modules.pop("wandb", None)


def test_wandb_receives_figures_options_and_evaluations(graph, wandb_notes):
    options = SimpleNamespace(lr=0.01)
    callbacks = [
        WandbCallback([graph.loss, graph.prediction], "first try", "curves", options, update_freq=3),
        evaluator(graph, seen := [], eval_step=3, wandb_name="first try"),
    ]
    assert wandb_notes() == []  # not before a run starts
    train(graph.loss, callbacks, max_steps=4)
    notes = wandb_notes()
    assert notes[:3] == [["import"], ["init", "first try", "curves"], ["config", {"lr": 0.01}]]
    assert {note[0] for note in notes[3:]} == {"log"}  # all to the one run
    logged = [(step, figures) for _, step, figures in notes[3:]]
    assert [(step, set(figures)) for step, figures in logged] == [
        (0, {"error"}),
        (1, {"MSELoss/loss", "TaylorNet/y_pred", "LR"}),
        (3, {"MSELoss/loss", "TaylorNet/y_pred", "LR"}),
        (3, {"error"}),
        (3, {"epoch", "epoch_time"}),
        (4, {"error"}),
    ]
    assert logged[0][1]["error"] == pytest.approx(seen[0][1])
    assert logged[1][1]["LR"] == 1e-4
    assert logged[1][1]["TaylorNet/y_pred"] == [4, 1]
    assert logged[4][1]["epoch"] == 1


def test_an_evaluator_opens_a_run_of_its_own(graph, wandb_notes):
    callback = evaluator(graph, [], eval_step=5, wandb_project="curves")
    train(graph.loss, [callback], max_steps=1)
    assert [note[:3] for note in wandb_notes()[:2]] == [["import"], ["init", None, "curves"]]
    assert [note[1] for note in wandb_notes() if note[0] == "log"] == [0, 1]


@pytest.mark.parametrize("by", ["callback", "evaluator"])
def test_a_missing_wandb_is_one_clear_error_before_training(graph, by, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)  # as if it were not installed, where it is
    options = {"wandb_name": "x", "eval_step": 9, "eval_at_start": False}
    callback = WandbCallback() if by == "callback" else evaluator(graph, [], **options)
    before = graph.weights()
    with pytest.raises(UsageError, match=r"wandb: Weights & Biases cannot be used.*fix: pip install wandb"):
        train(graph.loss, [callback], max_steps=1)
    assert torch.equal(graph.weights(), before)


def test_wandb_callback_refuses_what_it_cannot_log():
    with pytest.raises(UsageError, match="train_tensors: not a tensor of a graph"):
        WandbCallback(["loss"])
    with pytest.raises(UsageError, match="update_freq: out of range"):
        WandbCallback(update_freq=0)


@pytest.mark.slow
def test_wandb_is_imported_only_on_request(wandb_notes, tmp_path):
    program = """
import sys
import nemo.collections.nlp.callbacks.lm_bert_callback
from nemo.backends.pytorch.tutorials import MSELoss, RealFunctionDataLayer, TaylorNet
from nemo.core import EvaluatorCallback, NeuralModuleFactory, SimpleLossLoggerCallback, WandbCallback
points = RealFunctionDataLayer(batch_size=4, n=4)()
loss = MSELoss()(predictions=TaylorNet(2)(x=points.x), target=points.y)
WandbCallback([loss])
callbacks = [SimpleLossLoggerCallback(loss), EvaluatorCallback(loss, lambda b, s: None, lambda s: {"a": 1})]
NeuralModuleFactory().train([loss], "sgd", {"lr": 0.1, "max_steps": 1}, callbacks)
assert "wandb" not in sys.modules
import wandb
"""
    packages = str(tmp_path / "packages")
    path = os.pathsep.join([packages, *filter(None, [os.environ.get("PYTHONPATH")])])
    subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": path}, check=True, timeout=PATIENCE
    )
    assert wandb_notes() == [["import"]]  # of the last line only: it was there to be found

"""Figures go to the trackers that a run names, and packages of the others are not touched."""

import json
import shlex
import sqlite3
import sys

import pytest

from nemo.cli.main import main
from tests.cli.outcome import error_of
from tests.conftest import write_english

SIZES = (
    "--tokenizer word-piece --vocab_size 80 --hidden_size 32 --num_hidden_layers 1 --num_attention_heads 2 "
    "--intermediate_size 64 --max_seq_length 32 --batch_size 8 --threads 1 --train_step_freq 2 "
    "--eval_step_freq -1 --lr 0.001"
)

# A package that notes down what it is asked to do.
STAND_IN = """
import json

class Run:
    def log(self, figures, step):
        note("log", figures=figures, step=step)

    def finish(self, exit_code):
        note("finish", exit_code=exit_code)

def init(**settings):
    note("init", **settings)
    return Run()

def note(what, **more):
    with open(r"{notes}", "a") as file:
        file.write(json.dumps([what, more]) + "\\n")
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_english(tmp_path_factory.mktemp("trackers") / "english")


def pretrain(data, work_dir, *more):
    words = ["--data_dir", str(data), "--work_dir", str(work_dir), *shlex.split(SIZES), *more]
    return main(["pretrain", *words, "data_text"])


@pytest.fixture
def notes(tmp_path, monkeypatch):
    """Where a stand-in for wandb writes; it is in the way of a real one."""
    notes = tmp_path / "notes.jsonl"
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / "wandb.py").write_text(STAND_IN.replace("{notes}", str(notes)))
    monkeypatch.syspath_prepend(tmp_path / "packages")
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    yield lambda: [json.loads(line) for line in notes.read_text().splitlines()]
    sys.modules.pop("wandb", None)


def test_a_tracker_gets_name_options_and_all_figures(data, notes, tmp_path):
    assert pretrain(data, tmp_path / "mine", "--num_iters", "4", "--tracker", "wandb") == 0
    (_, begun), *logged, (_, ended) = notes()
    assert begun["name"].startswith("mine-")
    assert (begun["config"]["lr"], begun["config"]["hidden_size"]) == (0.001, 32)
    rows = [json.loads(line) for line in (tmp_path / "mine" / "metrics.jsonl").read_text().splitlines()]
    assert [more["step"] for _, more in logged] == [row["step"] for row in rows] == [1, 2, 4, 4]
    assert logged[0][1]["figures"]["train/mlm_loss"] == rows[0]["mlm_loss"]
    assert logged[0][1]["figures"]["param/lr"] == rows[0]["lr"]
    assert logged[-1][1]["figures"]["eval/mlm_loss"] == rows[-1]["eval_mlm_loss"]
    assert ended == {"exit_code": 0}
    assert not (tmp_path / "mine" / "tensorboard").exists()  # it was not named


@pytest.mark.slow
def test_a_resumed_run_is_the_same_run_in_the_tracker(data, notes, tmp_path):
    for steps in ("2", "4"):
        words = ("--num_iters", steps, "--tracker", "wandb", "--tracker", "tensorboard")
        assert pretrain(data, tmp_path / "run", *words) == 0
    first, second = (more for what, more in notes() if what == "init")
    assert first["id"] == second["id"]
    assert (first["resume"], second["resume"]) == ("never", "allow")
    assert (tmp_path / "run" / "tensorboard").is_dir()


def test_a_run_that_fails_is_closed_as_failed(data, notes, tmp_path):
    words = ("--num_iters", "4", "--tracker", "wandb", "--optimizer", "sgd", "--lr", "1e38")
    assert pretrain(data, tmp_path / "run", *words) == 6
    assert notes()[-1] == ["finish", {"exit_code": 1}]


def test_no_tracker_is_imported_that_is_not_named(data, notes, tmp_path):
    assert pretrain(data, tmp_path / "run", "--num_iters", "2", "--tracker", "none") == 0
    assert "wandb" not in sys.modules and "trackio" not in sys.modules
    assert not (tmp_path / "run" / "tensorboard").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--tracker", "trakio"), "did you mean 'trackio'?"),
        (("--tracker", "none", "--tracker", "wandb"), "--tracker none and other trackers cannot be combined"),
    ],
)
def test_mistakes_are_one_line(data, tmp_path, capsys, words, message):
    assert pretrain(data, tmp_path / "run", *words) == 2
    assert message in error_of(capsys)
    assert not (tmp_path / "run").exists()


def test_a_package_that_is_missing_is_one_line_before_any_work(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "trackio", None)  # as Python notes down what cannot be imported
    assert pretrain(data, tmp_path / "run", "--tracker", "trackio") == 2
    assert "fix: pip install trackio" in error_of(capsys)
    assert not (tmp_path / "run").exists()


def test_trackio_itself_has_the_run(data, tmp_path):
    pytest.importorskip("trackio", reason="trackio is not installed: pip install trackio")
    from trackio.utils import TRACKIO_DIR

    assert pretrain(data, tmp_path / "mine", "--num_iters", "4", "--tracker", "trackio") == 0
    with sqlite3.connect(TRACKIO_DIR / "nemo-bert.db") as database:
        logged = database.execute("select run_name, step, metrics from metrics").fetchall()
        ((config,),) = database.execute("select config from configs").fetchall()
    assert all(name.startswith("mine-") for name, _, _ in logged)
    assert [step for _, step, _ in logged] == [1, 2, 4, 4]
    assert "train/mlm_loss" in json.loads(logged[0][2]) and "eval/mlm_loss" in json.loads(logged[-1][2])
    assert json.loads(config)["lr"] == 0.001

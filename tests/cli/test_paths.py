"""Paths on a command line and in a configuration: `~` is home, and they mean the same from any folder."""

import dataclasses
import os
import shlex
from pathlib import Path

import pytest
import yaml

from nemo.cli import fill_mask, inspect
from nemo.cli.demo import DemoOptions
from nemo.cli.evaluate import EvaluateOptions
from nemo.cli.export import ExportOptions
from nemo.cli.fill_mask import FillMaskOptions
from nemo.cli.inspect import InspectOptions
from nemo.cli.main import main
from nemo.cli.pretrain import parse_options
from nemo.cli.show_batch import ShowBatchOptions
from nemo.cli.tokenizer import TrainTokenizerOptions
from nemo.collections.nlp.options import PretrainingOptions
from nemo.collections.nlp.options.recipe_options import RecipeOptions
from nemo.collections.nlp.preparation.options import PrepareOptions
from tests.cli.outcome import error_of, weights
from tests.conftest import write_english

TINY = (
    "--no-report "
    "--tokenizer word-piece --vocab_size 80 --hidden_size 32 --num_hidden_layers 1 --num_attention_heads 2 "
    "--intermediate_size 64 --max_seq_length 32 --batch_size 8 --eval_step_freq -1 --threads 1 --num_iters 2"
)
PATHS_OF_RUN = {
    *("train_data", "eval_data", "data_dir", "tokenizer", "config_file"),
    *("load_dir", "bert_checkpoint", "work_dir"),
}
PATHS = {
    PretrainingOptions: PATHS_OF_RUN,
    PrepareOptions: {"inputs", "out", "tokenizer"},
    InspectOptions: {"inputs", "tokenizer"},
    ShowBatchOptions: {"input", "tokenizer"},
    TrainTokenizerOptions: {"train_data", "out"},
    EvaluateOptions: {"model", "eval_data", "tokenizer"},
    FillMaskOptions: {"model", "tokenizer"},
    ExportOptions: {"model", "out", "tokenizer"},
    RecipeOptions: {*PATHS_OF_RUN, "texts"},
    DemoOptions: {*PATHS_OF_RUN, "texts"},
}


@pytest.mark.parametrize("options", PATHS, ids=lambda cls: cls.__name__)
def test_these_options_are_paths(options):
    offered = [field for field in dataclasses.fields(options) if field.metadata.get("help")]
    found = {field.name for field in offered if field.metadata.get("is_path")}
    assert found == PATHS[options]


def test_a_tilde_means_the_home_folder_in_every_path_option(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", "/home/ada")
    (tmp_path / "c.yaml").write_text("eval_data: ~/v.txt\n")
    words = (
        f"--train_data '~/t.txt' --work_dir=~/o --tokenizer ~/tok --config {tmp_path / 'c.yaml'} data_text"
    )
    options = parse_options(shlex.split(words))
    assert (options.train_data, options.work_dir) == ("/home/ada/t.txt", "/home/ada/o")
    assert (options.tokenizer, options.eval_data) == ("/home/ada/tok", "/home/ada/v.txt")
    inputs = inspect.COMMAND_LINE.parse(["~/a", "s3://b/~/c", "d~"]).inputs
    assert inputs == ("/home/ada/a", "s3://b/~/c", "d~")
    text = fill_mask.COMMAND_LINE.parse(["~/run", "~/ [MASK]"]).text
    assert text == "~/ [MASK]"


def test_a_configuration_of_the_home_folder_is_found(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "c.yaml").write_text("train_data: t.txt\nlr: 0.5\n")
    assert parse_options(["--config=~/c.yaml", "data_text"]).lr == 0.5


def test_a_path_that_is_not_utf8_is_refused_before_any_work(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    odd = os.fsdecode(b"caf\xe9")
    for words in (
        ["export", "run", odd],
        ["prepare", odd],
        ["inspect", "a", odd],
        ["tokenizer", "a", f"--out={odd}"],
    ):
        assert main(words) == 2
        assert error_of(capsys) == r"error[USAGE] caf\udce9: the name is not valid UTF-8; fix: rename it"
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_configuration_of_a_run_repeats_it_from_another_folder(tmp_path, monkeypatch, capsys):
    write_english(tmp_path / "here/text")
    (tmp_path / "there/text").mkdir(parents=True)
    (tmp_path / "there/text/train.txt").write_text("another\n\ntext\n" * 9)  # of the same name
    (tmp_path / "there/word-piece").mkdir()  # the word is no path
    monkeypatch.chdir(tmp_path / "here")
    files = "--train_data text/train.txt --eval_data text/valid.txt"
    assert main(shlex.split(f"pretrain {TINY} {files} --work_dir run data_text")) == 0
    config = yaml.safe_load(Path("run/config.yaml").read_text())
    assert config["train_data"] == str(tmp_path / "here/text/train.txt")
    assert config["work_dir"] == str(tmp_path / "here/run")
    assert config["tokenizer"] == "word-piece"

    monkeypatch.chdir(tmp_path / "there")
    again = "pretrain --config ../here/run/config.yaml"
    assert main(shlex.split(f"{again} --work_dir run")) == 0
    assert sorted(os.listdir()) == ["run", "text", "word-piece"]
    first, second = (weights(tmp_path / where / "run/checkpoints/STEP-2") for where in ("here", "there"))
    assert all((first[name] == second[name]).all() for name in first)
    # Without another work folder it goes on where it was, and is done.
    assert main(shlex.split(again)) == 0
    assert sorted(os.listdir()) == ["run", "text", "word-piece"]
    capsys.readouterr()


@pytest.mark.slow
def test_the_origin_of_a_run_is_the_same_by_any_path(tmp_path, monkeypatch, capsys):
    write_english(tmp_path / "text")
    monkeypatch.chdir(tmp_path)
    train = f"pretrain {TINY} --train_data text/train.txt --work_dir"
    assert main(shlex.split(f"{train} a data_text")) == 0
    assert main(shlex.split(f"{train} b --bert_checkpoint a data_text")) == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    train = f"pretrain {TINY} --train_data ../text/train.txt --work_dir ../b --bert_checkpoint"
    assert main(shlex.split(f"{train} ../a data_text")) == 0
    capsys.readouterr()
    assert main(shlex.split(f"{train} ../a/checkpoints/STEP-2 data_text")) == 2
    assert "started from another checkpoint" in error_of(capsys)

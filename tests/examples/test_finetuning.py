"""The examples of fine-tuning run."""

import runpy
import sys
from pathlib import Path

import pytest

from tests.collections.nlp.finetuning.conftest import write_columns
from tests.huggingface_folders import write_huggingface

EXAMPLES = Path(__file__).parents[2] / "examples" / "nlp" / "finetuning"


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs an example with these words, as a program, and returns what it prints."""

    def run_example(name, *words):
        monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return run_example


def test_the_examples_are_short():
    for example in EXAMPLES.glob("*.py"):
        assert len(example.read_text(encoding="utf-8").splitlines()) < 40, example


@pytest.mark.slow
def test_entities_are_named(tmp_path, run):
    write_huggingface(tmp_path / "bert", "BertModel")
    train, test = write_columns(tmp_path / "train", 200, seed=1), write_columns(tmp_path / "test", 20, seed=2)
    printed = run(
        "finetune.py", tmp_path / "bert", train, test, "--lr=1e-2", f"--work_dir={tmp_path / 'out'}"
    )
    assert "test f1" in printed and "(Animal)" in printed


@pytest.mark.slow
def test_a_vocabulary_is_extended(tmp_path, run):
    write_huggingface(tmp_path / "bert", "BertModel")
    text = tmp_path / "text.txt"
    text.write_text("".join(f"The owl sees {'owl ' * n}.\n\n" for n in range(60)))
    printed = run("extend_vocabulary.py", tmp_path / "bert", text, f"--out={tmp_path / 'out'}", "--pieces=1")
    assert "o ##w ##l -> owl" in printed and "owl saved" in printed


@pytest.mark.slow
def test_a_bert_is_adapted(tmp_path, run):
    write_huggingface(tmp_path / "bert", "BertForMaskedLM")
    text = tmp_path / "text.txt"
    text.write_text("".join(f"The owl sees {'owl ' * n}.\nThe cat likes it.\n\n" for n in range(99)))
    train, test = write_columns(tmp_path / "train", 60, seed=1), write_columns(tmp_path / "test", 20, seed=2)
    options = ["--minutes=0.01", "--seeds=2", f"--work_dir={tmp_path / 'out'}"]
    printed = run("adapt.py", tmp_path / "bert", text, train, test, *options)
    assert "adapted: f1" in printed and "F1 on test after" in printed

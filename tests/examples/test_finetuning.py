"""The examples of fine-tuning run from the command line."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.collections.nlp.finetuning.conftest import write_columns
from tests.huggingface_folders import write_huggingface

EXAMPLES = Path(__file__).parents[2] / "examples" / "nlp" / "finetuning"


def test_the_examples_are_short():
    for example in EXAMPLES.glob("*.py"):
        assert len(example.read_text(encoding="utf-8").splitlines()) < 40, example


@pytest.mark.slow
def test_entities_are_named(tmp_path):
    write_huggingface(tmp_path / "bert", "BertModel")
    train, test = write_columns(tmp_path / "train", 200, seed=1), write_columns(tmp_path / "test", 20, seed=2)
    command = [sys.executable, EXAMPLES / "finetune.py", tmp_path / "bert", train, test, "--lr=1e-2"]
    result = subprocess.run(
        [*command, f"--work_dir={tmp_path / 'out'}"], capture_output=True, text=True, check=True
    )
    assert "test f1" in result.stdout and "(Animal)" in result.stdout


@pytest.mark.slow
def test_a_vocabulary_is_extended(tmp_path):
    write_huggingface(tmp_path / "bert", "BertModel")
    (tmp_path / "text.txt").write_text("".join(f"The owl sees {'owl ' * n}.\n\n" for n in range(60)))
    command = [sys.executable, EXAMPLES / "extend_vocabulary.py", tmp_path / "bert", tmp_path / "text.txt"]
    options = ["--out", tmp_path / "out", "--pieces", "1"]
    result = subprocess.run([*command, *options], capture_output=True, text=True, check=True)
    assert "o ##w ##l -> owl" in result.stdout and "owl saved" in result.stdout


@pytest.mark.slow
def test_a_bert_is_adapted(tmp_path):
    write_huggingface(tmp_path / "bert", "BertForMaskedLM")
    text = tmp_path / "text.txt"
    text.write_text("".join(f"The owl sees {'owl ' * (n % 5)}.\nThe cat likes it.\n\n" for n in range(99)))
    train, test = write_columns(tmp_path / "train", 100, seed=1), write_columns(tmp_path / "test", 20, seed=2)
    command = [sys.executable, EXAMPLES / "adapt.py", tmp_path / "bert", text, train, test]
    options = ["--minutes=0.02", "--seeds=2", f"--work_dir={tmp_path / 'out'}"]
    result = subprocess.run([*command, *options], capture_output=True, text=True, check=True)
    assert "adapted: f1" in result.stdout and "f1 on test for" in result.stdout

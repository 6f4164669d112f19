"""A tiny adaptation: a BERT, text of its field, general text, and words to label."""

import pytest

from tests.collections.nlp.finetuning.conftest import sentences, write_columns
from tests.huggingface_folders import write_huggingface


@pytest.fixture
def command(tmp_path):
    write_huggingface(tmp_path / "bert", "BertForMaskedLM")
    for name, seed in (("field", 3), ("general", 4)):
        documents = [f"{' '.join(words)} ." for words in sentences(200, seed)]
        (tmp_path / f"{name}.txt").write_text("\n\n".join(documents))
    train, test = write_columns(tmp_path / "train", 120, seed=1), write_columns(tmp_path / "test", 30, seed=2)
    words = ["adapt", tmp_path / "bert", tmp_path / "field.txt", "--replay", tmp_path / "general.txt"]
    words += ["--task", "ner", "--train", train, "--test", test, "--lr", "1e-2", "--num_epochs", "1"]
    words += ["--text_layout", "lines", "--seeds", "2", "--num_iters", "5", "--work_dir", tmp_path / "out"]
    return [str(word) for word in words]

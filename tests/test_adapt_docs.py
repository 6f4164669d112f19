"""The commands and the code of docs/adapt.md and its notebook run, on tiny files."""

import pytest

from nemo.cli.main import main
from tests.collections.nlp.finetuning.conftest import write_columns
from tests.documents import blocks, commands, run_python
from tests.huggingface_folders import write_huggingface
from tests.notebooks import run_notebook


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_huggingface(tmp_path / "my_bert", "BertForMaskedLM")
    write_columns(tmp_path / "train.txt", 60, seed=1)
    write_columns(tmp_path / "test.txt", 20, seed=2)
    (tmp_path / "papers").mkdir()
    lines = (f"The owl sees {'owl ' * n}.\nThe cat likes it.\n\n" for n in range(60))
    (tmp_path / "papers" / "a.txt").write_text("".join(lines))


@pytest.mark.slow
def test_the_commands_and_code_of_the_page_run(files):
    for nemo_bert, *words in commands("docs/adapt.md"):
        assert nemo_bert == "nemo-bert"
        assert main([{"5": "2"}.get(word, word) for word in words]) == 0
    run_python(blocks("docs/adapt.md", "python"), {})


@pytest.mark.slow
def test_the_notebook_of_a_field_runs(files, tmp_path, monkeypatch):
    tiny = 'MINUTES, SEEDS, GENERAL = 0.02, 2, "papers/a.txt"'
    printed = run_notebook("your_field.ipynb", tmp_path, "BERT = ", tiny, monkeypatch)
    assert len(printed) == 12 + 1  # a field in 12 cells, and the change
    first, words, adapted, used = (text for text in printed if text)
    assert "validation f1" in first
    assert "o ##w ##l -> owl" in words
    assert "F1 on test.txt after" in adapted.splitlines()[-1]
    assert "Animal" in used


def test_both_languages_have_the_same_commands():
    assert commands("docs/adapt.md") == commands("docs/adapt_zh.md")
    english, chinese = (blocks(f"docs/adapt{name}.md", "python") for name in ("", "_zh"))
    assert [block.code for block in english] == [block.code for block in chinese]

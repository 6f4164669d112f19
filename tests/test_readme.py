"""Every command and every line of Python in the README and the guide does what they say."""

import gzip
import json

import pytest

from nemo.cli.main import main
from tests.conftest import write_english
from tests.documents import blocks, commands, run_python


@pytest.fixture
def in_a_folder_with_text(tmp_path, monkeypatch):
    texts = write_english(tmp_path / "english")
    (texts / "train.txt").rename(tmp_path / "my_text.txt")
    (texts / "valid.txt").rename(tmp_path / "held_out.txt")
    more = write_english(tmp_path / "more")
    (tmp_path / "my_folder").mkdir()
    lines = (more / "valid.txt").read_text(encoding="utf-8").split("\n\n")
    with gzip.open(tmp_path / "my_folder" / "more.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps({"text": f"In addition: {line}"}) + "\n" for line in lines)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_every_command_runs(in_a_folder_with_text, capsys):
    told = commands("README.md")
    assert [words for words in told if words[0] != "nemo-bert"] == [
        ["make", "demo"],
        ["source", ".venv/bin/activate"],
        ["make", "test"],
    ]
    ours = [words[1:] for words in (*told, *commands("docs/guide.md")) if words[0] == "nemo-bert"]
    assert [words[0] for words in ours] == [
        *("pretrain", "evaluate", "fill-mask", "export"),
        "pretrain",
        *("inspect", "prepare", "show-batch", "pretrain", "evaluate", "pretrain"),
        "pretrain",
    ]
    for words in ours:
        if "--minutes" in words:
            words += ["--minutes", "0.01"]
        if "--num_iters" in words:
            words += ["--num_iters", "3"]
        if "--hidden_size" in words:
            words += ["--hidden_size", "64", "--intermediate_size", "128"]
        assert main(words) == 0
    assert "held-out MLM loss" in capsys.readouterr().out


@pytest.mark.parametrize(
    "english, chinese", [("README.md", "README_zh.md"), ("docs/guide.md", "docs/guide_zh.md")]
)
def test_both_languages_have_the_same_commands(english, chinese):
    assert commands(english) == commands(chinese)
    code = [[block.code for block in blocks(page, "python")] for page in (english, chinese)]
    assert code[0] == code[1]


def test_the_wiring_example_trains(in_a_folder_with_text, capsys):
    run_python(blocks("docs/guide.md", "python"), {})
    assert "Step: 20" in capsys.readouterr().out

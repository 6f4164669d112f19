"""Every command and every line of Python in the README does what the README says."""

import re
import shlex
from pathlib import Path

import pytest

from nemo.cli.main import main
from tests.conftest import write_english

ROOT = Path(__file__).parents[1]


def blocks(readme: str, language: str) -> list[str]:
    text = (ROOT / readme).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands(readme: str) -> list[list[str]]:
    lines = "\n".join(blocks(readme, "bash")).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.strip()]


@pytest.fixture
def in_a_folder_with_text(tmp_path, monkeypatch):
    texts = write_english(tmp_path / "english")
    (texts / "train.txt").rename(tmp_path / "my_text.txt")
    (texts / "valid.txt").rename(tmp_path / "held_out.txt")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("readme", ["README.md", "README_zh.md"])
def test_every_command_runs(readme, in_a_folder_with_text):
    told = commands(readme)
    ours = [words for words in told if words[0] == "nemo-bert"]
    assert [words for words in told if words[0] != "nemo-bert"] == [["make", "demo"], ["make", "test"]]
    assert [words[1] for words in ours] == ["pretrain", "evaluate", "fill-mask", "export"]
    for _, *words in ours:
        quicker = ["--minutes", "0.01"] if words[0] == "pretrain" else []
        assert main([*words, *quicker]) == 0
    assert (in_a_folder_with_text / "outputs" / "mine-huggingface" / "model.safetensors").is_file()


def test_both_languages_have_the_same_commands():
    assert commands("README.md") == commands("README_zh.md")


def test_the_wiring_example_trains(in_a_folder_with_text, capsys):
    (code,) = blocks("README.md", "python")
    exec(compile(code, "README.md", "exec"), {})
    assert "Step: 20" in capsys.readouterr().out

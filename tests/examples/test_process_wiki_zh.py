"""process_wiki_zh.py from both of the tutorial's addresses, and what it says when something is wrong."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from nemo.cli.main import main

EXAMPLES = Path(__file__).parents[2] / "examples/nlp"
ADDRESSES = [EXAMPLES / "language_modeling/process_wiki_zh.py", EXAMPLES / "scripts/process_wiki_zh.py"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with wiki_zh in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wiki_zh/AA").mkdir(parents=True)
    documents = [{"title": f"{i}", "text": f"{i}\n\n我爱北京{i}。你呢？\n\n好！"} for i in range(40)]
    write(tmp_path, documents)
    return tmp_path


def write(folder: Path, documents: list[dict[str, str]]) -> None:
    lines = "".join(json.dumps(document) + "\n" for document in documents)
    (folder / "wiki_zh/AA/wiki_00").write_text(lines)


@pytest.fixture(scope="module")
def process():
    """The script, run in this process: words -> exit code."""
    run = runpy.run_path(str(ADDRESSES[0]))["run"]
    return lambda *words: main(words, command=run)


@pytest.mark.parametrize("script", ADDRESSES, ids=lambda path: path.parent.name)
def test_the_tutorials_command_writes_texts_and_vocabulary(folder, script):
    words = ["--data_dir=./wiki_zh", "--output_dir=./wiki_zh", "--min_frequency=3"]
    result = subprocess.run([sys.executable, script, *words], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    assert "wiki_zh/train.txt: 3" in result.stdout and "documents" in result.stdout
    for name in ("train.txt", "valid.txt", "vocab.txt", "bert/vocab.txt"):
        assert (folder / "wiki_zh" / name).stat().st_size > 0


@pytest.mark.parametrize("script", ADDRESSES, ids=lambda path: path.parent.name)
def test_a_mistake_ends_the_process_with_its_code(folder, script):
    result = subprocess.run([sys.executable, script, "--data_dir", "gone"], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (3, "error[DATA] gone: no such folder\n")


def test_output_goes_into_the_current_folder_by_default(folder, process):
    assert process("--data_dir", "wiki_zh") == 0
    assert (folder / "train.txt").is_file()


def test_a_text_that_may_be_misread_causes_a_warning(folder, process, capsys):
    write(folder, [{"text": f"第{i}行"} for i in range(40)])
    assert process("--data_dir", "wiki_zh") == 0
    assert "--text_layout blank" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "exit_code", "told"),
    [
        ([], 2, "expected --data_dir FOLDER"),
        (["--data_dir", "wiki_zh", "--max_files", "0"], 2, "--max_files"),
        (["--data_dir", "wiki_zh", "--max_files", "-2"], 2, "--max_files"),
        (["--data_dir", "wiki_zh", "--min_frequency", "-1"], 2, "--min_frequency"),
        (["--data_dir", "wiki_zh", "--min_freqency", "3"], 2, "did you mean --min_frequency?"),
        (["--data_dir", "."], 3, "did you mean wiki_zh?"),
        (["--data_dir", "wiki_zh", "--text_field", "content"], 3, "wiki_zh/AA/wiki_00:1: no field 'content'"),
        (["--data_dir", "wiki_zh", "--output_dir", "wiki_zh/AA/wiki_00"], 5, "wiki_zh/AA/wiki_00"),
    ],
)
def test_a_mistake_is_one_line(words, exit_code, told, folder, process, capsys):
    assert process(*words) == exit_code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error[") and told in line


def test_help_names_every_option_and_where_the_vocabulary_goes(process, capsys):
    assert process("--help") == 0
    told = capsys.readouterr().out
    options = ("data_dir", "output_dir", "min_frequency", "max_files", "text_field", "max_bad_records")
    assert all(f"--{name}" in told for name in options)
    assert "bert/vocab.txt" in told


@pytest.mark.slow
def test_a_bert_is_trained_with_the_vocabulary_evaluated_and_asked(folder, process, capsys):
    assert process("--data_dir=wiki_zh", "--output_dir=wiki_zh") == 0
    tiny = "--hidden_size 32 --num_hidden_layers 1 --num_attention_heads 2 --intermediate_size 64"
    run = "--max_seq_length 32 --batch_size 4 --optimizer adam_w --lr 1e-3 --num_iters 3 --threads 1"
    words = [*tiny.split(), *run.split(), "data_text"]
    assert main(["pretrain", "--data_dir", "wiki_zh", "--work_dir", "out", *words]) == 0
    vocabulary = (folder / "wiki_zh/vocab.txt").read_bytes()
    assert (folder / "out/checkpoints/STEP-3/vocab.txt").read_bytes() == vocabulary
    assert main(["evaluate", "out", "--eval_data", "wiki_zh/valid.txt"]) == 0
    capsys.readouterr()
    assert main(["fill-mask", "out", "我爱[MASK]京。你[MASK]？", "--top", "2"]) == 0
    guesses = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [len(words) for words in guesses] == [4, 4]  # two tokens with their probabilities for each mask
    assert {token for words in guesses for token in words[::2]} <= set(vocabulary.decode().split("\n"))

"""Terminals that know few characters, readers that go away, disks that are full: no command minds."""

import io
import json
import os
import shlex
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from nemo.cli.main import main
from tests.conftest import write_english

ODD = "Привет 今天 naïve — “quoted”…"
TINY = (
    "--no-report "
    "--tokenizer word-piece --vocab_size 120 --hidden_size 32 --num_hidden_layers 1 --num_attention_heads 2 "
    "--intermediate_size 64 --max_seq_length 32 --batch_size 8 --eval_step_freq -1 --threads 1 --num_iters 2"
)
COMMANDS = [
    "--help",
    "inspect --help",
    f"pretrain {TINY} --train_data 文/训练.txt --eval_data text/valid.txt --work_dir 果 data_text",
    "prepare 文/训练.txt --vocab_size 120 --workers 1 --phases 32/5 --out 备",
    "inspect 文/训练.txt --tokenizer 文/运行/tokenizer",
    "inspect 文/训练.txt --json",
    "show-batch 文/训练.txt --tokenizer 文/运行/tokenizer",
    "tokenizer 文/训练.txt --vocab_size 120 --out 词",
    "evaluate 文/运行 --eval_data 文/训练.txt",
    "fill-mask 文/运行 'мир 今 the [MASK] sees'",
    "export 文/运行 出",
    "export 文/运行 text",  # a mistake, whose line goes to standard error
]
SHOWS_TEXT = next(command for command in COMMANDS if command.startswith("show-batch"))
EXIT_CODES = {command: 2 if command == COMMANDS[-1] else 0 for command in COMMANDS}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("streams")
    text = (write_english(folder / "text") / "train.txt").read_text(encoding="utf-8")
    (folder / "文").mkdir()
    (folder / "文/训练.txt").write_text(f"{text}\n\n{ODD}\n{ODD} once more\n" * 3, encoding="utf-8")
    before = Path.cwd()
    os.chdir(folder)
    try:
        assert (
            main(shlex.split(f"pretrain {TINY} --train_data 文/训练.txt --work_dir 文/运行 data_text")) == 0
        )
    finally:
        os.chdir(before)
    return folder


@contextmanager
def closed_pipe():
    """A pipe that nobody reads from."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", encoding="utf-8") as stream:
        yield stream


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_closed_pipe_does_not_stop_a_command(folder, tmp_path, monkeypatch, command):
    monkeypatch.chdir(folder)
    words = [
        word if word not in ("果", "备", "词", "出") else str(tmp_path / word)
        for word in shlex.split(command)
    ]
    with closed_pipe() as out, closed_pipe() as err, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        assert main(words) == EXIT_CODES[command]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "encoding"), [*((command, "ascii") for command in COMMANDS), (SHOWS_TEXT, "latin-1")]
)
def test_a_terminal_with_few_characters_does_not_stop_a_command(
    folder, tmp_path, monkeypatch, command, encoding
):
    monkeypatch.chdir(folder)
    words = [
        word if word not in ("果", "备", "词", "出") else str(tmp_path / word)
        for word in shlex.split(command)
    ]
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding) for _ in range(2))
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        assert main(words) == EXIT_CODES[command]
    out.flush()
    err.flush()
    told = (out.buffer.getvalue() + err.buffer.getvalue()).decode(encoding)
    assert "Traceback" not in told and "Logging error" not in told
    if "--json" in command:
        json.loads(out.buffer.getvalue().decode(encoding).splitlines()[-1])


def test_marks_of_ours_have_likenesses_and_letters_their_codes(folder, monkeypatch):
    monkeypatch.chdir(folder)
    out = io.TextIOWrapper(io.BytesIO(), "ascii")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        assert main(["show-batch", "文/训练.txt", "--tokenizer", "文/运行/tokenizer", "-n", "9"]) == 0
    out.flush()
    told = out.buffer.getvalue().decode("ascii")
    assert "the pieces of a word by |" in told
    assert "->" in told


def test_standard_output_on_a_full_disk_is_an_error(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    with open("/dev/full", "w", encoding="utf-8") as full, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", full)
        assert main(["inspect", "文/训练.txt", "--json"]) == 5
        patch.setattr(sys, "stdout", io.StringIO())  # what is in the buffer of `full` is none of ours
    assert "error[STORAGE] standard output: disk full" in capsys.readouterr().err


# The process itself: its ends, and a locale without letters.

NEMO_BERT = [sys.executable, "-m", "nemo.cli.main"]


def shell(line: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """What a line of bash ends with; `nemo-bert` is ours."""
    script = f'nemo-bert() {{ {shlex.join(NEMO_BERT)} "$@"; }}; set -o pipefail; {line}'
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **environment}
    return subprocess.run(
        ["bash", "-c", script], cwd=folder, env=env, capture_output=True, text=True, encoding="utf-8"
    )


@pytest.mark.parametrize(
    ("line", "exit_code"),
    [
        ("nemo-bert --help | true", 0),
        ("nemo-bert pretrain --help | head -1", 0),
        ("nemo-bert pretrian 2>&1 | true", 2),
        ("nemo-bert --help >&-", 0),
        ("nemo-bert pretrian >&- 2>&-", 2),
        ("nemo-bert --help <&- >&- 2>&-", 0),
    ],
)
def test_a_process_ends_quietly_if_its_streams_fail(tmp_path, line, exit_code):
    result = shell(line, tmp_path)
    assert (result.returncode, result.stderr) == (exit_code, "")


@pytest.mark.slow
def test_names_and_text_are_utf8_where_the_locale_knows_ascii_alone(folder, tmp_path):
    c = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    guessed = shell("nemo-bert fill-mask 文/运行 'the [MASK] sees 今'", folder, **c)
    assert (guessed.returncode, guessed.stderr) == (0, "")
    out = tmp_path / "出"
    trained = shell(
        f"nemo-bert pretrain {TINY} --train_data 文/训练.txt --work_dir {out} data_text 2>&1", folder, **c
    )
    assert trained.returncode == 0, trained.stdout
    assert "训练.txt" in (out / "config.yaml").read_text(encoding="utf-8")
    assert "训练.txt" in trained.stdout

"""Command lines that read what is broken or hostile, and what must be true of their end.

Each case is a command line in a folder (the fixture `folder`) with:
    text/            good text, and `run`, a work folder that was trained on it
    shards/          good shards of 60 tokens
    hf/              `run`, exported
and what the file that has the case makes, one file or folder per fault.
"""

import os
import re
import resource
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from nemo.cli.main import main
from nemo.utils.lock import WorkFolderLock
from tests.cli.outcome import error_of

ROOT = Path(__file__).parents[3]

SIZES = (
    "--hidden_size 32 --num_hidden_layers 1 --num_attention_heads 2 --intermediate_size 64 --batch_size 8 "
    "--optimizer adam_w --lr 1e-3 --eval_step_freq -1 --threads 1 --num_iters 2 --work_dir out"
)
ON_TEXT = f"pretrain {SIZES} --tokenizer word-piece --vocab_size 80 --max_seq_length 32 data_text"
ON_SHARDS = f"pretrain {SIZES} --vocab_size 60"
SPECIALS = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n"
USAGE, DATA, CHECKPOINT, STORAGE, BUSY = 2, 3, 4, 5, 8
CODES = {USAGE: "USAGE", DATA: "DATA", CHECKPOINT: "CHECKPOINT", STORAGE: "STORAGE", BUSY: "BUSY"}


def train(file: str) -> str:
    """Trains on a text."""
    return f"{ON_TEXT} --train_data text/train.txt --train_data {file}"


def shards(file: str) -> str:
    """Trains on shards."""
    return f"{ON_SHARDS} --train_data {file}"


def config(file: str) -> str:
    """Takes a model's sizes from a JSON file."""
    return f"{ON_TEXT} --train_data text/train.txt --config_file configs/{file}"


def options(file: str) -> str:
    """Takes options from a YAML file."""
    without = SIZES.replace("--batch_size 8", "").replace("--lr 1e-3", "")
    return f"pretrain {without} --train_data text/train.txt --config configs/{file} data_text"


def tokenizer(place: str) -> str:
    """Opens a tokenizer."""
    return f"show-batch text/train.txt --tokenizer tokenizers/{place}"


def weights(file: str) -> str:
    """Starts from the weights in a file."""
    return f"{ON_TEXT} --train_data text/train.txt --tokenizer run/tokenizer --bert_checkpoint weights/{file}"


def huggingface(folder: str) -> str:
    """Starts from the model in a Hugging Face folder."""
    return f"pretrain --train_data text/train.txt --work_dir out --bert_checkpoint hfs/{folder} data_text"


def fill(folder: str) -> str:
    """Opens a checkpoint."""
    return f"fill-mask {folder} '[MASK]'"


class Code:
    """A pickle that would leave a file behind if it were run."""

    def __reduce__(self):
        return os.mkdir, ("code-was-run",)


def faults(rows: Sequence[tuple[str, int, str]]) -> pytest.MarkDecorator:
    """Parametrizes a test by command line, exit code and what its error says."""
    ids = [words[-60:] for words, *_ in rows]
    return pytest.mark.parametrize(("words", "exit_code", "message"), rows, ids=ids)


def write(folder: str, files: dict[str, bytes | str]) -> None:
    """Files with what is in them, below a folder."""
    for name, content in files.items():
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def assert_one_clear_line(
    folder: Path, monkeypatch: Any, capsys: Any, words: str, exit_code: int, message: str
) -> None:
    """A command ends with an exit code and one line of error; nothing was run, made, or written elsewhere."""
    monkeypatch.chdir(folder)
    shutil.rmtree(folder / "out", ignore_errors=True)
    with WorkFolderLock(folder / "busy"):
        found = main(shlex.split(words))
    line = error_of(capsys)
    assert line.startswith(f"error[{CODES[exit_code]}] ") and found == exit_code, line
    assert re.search(message, line), line
    assert len(line) < 2000
    assert not list(folder.glob("out/checkpoints/STEP-*")) and not (folder / "code-was-run").exists()
    assert not list(folder.rglob("outside.txt")) and not (folder / "outputs").exists()


def outcome(words: str, folder: Path, **limits: int) -> tuple[int, list[str], int]:
    """Exit code, what was written to stderr, and the most memory of a command in a process of its own."""

    def limit() -> None:
        for name, value in limits.items():
            resource.setrlimit(getattr(resource, name), (value, value))

    command = [sys.executable, "-m", "nemo.cli.main", *shlex.split(words)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with (folder / "told.txt").open("w+") as told:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=told, preexec_fn=limit
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        told.seek(0)
        lines = [line for line in told.read().splitlines() if not re.match(r"\d\d:\d\d:\d\d ", line)]
    return process.returncode, lines, usage.ru_maxrss << 10

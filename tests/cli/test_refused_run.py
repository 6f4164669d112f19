"""What is refused leaves nothing behind."""

import os
import shlex
from pathlib import Path

import pytest

from nemo.cli.main import main
from tests.conftest import write_english

TINY = (
    "--no-report "
    "--tokenizer word-piece --vocab_size 80 --hidden_size 32 --num_hidden_layers 1 --num_attention_heads 2 "
    "--intermediate_size 64 --max_seq_length 32 --batch_size 8 --eval_step_freq -1 --threads 1 --num_iters 2"
)


def pretrain(more: str) -> str:
    return f"pretrain {TINY} --train_data text/train.txt {more} data_text"


REFUSED = [
    (pretrain("--work_dir new/deep --train_data nowhere.txt"), 3),
    (pretrain("--work_dir new --tokenizer nowhere"), 2),
    (pretrain("--work_dir new --vocab_size 10"), 2),
    (pretrain("--work_dir new --load_dir nowhere"), 4),
    (pretrain("--work_dir new --load_dir run --hidden_size 64"), 2),
    (pretrain("--work_dir new --eval_data text/train.txt"), 2),
    (pretrain("--work_dir new --initialization counts --max_seq_length 8 --vocab_size 90 --load_dir run"), 2),
    (pretrain("--work_dir run --seed 7"), 4),  # another run's
    (pretrain("--work_dir run --hidden_size 64"), 4),
    (pretrain("--work_dir mine --train_data empty.txt"), 3),
    ("prepare empty.txt --out new", 3),
    ("prepare text --out new/deep --tokenizer nowhere", 2),
    ("prepare text --out new --vocab_size 10", 2),
    ("tokenizer empty.txt --out new/deep", 3),
    ("tokenizer text/train.txt --out new --vocab_size 10", 2),
    ("export nowhere new", 3),
    ("export text new/deep", 4),
]


def content(folder: Path) -> dict[str, bytes | None]:
    """Every file and folder but the caches beside the text."""
    found = {str(path.relative_to(folder)): path for path in folder.rglob("*")}
    return {
        name: path.read_bytes() if path.is_file() else None
        for name, path in found.items()
        if not name.startswith("text/bert")
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("refused")
    write_english(folder / "text")
    (folder / "empty.txt").touch()
    (folder / "mine").mkdir()
    (folder / "mine/notes.txt").write_text("mine")
    before = Path.cwd()
    os.chdir(folder)
    try:
        assert main(shlex.split(pretrain("--work_dir run"))) == 0
    finally:
        os.chdir(before)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("words", "exit_code"), REFUSED, ids=[words for words, _ in REFUSED])
def test_a_refused_command_leaves_everything_as_it_was(folder, monkeypatch, words, exit_code):
    monkeypatch.chdir(folder)
    before = content(folder)
    assert main(shlex.split(words)) == exit_code
    assert content(folder) == before

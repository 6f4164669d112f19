"""Entries of the file system that are no plain files, or have odd names."""

import os
import shlex
import shutil
import socket
from pathlib import Path

import pytest

from nemo.cli.main import main
from tests.cli.outcome import error_of
from tests.faults.bad_inputs.commands import (
    DATA,
    ON_TEXT,
    USAGE,
    assert_one_clear_line,
    config,
    faults,
    options,
    shards,
    train,
    weights,
    write,
)

FAULTS = [
    # Entries of the file system (14, 34).
    (train("entries/pipe.txt"), DATA, "pipe.txt: not a regular file"),
    (train("entries/socket.txt"), DATA, "socket.txt: not a regular file"),
    (train("entries/loop.txt"), DATA, "loop.txt"),
    (train("with_pipe"), DATA, "pipe.txt: not a regular file"),
    ("prepare with_pipe --out out", DATA, "pipe.txt: not a regular file"),
    ("inspect with_pipe", DATA, "pipe.txt: not a regular file"),
    ("prepare with_link --out out", DATA, "link.txt: a link, not a file"),
    (train("with_loop"), DATA, "a link"),
    (train("with_link_to_folder"), DATA, "a link, not a file"),
    ("tokenizer entries/pipe.txt --out out", DATA, "pipe.txt: not a regular file"),
    (shards("entries/pipe.hdf5"), DATA, "pipe.hdf5: not a regular file"),
    (options("pipe.yaml"), DATA, "pipe.yaml"),
    (config("pipe.json"), DATA, "pipe.json"),
    (weights("pipe.pt"), DATA, "pipe.pt|no such file"),
    (f"{ON_TEXT} --train_data text/train.txt --tokenizer entries/pipe.txt", USAGE, "pipe.txt"),
    (train("/dev/null"), DATA, "/dev/null"),
    (train("/dev/zero"), DATA, "/dev/zero: not a regular file"),
    (train("'entries/new\nline.txt'"), DATA, r"new\\nline.txt:2: "),
    (train("'entries/\x1b[31mred.txt'"), DATA, r"entries/\\x1b\[31mred.txt:2: "),
    (train(f"entries/{'x' * 300}.txt"), DATA, "xxx"),
    (train("'entries/a\0b.txt'"), DATA, "entries"),
]


def make_faults() -> None:
    good = Path("text/train.txt").read_text()
    latin1 = "Good words.\nUn café.\n".encode("latin-1")
    write("entries", {"new\nline.txt": latin1, "\x1b[31mred.txt": latin1})
    write(
        ".",
        {f"{name}/a.txt": good for name in ("with_pipe", "with_link", "with_loop", "with_link_to_folder")},
    )
    Path("configs").mkdir()
    Path("weights").mkdir()
    pipes = ("configs/pipe.yaml", "configs/pipe.json", "weights/pipe.pt")
    for place in (*pipes, "entries/pipe.txt", "entries/pipe.hdf5", "with_pipe/pipe.txt"):
        os.mkfifo(place)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("entries/socket.txt")
    os.symlink("loop.txt", "entries/loop.txt")
    os.symlink("../text/valid.txt", "with_link/link.txt")
    os.symlink("../with_loop", "with_loop/again")
    os.symlink("../text", "with_link_to_folder/more")


@pytest.mark.slow
@faults(FAULTS)
def test_a_fault_ends_in_one_clear_line(folder, monkeypatch, capsys, words, exit_code, message):
    assert_one_clear_line(folder, monkeypatch, capsys, words, exit_code, message)


GOOD_NAMES = [
    "a\tb.txt",
    "a\nb.txt",
    "中文 文件.txt",
    "🙂.txt",
    "a'b\"c.txt",
    "-x.txt",
    "x" * 251 + ".txt",
    "x.txt/part.txt",
]


@pytest.mark.slow
@pytest.mark.parametrize("name", GOOD_NAMES)
def test_files_with_unusual_names_are_read(folder, monkeypatch, capsys, name):
    path = folder / "names" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(folder / "text/train.txt", path)
    monkeypatch.chdir(folder)
    assert main(["inspect", f"names/{name}", "--workers", "1"]) == 0, capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "words", "exit_code"),
    [
        ("text.txt", "inspect locked/text.txt", DATA),
        ("folder", "inspect locked/folder", DATA),
        ("model/tokenizer.model", "show-batch text/train.txt --tokenizer locked/model", USAGE),
        ("shard.hdf5", "inspect locked/shard.hdf5", DATA),
        ("run.yaml", "pretrain --config locked/run.yaml", DATA),
        ("run", "fill-mask locked/run '[MASK]'", DATA),
    ],
)
def test_unreadable_files_and_folders_are_reported(folder, monkeypatch, capsys, place, words, exit_code):
    path = folder / "locked" / place
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix:
        path.write_text("Good words.\n")
    else:
        path.mkdir()
    path.chmod(0)
    try:
        if os.access(path, os.R_OK):
            pytest.skip("whoever runs the tests may read everything")
        monkeypatch.chdir(folder)
        assert main(shlex.split(words)) == exit_code
    finally:
        path.chmod(0o700)
    assert str(path.relative_to(folder)) in error_of(capsys)

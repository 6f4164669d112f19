"""A corpus to prepare, and what one process makes of it."""

import hashlib
import os
import random
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from nemo.cli.main import main
from nemo.collections.nlp.data.tokenizers.vocabulary import train_tokenizer
from tests.conftest import made_once, write_english

SHAPES = ["--phases", "32/5,64/10", "--dupe_factor", "1", "--num_shards", "3", "--random_seed", "7"]


@pytest.fixture(scope="session")
def corpus(shared_folder) -> Path:
    """Four files of about 1.1 MB, which are four parts, and a tokenizer."""
    return made_once(shared_folder / "corpus", _make_corpus)


def _make_corpus(folder: Path) -> None:
    text = (write_english(folder / "english") / "train.txt").read_text(encoding="utf-8")
    documents = text.strip().split("\n\n")
    (folder / "text").mkdir()
    for number in range(4):
        rng = random.Random(number)
        lines = (
            f"{rng.choice(documents)}\nThere were {rng.randrange(10**6)} of them.\n" for _ in range(2800)
        )
        (folder / "text" / f"{number}.txt").write_text("\n".join(lines), encoding="utf-8")
    train_tokenizer("word-piece", [folder / "text" / "0.txt"], folder / "tokenizer", 300)


def command(corpus: Path, out: Path, *words: str) -> list[str]:
    tokenizer = str(corpus / "tokenizer")
    return [
        "prepare", str(corpus / "text"), "--out", str(out), "--tokenizer", tokenizer, "--part_mb", "1",
        *SHAPES, *words,
    ]  # fmt: skip


def contents(out: Path) -> dict[str, str]:
    """The hash of every file there, but of the lock, which says who held it."""
    files = sorted(path for path in out.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def start(words: list[str], address_space: int | None = None, **environment: str) -> subprocess.Popen:
    """The command line in a process group of its own, whose processes may map so many bytes each."""

    def limit() -> None:
        if address_space is not None:
            resource.setrlimit(resource.RLIMIT_AS, (address_space, address_space))

    return subprocess.Popen(
        [sys.executable, "-m", "nemo.cli.main", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env=os.environ | environment,
        preexec_fn=limit,
    )


@pytest.fixture(scope="session")
def undisturbed(corpus, shared_folder) -> Path:
    """What one process makes of the corpus."""

    def make(out: Path) -> None:
        assert main(command(corpus, out, "--workers", "1")) == 0

    return made_once(shared_folder / "prepared", make)

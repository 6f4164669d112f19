"""Small files that would take much memory, and too little memory."""

import gzip
import lzma
import re

import h5py
import pytest

from nemo.collections.nlp.data.hdf5.shard import FIELDS
from tests.faults.bad_inputs.commands import CODES, DATA, USAGE, faults, outcome, train

MEMORY = 512 << 20  # that bad input may cost

BOMBS = [
    ("inspect bombs/zeros.txt.gz", DATA, "zeros.txt.gz: looks binary"),
    ("inspect bombs/zeros.txt.xz", DATA, "zeros.txt.xz: looks binary"),
    (
        "inspect bombs/record.jsonl",
        DATA,
        "record.jsonl:2: a line is too long for a record; found more than 64 MiB",
    ),
    ("inspect bombs/quote.csv", DATA, "quote.csv"),
    ("inspect bombs/shape.hdf5", DATA, "shape.hdf5 input_ids: declares more than it stores"),
    (
        "show-batch text/train.txt --tokenizer bombs/sparse",
        USAGE,
        "tokenizer.model: too large for a tokenizer",
    ),
    ("show-batch text/train.txt --tokenizer bombs/sparse/vocab.txt", USAGE, "vocab.txt: too large"),
    ("inspect bombs/line.txt", 0, ""),
    ("inspect bombs/characters.txt", 0, ""),
]


@pytest.fixture(scope="module")
def bombs(folder):
    there = folder / "bombs"
    (there / "sparse").mkdir(parents=True)
    with gzip.open(there / "zeros.txt.gz", "wb", 1) as file:
        file.write(bytes(200_000_000))
    with lzma.open(there / "zeros.txt.xz", "wb", preset=0) as file:
        file.write(bytes(200_000_000))
    with (there / "record.jsonl").open("wb") as file:
        file.write(b'{"text": "Good words."}\n{"text": "' + b"words " * 12_000_000)
    (there / "quote.csv").write_bytes(b'text\n"' + b"words\n" * 12_000_000)
    (there / "line.txt").write_bytes(b"The cat sees the dog. " * 1_000_000)
    (there / "characters.txt").write_bytes(b"a\n" * 100_000)
    for name in ("tokenizer.model", "vocab.txt"):
        with (there / "sparse" / name).open("wb") as file:
            file.truncate(1 << 40)
    with h5py.File(there / "shape.hdf5", "w") as file:
        for name in FIELDS:
            shape = (10**8,) if name == "next_sentence_labels" else (10**8, 50)
            file.create_dataset(name, shape, "i4", chunks=(1000, *shape[1:]), compression="gzip")
    return there


@pytest.fixture(scope="module")
def usual_memory(folder) -> int:
    """What `inspect` takes for a small text."""
    code, _, memory = outcome("inspect text/train.txt --workers 1", folder)
    assert code == 0
    return memory


@pytest.mark.slow
@faults(BOMBS)
def test_a_bomb_takes_little_memory(folder, bombs, usual_memory, words, exit_code, message):
    code, lines, memory = outcome(words + " --workers 1" * words.startswith("inspect"), folder)
    assert code == exit_code, lines
    assert memory - usual_memory < MEMORY
    if exit_code:
        (line,) = lines
        assert line.startswith(f"error[{CODES[exit_code]}] ") and re.search(message, line), line


@pytest.mark.slow
def test_too_little_memory_is_an_error_with_advice(folder):
    sizes = "--hidden_size 4096 --intermediate_size 200000 --work_dir out"
    code, (line,), _ = outcome(f"{train('text/train.txt')} {sizes}", folder, RLIMIT_AS=4 << 30)
    assert code == 1
    assert re.match(r"error\[MEMORY\] not enough memory: .*; fix: a smaller --batch_size, ", line), line

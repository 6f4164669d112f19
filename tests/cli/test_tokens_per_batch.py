"""Runs whose batches have so many tokens, through the command line."""

import json
import shlex
import shutil
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from nemo.cli.main import main
from nemo.collections.nlp.data.tokenizers import load_tokenizer
from nemo.collections.nlp.nm.data_layers import BertPretrainingDataLayer
from tests.cli.outcome import error_of
from tests.conftest import write_english

OPTIONS = shlex.split(
    "--no-report --hidden_size 16 --num_hidden_layers 1 --num_attention_heads 2 --intermediate_size 32 "
    "--max_seq_length 32 --vocab_size 80 --tokenizer word-piece --optimizer adam_w --lr 1e-3 "
    "--lr_policy CosineAnnealing --train_step_freq 1 --eval_step_freq -1 --threads 1"
)


def run(data: Path, work_dir: Path, *more: str) -> int:
    words = ["--data_dir", str(data), "--work_dir", str(work_dir), *OPTIONS]
    return main(["pretrain", *words, "data_text", *more])


def state(work_dir: Path, step: int) -> dict:
    return json.loads((work_dir / "checkpoints" / f"STEP-{step}" / "state.json").read_text())


def tokens_in_steps(work_dir: Path) -> list[int]:
    steps = sorted(int(path.name[5:]) for path in (work_dir / "checkpoints").glob("STEP-*"))
    seen = [0, *(state(work_dir, step)["items_seen"] for step in steps)]
    return [after - before for before, after in pairwise(seen)]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_english(tmp_path_factory.mktemp("data") / "english")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data):
    """Two epochs, with a checkpoint after every step."""
    work_dir = tmp_path_factory.mktemp("trained") / "run"
    words = ("--tokens_per_batch", "2000", "--num_epochs", "2", "--save_step_freq", "1")
    assert run(data, work_dir, *words, "--checkpoints_to_keep", "1000") == 0
    return work_dir


def stopped(work_dir: Path, copy: Path, step: int) -> Path:
    """The run as it was after so many steps."""
    shutil.copytree(work_dir, copy)
    for path in (copy / "checkpoints").glob("STEP-*"):
        if int(path.name[5:]) > step:
            shutil.rmtree(path)
    return copy


def test_steps_have_nearly_equal_tokens_except_at_ends_of_epochs(trained, data):
    layer = BertPretrainingDataLayer(load_tokenizer(trained / "tokenizer"), data / "train.txt", 32)
    tokens = tokens_in_steps(trained)
    assert sum(tokens) == sum(layer.dataset.lengths(epoch).sum() for epoch in (0, 1))
    status = json.loads((trained / "status.json").read_text())
    assert status["step"] == status["total_steps"] == len(tokens)
    in_epoch = [state(trained, step)["batch_in_epoch"] for step in range(1, len(tokens) + 1)]
    is_last = [following != number + 1 for number, following in pairwise([*in_epoch, 0])]
    assert sum(is_last) == 2
    assert max(tokens) <= 2000
    assert all(some > 2000 - 32 for some, last in zip(tokens, is_last, strict=True) if not last)


def test_a_run_stopped_within_an_epoch_resumes_bit_for_bit(trained, data, tmp_path):
    step = json.loads((trained / "status.json").read_text())["step"]
    work_dir = stopped(trained, tmp_path / "run", step - 5)
    assert state(work_dir, step - 5)["batch_in_epoch"] > 0
    assert run(data, work_dir, "--tokens_per_batch", "2000", "--num_epochs", "2") == 0
    expected, found = (
        load_file(folder / "checkpoints" / f"STEP-{step}" / "BERT.safetensors")
        for folder in (trained, work_dir)
    )
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.slow
@pytest.mark.parametrize("other", ["--tokens_per_batch 900", "--batch_size 8", ""])
def test_other_batches_make_another_run_and_another_epoch(trained, data, tmp_path, capsys, other):
    work_dir = stopped(trained, tmp_path / "run", 3)
    words = [*other.split(), "--num_iters", "4"]
    assert run(data, work_dir, *words) == 4
    assert "the checkpoint comes from a run with a different tokens_per_batch; found 2000" in error_of(capsys)
    assert run(data, tmp_path / "on", "--load_dir", str(work_dir), *words) == 0
    told = capsys.readouterr().out
    assert "restarting the epoch: the checkpoint has a different tokens_per_batch" in told
    assert state(tmp_path / "on", 4)["batch_in_epoch"] == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--tokens_per_batch 31", "tokens_per_batch: less than the longest sequence; found 31, expected 32"),
        ("--tokens_per_batch 0", "--tokens_per_batch: out of range; found 0, expected 8 or more"),
        (
            "--tokens_per_batch 1000 --batch_size 8",
            "--tokens_per_batch and --batch_size cannot be combined; fix: leave",
        ),
    ],
)
def test_invalid_batch_sizes_are_refused_before_any_work(data, tmp_path, capsys, words, message):
    assert run(data, tmp_path / "run", *words.split()) == 2
    assert message in error_of(capsys)
    assert not (tmp_path / "run" / "tokenizer").exists()

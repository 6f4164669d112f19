"""`nemo-bert estimate`: what a run will take, from its first steps."""

import dataclasses
import json

import pytest

from nemo.cli import estimate as command
from nemo.cli.main import main
from nemo.collections.nlp.options import PretrainingOptions
from nemo.collections.nlp.recipe.estimate import estimate
from nemo.collections.nlp.recipe.trial import Trial
from tests.cli.outcome import error_of
from tests.conftest import write_english

TRIAL = Trial(
    weights=5_000_000,
    vocabulary=8000,
    start_seconds=20,
    step_seconds=0.5,
    step_tokens=1600,
    padding_share=0.1,
    steps_per_epoch=100,
    evaluation_seconds=3,
    save_seconds=1,
    report_seconds=2,
    checkpoint_bytes=60_000_000,
    peak_bytes=10**9,
    unigram_entropy=6.2,
)
OPTIONS = PretrainingOptions(mode="data_text", train_data="x", num_iters=250, eval_step_freq=100)


def test_time_is_start_steps_evaluations_and_the_end():
    found = estimate(OPTIONS, TRIAL)
    # 20 + 3 before the first step; 250 steps of 0.5 + 3/100 + 1/100; 3 + 1 at the end, and the report
    assert found.seconds == pytest.approx(20 + 3 + 250 * 0.54 + 4 + 2)
    assert (found.steps, found.tokens, found.passes) == (250, 400_000, 2.5)
    assert found.evaluations == 4  # before, after 100 and 200, at the end


def test_minutes_give_the_steps():
    options = dataclasses.replace(OPTIONS, num_iters=-1, minutes=5, eval_step_freq=-1)
    found = estimate(options, TRIAL, seconds_before=6)
    assert found.steps == round((300 - 26 - 4) / 0.51)
    assert found.seconds == pytest.approx(302, abs=0.3)  # the report comes after the minutes


def test_epochs_give_the_steps():
    assert estimate(dataclasses.replace(OPTIONS, num_iters=-1, num_epochs=3), TRIAL).steps == 300


@pytest.mark.parametrize(("minutes", "steps"), [(50, 300), (1, 71)])
def test_minutes_and_epochs_give_the_fewer_steps(minutes, steps):
    both = dataclasses.replace(OPTIONS, num_iters=-1, minutes=minutes, num_epochs=3, eval_step_freq=-1)
    assert estimate(both, TRIAL).steps == steps


@pytest.mark.parametrize(
    ("more", "checkpoints"),
    [
        ({"save_step_freq": 10}, 4),
        ({"save_step_freq": 10, "keep_best": True}, 5),
        ({"save_step_freq": -1}, 1),
    ],
)
def test_disk_use_counts_the_checkpoints_that_are_kept(more, checkpoints):
    found = estimate(dataclasses.replace(OPTIONS, **more), TRIAL)
    assert found.disk_bytes == checkpoints * TRIAL.checkpoint_bytes


def test_a_loss_is_expected_only_where_there_is_a_record():
    assert estimate(OPTIONS, TRIAL).expected_loss is None  # BERT-base
    recorded = dataclasses.replace(
        OPTIONS, num_hidden_layers=4, hidden_size=256, num_attention_heads=4, initialization="counts"
    )
    assert estimate(recorded, TRIAL).expected_loss == pytest.approx(6.2 - 1.71, abs=0.02)
    assert estimate(dataclasses.replace(recorded, num_iters=10**6), TRIAL).expected_loss is None
    micro = dataclasses.replace(recorded, num_hidden_layers=2, num_iters=1000)
    assert estimate(micro, TRIAL).expected_loss == pytest.approx(6.2 - 2.30, abs=0.02)


@pytest.mark.slow
def test_a_text_is_tried_and_left_prepared(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = write_english(tmp_path / "english") / "train.txt"
    words = [str(text), "--size", "tiny", "--vocab_size", "120", "--num_iters", "40", "--threads", "1"]
    monkeypatch.setattr(command, "TRIAL_SECONDS", 0.1)
    monkeypatch.setenv("NEMO_BERT_NATIVE", "0")
    assert main(["estimate", *words, "--work_dir", "run", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["steps"], figures["vocabulary"]) == (40, 120)
    assert 100e6 < figures["peak_bytes"] < 3e9
    assert figures["seconds"] > 40 * figures["step_seconds"] > 0
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["data", "recipe.json"]
    assert [path.name for path in text.parent.iterdir() if path.name != "valid.txt"] == ["train.txt"]


def test_too_little_memory_names_the_batch_that_fits(monkeypatch, tmp_path, capsys):
    tried = []

    def try_in_process(options, memory):
        tried.append((options.tokens_per_batch, options.batches_per_step))
        return TRIAL if options.tokens_per_batch <= 1024 else None

    monkeypatch.setattr(command, "try_in_process", try_in_process)
    text = write_english(tmp_path / "english") / "train.txt"
    words = [
        str(text),
        "--vocab_size",
        "120",
        "--tokens_per_batch",
        "4096",
        "--work_dir",
        str(tmp_path / "run"),
    ]
    assert main(["estimate", *words]) == 1
    assert tried == [(4096, 1), (2048, 2), (1024, 4)]
    assert "fix: --tokens_per_batch 1024 --batches_per_step 4 gives the same steps in 1.0 GB" in error_of(
        capsys
    )


@pytest.mark.slow
def test_a_trial_that_takes_too_long_is_reported(tmp_path):
    text = write_english(tmp_path / "english") / "train.txt"
    options = PretrainingOptions(
        mode="data_text", train_data=str(text), tokenizer="word-piece", vocab_size=120
    )
    assert command.try_in_process(options, 300 << 20) is None

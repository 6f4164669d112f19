"""The comparison of recipes: its rule, its record, and one small run of every kind."""

import json

import pytest
import recipes

from tests.conftest import write_english


def test_a_way_is_a_name_and_options():
    assert recipes.Way.parse("muon: optimizer=muon lr=2e-3") == recipes.Way(
        "muon", {"optimizer": "muon", "lr": "2e-3"}
    )
    assert recipes.Way.parse("recipe") == recipes.Way("recipe")
    assert recipes.Way.parse("hf: theirs lr=1e-3") == recipes.Way("hf", {"lr": "1e-3"}, is_theirs=True)


@pytest.mark.parametrize(
    ("ways", "says"),
    [(["tiny: foo"], "expected option=value, found 'foo'"), (["x: lr=1", "x: lr=2"], "the same name")],
)
def test_ways_that_cannot_be_told_apart_or_read_are_refused(tmp_path, capsys, ways, says):
    words = [word for way in ways for word in ("--way", way)]
    with pytest.raises(SystemExit):
        recipes.main(["text.txt", "--out", str(tmp_path), "--tokens", "512", *words])
    assert says in capsys.readouterr().err


def test_a_run_is_used_again_only_for_the_same_way_and_threads():
    ways = {"x": recipes.Way("x", {"lr": "1e-3"}, is_theirs=True)}
    run = {"way": "x", "options": {"lr": "1e-3"}, "is_theirs": True, "threads": 1, "torch": "2"}
    assert recipes._is_of(run, ways, {"threads": 1, "torch": "2"})
    for change in ({"is_theirs": False}, {"threads": 2}, {"torch": "1"}, {"options": {}}, {"way": "y"}):
        assert not recipes._is_of({**run, **change}, ways, {"threads": 1, "torch": "2"})


@pytest.mark.parametrize(
    ("first", "second", "says"),
    [
        ([5.0, 5.1, 5.2], [4.5, 4.6, 4.7], "better"),
        ([5.0, 5.1, 5.2], [5.5, 5.6, 5.7], "worse"),
        # Standard error: sqrt(0.01 / 3 + 0.01 / 3) = 0.082; 4 degrees of freedom need 2.776 of them.
        ([5.0, 5.1, 5.2], [4.8, 4.9, 5.0], "no difference that counts (standard error 0.082)"),
        ([5.0], [4.0], "(one seed)"),
    ],
)
def test_a_difference_counts_by_welchs_t_test(first, second, says):
    assert recipes.verdict(first, second).startswith(says)


@pytest.mark.slow
def test_runs_are_compared_and_not_repeated(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TORCH_COMPILE_DISABLE", "1")  # takes longer than these runs
    text = write_english(tmp_path / "english") / "train.txt"
    small = "num_hidden_layers=1 hidden_size=16 num_attention_heads=2 tokens_per_batch=256"
    words = [str(text), "--out", str(tmp_path / "out"), "--vocab_size", "80", "--threads", "1"]
    words += ["--tokens", "512", "--seeds", "1", "--way", f"ours: {small}"]
    words += ["--way", f"theirs: theirs {small} batch_size=2"]
    assert recipes.main(words) == 0
    rows = [json.loads(row) for row in (tmp_path / "out/runs.jsonl").read_text().splitlines()]
    assert [(row["way"], row["steps"]) for row in rows] == [("ours", 2), ("theirs", 2)]
    # The same held-out tokens are masked for both.
    ours, theirs = (row["unigram_entropy"] for row in rows)
    assert ours == pytest.approx(theirs, rel=1e-6)
    assert all(2 < row["mlm_loss"] < 6 for row in rows)
    assert recipes.main(words) == 0
    assert len((tmp_path / "out/runs.jsonl").read_text().splitlines()) == 2
    assert "(one seed)" in capsys.readouterr().out

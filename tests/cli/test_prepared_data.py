"""From text to figures by way of `nemo-bert prepare`: both forms are trained on and evaluated on."""

import json
import shlex

import pytest

from nemo.cli.main import main
from tests.cli.outcome import error_of
from tests.conftest import write_english

SIZES = shlex.split(
    "--no-report --hidden_size 32 --num_hidden_layers 2 --num_attention_heads 2 --intermediate_size 64 "
    "--batch_size 8 --optimizer adam_w --lr 1e-3 --threads 1"
)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    text = write_english(folder / "text") / "train.txt"
    words = ["prepare", str(text), "--out", str(folder / "out"), "--vocab_size", "120", "--workers", "1"]
    assert main([*words, "--phases", "32/5", "--test_fraction", "0.2"]) == 0
    return folder / "out"


@pytest.mark.parametrize(
    "data",
    [
        ["data_text", "--max_seq_length", "32"],
        ["data_preprocessed"],
        ["data_preprocessed", "--masking", "span"],
    ],
)
def test_prepared_data_serves_training_and_evaluation(prepared, tmp_path, capsys, data):
    (shards,) = prepared.glob("hdf5_*")
    place = prepared if data[0] == "data_text" else shards
    words = ["--train_data", str(place), "--work_dir", str(tmp_path / "run"), "--num_iters", "4"]
    assert main(["pretrain", *SIZES, *words, *data]) == 0
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert any("eval_mlm_loss" in row for row in rows)  # on what was held out
    figures = []
    for held_out in (prepared, prepared / "test", shards):
        capsys.readouterr()
        assert main(["evaluate", str(tmp_path / "run"), "--eval_data", str(held_out), "--json"]) == 0
        figures.append(json.loads(capsys.readouterr().out))
    assert figures[0] == figures[1] != figures[2]


def test_the_folder_itself_is_held_out_text_too(prepared, tmp_path):
    words = ["--train_data", str(prepared / "train"), "--eval_data", str(prepared)]
    more = ["--work_dir", str(tmp_path), "--num_iters", "2", "--tokenizer", str(prepared / "bert")]
    assert main(["pretrain", *SIZES, *words, *more, "data_text", "--max_seq_length", "32"]) == 0
    assert "eval_mlm_loss" in (tmp_path / "metrics.jsonl").read_text()


def test_without_held_out_documents_nothing_is_evaluated(tmp_path, capsys):
    text = write_english(tmp_path / "text") / "train.txt"
    out = tmp_path / "out"
    words = ["prepare", str(text), "--out", str(out), "--vocab_size", "120", "--workers", "1"]
    assert main([*words, "--test_fraction", "0"]) == 0
    words = ["--train_data", str(text), "--eval_data", str(out), "--work_dir", str(tmp_path / "run")]
    assert main(["pretrain", *SIZES, *words, "data_text"]) == 3
    assert "no text was held out" in error_of(capsys)


def test_a_missing_text_leaves_no_folder_behind(tmp_path, capsys):
    assert main(["prepare", str(tmp_path / "gone.txt"), "--out", str(tmp_path / "out")]) == 3
    assert "gone.txt" in error_of(capsys)
    assert not (tmp_path / "out").exists()

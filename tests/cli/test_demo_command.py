"""The demo, on a small text in place of what is installed; collecting that has tests of its own."""

import pytest

from nemo.cli.main import main
from tests.conftest import write_english


@pytest.mark.slow
def test_the_demo_trains_measures_guesses_and_exports(tmp_path, capsys):
    out = tmp_path / "demo"
    write_english(out / "corpus")
    words = [
        "--hidden_size",
        "64",
        "--num_hidden_layers",
        "1",
        "--num_attention_heads",
        "2",
        "--vocab_size",
        "100",
        "--max_seq_length",
        "64",
    ]
    assert main(["demo", "--minutes", "0.01", "--out", str(out), *words]) == 0
    told = capsys.readouterr().out
    assert "below unigram" in told
    assert "from counts of neighboring words" in told
    assert told.count("[MASK]") >= 5
    assert (out / "export" / "model.safetensors").is_file()
    assert main(["demo", "--minutes", "0.01", "--out", str(out), *words]) == 0  # a rerun is fine

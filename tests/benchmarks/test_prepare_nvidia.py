"""The comparison with NVIDIA's script, which is not part of this project: a stand-in takes its options."""

import re

import prepare_nvidia
import pytest

from tests.conftest import write_english

SCRIPT = """
import argparse, h5py
parser = argparse.ArgumentParser()
for name in ("input_file", "output_file", "vocab_file", "bert_model"):
    parser.add_argument("--" + name, required=True)
for name in ("max_seq_length", "max_predictions_per_seq", "dupe_factor"):
    parser.add_argument("--" + name, type=int)
options = parser.parse_args()
assert open(options.vocab_file).readline() == "[PAD]\\n"
with h5py.File(options.output_file, "w") as file:
    file["input_ids"] = [[0] * options.max_seq_length] * options.dupe_factor
"""


@pytest.mark.slow
def test_a_row_for_each_text_and_number_of_passes(tmp_path, capsys):
    text = write_english(tmp_path / "english") / "train.txt"
    script = tmp_path / "create_pretraining_data.py"
    script.write_text(SCRIPT)
    words = [str(script), str(text), "--dupe_factor", "1", "3", "--rounds", "1", "--vocab_size", "150"]
    prepare_nvidia.main(words)
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| train.txt")]
    number = r"([0-9.]+)"
    found = [re.fullmatch(rf"\| train\.txt, 0\.\d MB \| {number}( \| {number}){{5}} \|", row) for row in rows]
    assert all(found)
    cells = [row.split(" | ") for row in rows]
    assert [(c[1], c[5]) for c in cells] == [("1", "1"), ("3", "3")]
    assert int(cells[1][6].strip("| ")) > 2 * int(cells[0][6].strip("| ")) > 0

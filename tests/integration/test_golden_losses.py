"""The losses of a small fixed run. A change that moves them changes what is trained, or how.

To accept new ones on purpose: `python -m tests.integration.test_golden_losses`, and say why in the commit.
"""

import json
import sys
import tempfile
from pathlib import Path

import pytest

from nemo.cli.main import main
from tests.conftest import write_english

GOLDEN = Path(__file__).with_name("golden_losses.json")
RUNS = {
    "word-piece, adam_w": ["--tokenizer", "word-piece", "--optimizer", "adam_w", "--lr", "1e-3"],
    "sentence-piece, novograd, two batches a step": [
        "--tokenizer", "sentence-piece", "--optimizer", "novograd", "--batches_per_step", "2",
    ],
    "word-piece, lamb, counts, clipped": [
        "--tokenizer", "word-piece", "--optimizer", "lamb", "--lr", "1e-2", "--beta1", "0.9", "--beta2",
        "0.999", "--initialization", "counts", "--grad_norm_clip", "1", "--lr_policy", "CosineAnnealing",
    ],
    "word-piece, bf16 products": [
        "--tokenizer", "word-piece", "--optimizer", "adam_w", "--lr", "1e-3", "--amp_opt_level", "O1",
    ],
    "word-piece, bf16 weights": [
        "--tokenizer", "word-piece", "--optimizer", "adam_w", "--lr", "1e-3", "--amp_opt_level", "O2",
    ],
}  # fmt: skip


def losses(options: list[str], folder: Path) -> list[float]:
    """The loss of each of twelve steps."""
    data = write_english(folder / "english")
    words = [
        "pretrain", "--data_dir", str(data), "--work_dir", str(folder / "run"), "--vocab_size", "80",
        "--hidden_size", "32", "--num_hidden_layers", "2", "--num_attention_heads", "2",
        "--intermediate_size", "64", "--max_seq_length", "32", "--batch_size", "8", "--train_step_freq", "1",
        "--eval_step_freq", "-1", "--threads", "1", "--no-report", *options, "data_text", "--num_iters", "12",
    ]  # fmt: skip
    assert main(words) == 0
    rows = map(json.loads, (folder / "run" / "metrics.jsonl").read_text().splitlines())
    return [row["loss"] for row in rows if "loss" in row]


@pytest.mark.parametrize("name", RUNS)
def test_losses_equal_the_golden_ones(name, tmp_path):
    # Other processors sum in another order; a changed mask, pair or weight moves a loss far more than this.
    assert losses(RUNS[name], tmp_path) == pytest.approx(json.loads(GOLDEN.read_text())[name], rel=1e-3)


if __name__ == "__main__":
    found = {}
    for name, options in RUNS.items():
        with tempfile.TemporaryDirectory() as folder:
            found[name] = [round(loss, 5) for loss in losses(options, Path(folder))]
    GOLDEN.write_text(json.dumps(found, indent=1) + "\n")
    sys.exit(0)

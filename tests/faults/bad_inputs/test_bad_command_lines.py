"""Command lines that cannot be."""

import pytest

from tests.faults.bad_inputs.commands import BUSY, DATA, STORAGE, USAGE, assert_one_clear_line, faults

FAULTS = [
    # Command lines.
    ("fill-mask run", USAGE, "a model and a sentence are needed"),
    (f"fill-mask run '{'[MASK] ' * 100}'", USAGE, "the text is too long"),
    ("fill-mask run '\udce8 [MASK]'", USAGE, "the text is not UTF-8"),
    ("fill-mask run '[MASK]' --top 0", USAGE, "--top: out of range"),
    ("fill-mask run [MASK] more", USAGE, "not an option"),
    ("export run", USAGE, "a model and a folder are needed"),
    ("inspect", USAGE, "nothing to inspect"),
    ("inspect nowhere.txt", DATA, "nowhere.txt: no such file"),
    ("inspect text/train.txt --workers 0", USAGE, "--workers: out of range"),
    ("show-batch", USAGE, "nothing to show"),
    ("show-batch text/train.txt", USAGE, "tokenizer"),
    ("show-batch shards --max_seq_length 7", USAGE, "--max_seq_length: out of range"),
    ("show-batch text/train.txt --tokenizer nowhere", USAGE, "nowhere"),
    ("demo more", USAGE, "more"),
    ("demo --num_iters 0", USAGE, "num_iters"),
    ("prepare", USAGE, "no text"),
    ("prepare text/train.txt --phases 128 --out out", USAGE, "--phases: not a list of tokens/targets"),
    ("prepare text/train.txt --phases 1/1 --out out", USAGE, "--phases"),
    ("prepare text/train.txt --phases 99999999/20 --out out", USAGE, "--phases"),
    ("prepare text/train.txt --test_fraction 0.9 --out out", USAGE, "--test_fraction: out of range"),
    ("prepare text/train.txt --out text", STORAGE, "text: not an empty folder"),
    ("prepare text/train.txt --out text/train.txt", STORAGE, "train.txt"),
    ("prepare text/train.txt --out busy", BUSY, "busy: "),
    ("prepare text/train.txt --engine slurm --out out", USAGE, "--slurm_partition"),
    ("prepare http://user:secret@127.0.0.1:1/a.txt --out out", DATA, r"(?!.*secret)http://127.0.0.1:1/a.txt"),
    ("prepare ftpp://somewhere/a.txt --out out", USAGE, "ftpp://somewhere/a.txt"),
    ("tokenizer", USAGE, "no text"),
    ("tokenizer text/train.txt --out text/train.txt", STORAGE, "train.txt"),
    ("tokenizer text/train.txt --kind bpe --out out", USAGE, "--kind: not one of the choices; found 'bpe'"),
    (
        "evaluate run --eval_data text/valid.txt --mask_probability 1",
        USAGE,
        "--mask_probability: out of range",
    ),
    ("evaluate run --eval_data text/valid.txt --masking stored", USAGE, "stored"),
]


@pytest.mark.slow
@faults(FAULTS)
def test_a_fault_ends_in_one_clear_line(folder, monkeypatch, capsys, words, exit_code, message):
    assert_one_clear_line(folder, monkeypatch, capsys, words, exit_code, message)

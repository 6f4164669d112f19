"""What a user is told of a learning rate that jumps, or that is too high."""

import json
import shlex

import pytest

from nemo.cli.main import main
from tests.conftest import write_english

TINY = (
    "--no-report "
    "--tokenizer word-piece --vocab_size 120 --hidden_size 32 --num_hidden_layers 1 --num_attention_heads 2 "
    "--intermediate_size 64 --max_seq_length 32 --batch_size 8 --eval_step_freq -1 --threads 1 "
    "--train_step_freq 1 --optimizer adam_w"
)


@pytest.fixture
def pretrain(tmp_path, capsys):
    """Train in a work folder; what was said on stdout and stderr."""
    write_english(tmp_path / "text")

    def run(work_dir, more):
        text = f"--train_data {tmp_path}/text/train.txt --work_dir {tmp_path / work_dir}"
        assert main(shlex.split(f"pretrain {TINY} {text} {more} data_text")) == 0
        return capsys.readouterr()

    return run


@pytest.mark.slow
def test_a_rerun_names_the_rate_that_its_options_make_jump(pretrain, tmp_path):
    decaying = "--lr 1e-3 --lr_policy PolynomialDecayAnnealing --lr_warmup_proportion 0"
    assert "jumps" not in pretrain("run", f"{decaying} --num_iters 4").err
    # At the end of four steps, in the middle of eight.
    (line,) = [x for x in pretrain("run", f"{decaying} --num_iters 8").err.splitlines() if "jumps" in x]
    assert "jumps at step 5, from 0.00025 to 0.0005 (--num_iters 4 -> 8)" in line
    rates = [row["lr"] for row in map(json.loads, (tmp_path / "run/metrics.jsonl").read_text().splitlines())]
    assert rates[3:5] == pytest.approx([2.5e-4, 5e-4])
    assert "jumps" not in pretrain("run", f"{decaying} --num_iters 8").err
    # The same from one folder to another.
    moved = pretrain("other", f"--lr 2e-3 --num_iters 9 --load_dir {tmp_path}/run").err
    assert "jumps at step 9, from 0.00013 to 0.002 (--lr 0.001 -> 0.002, --lr_policy" in moved


@pytest.mark.slow
def test_a_diverging_loss_is_named_while_it_trains_and_at_the_end(pretrain, tmp_path):
    said = pretrain("run", "--lr 10 --num_iters 6")
    warnings = [line for line in said.err.splitlines() if "ln V" in line]
    assert len(warnings) == 1
    assert "a uniform prediction has 4.79 (ln V): the learning rate (10) is probably too high" in warnings[0]
    assert "done:" not in said.out
    assert "ended, but the model has diverged (see above): 6 steps" in said.err
    losses = [
        row["mlm_loss"] for row in map(json.loads, (tmp_path / "run/metrics.jsonl").read_text().splitlines())
    ]
    assert losses[0] < 6 and losses[-1] > 7
    fine = pretrain("fine", "--lr 1e-3 --num_iters 6")
    assert "ln V" not in fine.err and "done: 6 steps" in fine.out

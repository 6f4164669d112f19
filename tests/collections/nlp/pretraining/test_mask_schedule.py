"""A share of tokens to predict that falls during a run."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from nemo.cli.main import main
from nemo.collections.nlp.data.tokenizers import load_tokenizer
from nemo.collections.nlp.nm.data_layers import (
    BertPretrainingDataLayer,
    BertPretrainingPreprocessedDataLayer,
)
from nemo.collections.nlp.options.mask_rate import mask_rates, parse_mask_rate
from nemo.collections.nlp.pretraining.mask_schedule import MaskSchedule
from nemo.utils.errors import UsageError
from nemo.utils.step_plan import StepPlan
from tests.conftest import write_english


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A store and shards of the same text."""
    folder = tmp_path_factory.mktemp("mask_schedule")
    text = write_english(folder / "english") / "train.txt"
    words = ["--vocab_size", "80", "--phases", "32/10", "--dupe_factor", "2", "--test_fraction", "0"]
    assert main(["prepare", str(text), "--out", str(folder / "prepared"), *words]) == 0
    return folder / "prepared"


@pytest.fixture(params=["text", "shards"])
def layer(request, prepared):
    tokenizer = load_tokenizer(prepared / "bert")
    if request.param == "text":
        return BertPretrainingDataLayer(tokenizer, prepared / "train", 32, batch_size=8, shuffle=True)
    (shards,) = prepared.glob("hdf5*")
    return BertPretrainingPreprocessedDataLayer(
        shards, batch_size=8, tokenizer=tokenizer, masking="whole_word"
    )


def schedule(layer, first, last, total, batches_per_step=1):
    return MaskSchedule(first, last, layer, batches_per_step, 1, lambda: StepPlan.of(total))


def at(masks, step, batch_in_epoch=0, steps_undone=0):
    """A run goes on here."""
    masks.action = SimpleNamespace(step=step, batch_in_epoch=batch_in_epoch, steps_undone=steps_undone)
    masks.on_epoch_start()


def shares(layer, epoch=0, first=0):
    """Of tokens to predict, in each batch."""
    ports = list(layer.output_ports)
    chosen, tokens = ports.index("output_mask"), ports.index("input_mask")
    return [float(b[chosen].sum() / b[tokens].sum()) for b in layer.batches(epoch, first)]


def test_the_share_falls_evenly_from_the_first_step_to_the_last(layer):
    epoch = layer.num_batches(0)
    layer.mask_schedule = masks = schedule(layer, 0.5, 0.1, total=2 * epoch)
    expected = np.linspace(0.5, 0.1, 2 * epoch)
    found = shares(layer)
    at(masks, step=epoch)
    # Of a row of 32 tokens a whole number is chosen, and the last row of an epoch may be short.
    assert [*found, *shares(layer, 1)] == pytest.approx(expected, abs=0.06)


def test_a_resumed_epoch_has_the_masks_of_a_whole_one(layer):
    layer.mask_schedule = masks = schedule(layer, 0.5, 0.1, total=layer.num_batches(0))
    whole = shares(layer)
    at(masks, step=5, batch_in_epoch=5)
    assert whole[5:] == shares(layer, first=5)


def test_a_resume_after_a_rewind_draws_the_masks_of_the_whole_run(layer):
    """Step 30 was bad, step 20 the newest checkpoint: batch 31 follows, in step 21."""
    masks = schedule(layer, 0.3, 0.15, total=101)
    whole = masks(np.arange(36, 40))
    at(masks, step=25, batch_in_epoch=36, steps_undone=11)
    assert masks(np.arange(36, 40)).tolist() == whole.tolist()


def test_micro_batches_of_a_step_have_one_share(layer):
    rates = schedule(layer, 0.4, 0.2, total=5, batches_per_step=4)(np.arange(20))
    assert rates.reshape(5, 4).T.tolist() == [pytest.approx([0.4, 0.35, 0.3, 0.25, 0.2])] * 4


def test_a_change_of_the_plan_counts_after_the_prefetched_batches(layer):
    plan = StepPlan.of(101).changed(10, 201)
    rates = MaskSchedule(0.4, 0.2, layer, 1, 1, lambda: plan)(np.arange(200))
    first_new = 10 + layer.batches_ahead + 1
    assert rates[first_new - 1] == pytest.approx(0.4 - 0.2 * (first_new - 1) / 100)
    assert rates[first_new] == pytest.approx(0.4 - 0.2 * first_new / 200)


@pytest.mark.slow
def test_a_run_that_goes_on_with_other_data_ends_at_the_last_share(tmp_path, prepared):
    """As in a second phase of longer sequences: its epochs have another number of steps."""
    size = "--hidden_size 16 --num_hidden_layers 1 --num_attention_heads 2 --max_position_embeddings 64"
    words = f"--train_data {prepared} {size} --lr 1e-9 --no-report --mask_probability 0.5:0.1"
    seen, call = {}, MaskSchedule.__call__
    for phase, total, more in (
        ("one", 100, "--max_seq_length 32 --batch_size 8"),
        ("two", 120, f"--max_seq_length 64 --batch_size 8 --load_dir {tmp_path / 'one'}"),
    ):
        made = seen[phase] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(MaskSchedule, "__call__", lambda *a, made=made: made.append(call(*a)) or made[-1])
            command = f"pretrain {words} {more} --num_iters {total} --work_dir {tmp_path / phase} data_text"
            assert main(command.split()) == 0
    rates = {phase: np.concatenate(made) for phase, made in seen.items()}
    assert rates["one"][[0, 99]] == pytest.approx([0.5, 0.1])
    assert rates["two"][[0, 19]] == pytest.approx([0.5 - 0.4 * 100 / 119, 0.1])


def test_held_out_text_is_masked_at_the_last_share(tmp_path, prepared):
    def evaluations(share):
        data = f"--train_data {prepared} --eval_data {prepared.parent / 'english/valid.txt'}"
        words = f"{data} --mask_probability {share} --work_dir {tmp_path / share} --num_iters 1 --lr 1e-9 "
        words += "--hidden_size 16 --num_hidden_layers 1 --num_attention_heads 2 --max_seq_length 32 "
        words += "--batch_size 4 --no-report"
        assert main(["pretrain", *words.split(), "data_text"]) == 0
        rows = map(json.loads, (tmp_path / share / "metrics.jsonl").read_text().splitlines())
        return [row["eval_unigram_entropy"] for row in rows if "eval_loss" in row]

    assert evaluations("0.4:0.2") == evaluations("0.2")


@pytest.mark.parametrize(
    ("text", "value", "rates"),
    [
        ("0.15", 0.15, (0.15, 0.15)),
        ("0.30:0.15", "0.3:0.15", (0.3, 0.15)),
        ("1e-1:.2", "0.1:0.2", (0.1, 0.2)),
    ],
)
def test_shares_as_text(text, value, rates):
    assert parse_mask_rate(text) == value
    assert mask_rates(value) == rates


@pytest.mark.parametrize("text", ["", ":", "0.3:", "a", "0.3:0.2:0.1", "0:0.1", "0.1:1", "nan", "0.3:inf"])
def test_invalid_mask_rates_are_refused(text):
    with pytest.raises(UsageError, match=r"--mask_probability: (not a share of tokens|out of range); found"):
        parse_mask_rate(text)

"""However many processes share a batch, they train what one would."""

import json
from itertools import product

import pytest
import torch
from safetensors.torch import load_file

from nemo.collections.nlp.data.tokenizers import load_tokenizer
from nemo.collections.nlp.nm.data_layers import (
    BertPretrainingDataLayer,
    BertPretrainingPreprocessedDataLayer,
)
from tests.cli.outcome import weights
from tests.distributed.conftest import NUM_STEPS
from tests.distributed.launching import rows
from tests.shards import make_rows, write_shard

SHARED = ("two", "four", "accumulated")
FIGURES = ("loss", "mlm_loss", "nsp_loss", "grad_norm", "lr")


@pytest.mark.slow
@pytest.mark.parametrize("name", SHARED)
def test_losses_equal_those_of_one_process(undisturbed, name):
    expected, found = rows(undisturbed("one")), rows(undisturbed(name))
    assert [row["step"] for row in found] == list(range(1, NUM_STEPS + 1))
    assert expected[-1]["epoch"] >= 1  # short ends of epochs are among them
    for ours, theirs in zip(found, expected, strict=True):
        assert [ours[f] for f in FIGURES] == pytest.approx([theirs[f] for f in FIGURES], abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", SHARED)
def test_weights_equal_those_of_one_process(undisturbed, name):
    expected, found = (weights(undisturbed(n) / "checkpoints" / f"STEP-{NUM_STEPS}") for n in ("one", name))
    assert found.keys() == expected.keys()
    for key, weight in expected.items():
        # Softmax ignores the bias of keys: its gradient is all rounding, which Adam makes larger.
        tolerance = 1e-4 if key.endswith(".key.bias") else 1e-5
        assert torch.allclose(found[key], weight, atol=tolerance, rtol=0), key


@pytest.mark.slow
def test_evaluation_figures_equal_those_of_one_process(undisturbed):
    def evaluated(name):
        lines = (undisturbed(name) / "metrics.jsonl").read_text().splitlines()
        (last,) = [line for line in lines if "eval_loss" in line]
        return json.loads(last)

    expected = evaluated("one")
    for name in SHARED:
        found = evaluated(name)
        assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", SHARED)
def test_a_tied_weight_stays_tied(undisturbed, name):
    folder = undisturbed(name) / "checkpoints" / f"STEP-{NUM_STEPS}"
    bert, head = (load_file(folder / f"{part}.safetensors") for part in ("BERT", "BertTokenClassifier"))
    embedding = next(t for name, t in bert.items() if name.endswith("word_embeddings.weight"))
    assert not any(tensor.shape == embedding.shape for tensor in head.values())


def layer_of_text(text, tmp_path, **batching):
    tokenizer = load_tokenizer(text / "bert")
    return BertPretrainingDataLayer(tokenizer, text / "train.txt", 32, shuffle=True, seed=3, **batching)


def layer_of_shards(text, tmp_path, **batching):
    for number in range(3):
        write_shard(tmp_path / f"training_{number}.hdf5", make_rows(37 + number, seed=number))
    return BertPretrainingPreprocessedDataLayer(tmp_path, vocab_size=60, seed=3, **batching)


@pytest.mark.parametrize(
    ("make", "batching"),
    [*product((layer_of_text, layer_of_shards), ({"batch_size": 8}, {"tokens_per_batch": 150}))],
)
def test_processes_take_turns_with_the_batches_of_one(text, tmp_path, make, batching):
    layer = make(text, tmp_path, **batching)
    for epoch, size in product((0, 1), (2, 4)):
        whole = list(layer.batches(epoch))
        assert len(whole) == layer.num_batches(epoch) > size
        for rank in range(size):
            own = list(layer.batches(epoch, rank, size))
            expected = whole[rank::size]
            assert len(own) == len(expected)
            for ours, theirs in zip(own, expected, strict=True):
                assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("make", [layer_of_text, layer_of_shards])
def test_smaller_batches_have_the_samples_of_a_large_one_in_its_order(text, tmp_path, make):
    large, small = (make(text, tmp_path, batch_size=size) for size in (32, 8))
    for epoch in (0, 1):
        of_large, of_small = (
            [torch.cat(port) for port in zip(*layer.batches(epoch), strict=True)] for layer in (large, small)
        )
        assert all(torch.equal(a, b) for a, b in zip(of_large, of_small, strict=True))

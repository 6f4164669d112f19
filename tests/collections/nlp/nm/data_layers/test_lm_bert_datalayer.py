"""Batches come from a thread that runs ahead, in order, and is gone when they are no longer wanted."""

import threading

import pytest
import torch

from nemo.collections.nlp.data.vocabulary import train_tokenizer
from nemo.collections.nlp.nm.data_layers.lm_bert_datalayer import BertPretrainingDataLayer, prefetched
from nemo.utils.errors import UsageError


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "batches"]


def test_items_come_in_order_and_the_thread_ends():
    assert list(prefetched(iter(range(10)), depth=2)) == list(range(10))
    assert threads() == []


def test_no_thread_is_left_when_items_are_no_longer_wanted():
    items = prefetched(iter(range(1000)), depth=2)
    assert next(items) == 0
    assert len(threads()) == 1
    items.close()
    assert threads() == []


def test_an_error_of_the_thread_is_raised_where_items_are_taken():
    def broken():
        yield 1
        raise ValueError("no more")

    items = prefetched(broken(), depth=2)
    assert next(items) == 1
    with pytest.raises(ValueError, match="no more"):
        next(items)


@pytest.fixture
def layer(english):
    tokenizer = train_tokenizer("word-piece", [english / "train.txt"], english / "vocabulary", 80)

    def make(**options):
        return BertPretrainingDataLayer(tokenizer, english / "valid.txt", 32, batch_size=8, **options)

    return make


def test_a_batch_is_what_the_ports_say(layer):
    data = layer()
    batch = next(data.batches(0))
    named = dict(zip(data.output_ports, batch, strict=True))
    assert list(named) == [
        "input_ids", "input_type_ids", "input_mask", "output_ids", "output_mask", "labels"
    ]  # fmt: skip
    assert all(named[name].shape == (8, 32) for name in named if name != "labels")
    assert named["labels"].shape == (8,)
    assert (named["output_mask"].sum(1) >= 1).all()
    hidden = named["output_mask"] == 0
    assert torch.equal(named["input_ids"][hidden], named["output_ids"][hidden])
    assert data.items_in(batch) == int(named["input_mask"].sum())


def test_an_epoch_has_every_sample_once_and_a_resumed_one_the_rest(layer):
    data = layer(shuffle=True, seed=3)
    whole = [batch[3] for batch in data.batches(1)]
    rest = [batch[3] for batch in data.batches(1, first=2)]
    assert sum(len(batch) for batch in whole) == len(data)
    assert all(torch.equal(a, b) for a, b in zip(whole[2:], rest, strict=True))
    assert not torch.equal(whole[0], next(data.batches(2))[3])


def test_without_shuffling_an_evaluation_is_the_same_every_time(layer):
    first, second = (torch.cat([batch[0] for batch in layer().batches(0)]) for _ in range(2))
    assert torch.equal(first, second)


def test_a_batch_of_nothing_is_refused(english, layer):
    with pytest.raises(UsageError, match="batch_size: out of range; found 0"):
        BertPretrainingDataLayer(layer().dataset.tokenizer, english / "valid.txt", 32, batch_size=0)

"""Batches for BERT pretraining, from text and from shards: what is in them, and in which order they come."""

import re

import numpy as np
import pytest
import torch

from nemo.backends.pytorch import PtActions
from nemo.backends.pytorch.common import CrossEntropyLossNM
from nemo.collections.nlp.data.tokenizers.vocabulary import train_tokenizer
from nemo.collections.nlp.nm.data_layers import (
    BertPretrainingDataLayer,
    BertPretrainingPreprocessedDataLayer,
    lm_bert_datalayer,
)
from nemo.collections.nlp.nm.trainables import SequenceClassifier
from nemo.collections.nlp.nm.trainables.common.huggingface import BERT
from nemo.utils.errors import UsageError
from tests.shards import batch_of, make_rows, write_shard


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


def test_a_layer_over_an_open_dataset_gives_the_same_but_has_no_file(layer, tmp_path):
    made = layer()
    over = BertPretrainingDataLayer.over(made.dataset, made.batch_size, made.shuffle)
    for ours, theirs in zip(over.batches(0), made.batches(0), strict=True):
        assert all(map(torch.equal, ours, theirs))
    with pytest.raises(UsageError, match=r"init_params\.dataset"):
        over.export_to_config(tmp_path / "layer.yaml")


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


def test_the_tutorials_layer_shuffles_in_training_only(layer):
    def samples(data, epoch):
        return torch.cat([batch[3] for batch in data.batches(epoch)])

    data = layer()
    for epoch in range(2):
        assert torch.equal(samples(data, epoch), samples(layer(shuffle=False), epoch))
        assert torch.equal(samples(data.for_training(), epoch), samples(layer(shuffle=True), epoch))
    assert not torch.equal(samples(data.for_training(), 0), samples(data, 0))
    in_order = layer(shuffle=False)
    assert in_order.for_training() is in_order


def test_a_batch_size_of_zero_is_refused(english, layer):
    with pytest.raises(UsageError, match="batch_size: out of range; found 0"):
        BertPretrainingDataLayer(layer().dataset.tokenizer, english / "valid.txt", 32, batch_size=0)


# Batches of so many tokens


@pytest.fixture
def short(shared_data, tmp_path):
    """Real text of which a pair has 50 tokens or so: its documents are of two sentences."""
    text = (shared_data / "abc_news" / "rural.txt").read_text()
    sentences = re.split(r"(?<=[.?!])\s+", text)[:3000]
    text = "\n\n".join("\n".join(pair) for pair in zip(sentences[::2], sentences[1::2], strict=True))
    (tmp_path / "text.txt").write_text(text)
    tokenizer = train_tokenizer("word-piece", [tmp_path / "text.txt"], tmp_path / "vocabulary", 1000)

    def make(**options):
        return BertPretrainingDataLayer(
            tokenizer, tmp_path / "text.txt", 128, **{"shuffle": True, "tokens_per_batch": 4096, **options}
        )

    return make


def joined(batches) -> list[torch.Tensor]:
    return [torch.cat(parts) for parts in zip(*batches, strict=True)]


def test_batches_by_tokens_are_nearly_full(short):
    data = short()
    for epoch in (0, 1):
        tokens = [data.items_in(batch) for batch in data.batches(epoch)]
        assert len(tokens) == data.num_batches(epoch) > 10
        assert max(tokens) <= 4096
        assert min(tokens[:-1]) > 4096 - 128
        assert np.mean(tokens[:-1]) > 0.98 * 4096


def test_batches_by_tokens_have_every_sample_once_in_order(short):
    data = short()
    for epoch in (0, 2):
        order = data.order(epoch)
        assert sorted(order) == list(range(len(data)))
        expected = data.dataset.batch(epoch, order)
        found = dict(zip(data.output_ports, joined(data.batches(epoch)), strict=True))
        assert all(np.array_equal(found[port].numpy(), expected[port]) for port in expected)


@pytest.mark.parametrize("first", [1, 7, 12])
def test_batches_by_tokens_resume_exactly_within_an_epoch(short, first):
    whole = list(short().batches(1))
    rest = list(short().batches(1, first))
    assert len(rest) == len(whole) - first
    for expected, found in zip(whole[first:], rest, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_evaluation_batches_by_tokens_have_the_same_samples(short):
    of_tokens, of_samples = short(shuffle=False), short(shuffle=False, tokens_per_batch=None)
    for a, b in zip(joined(of_tokens.batches(0)), joined(of_samples.batches(0)), strict=True):
        assert torch.equal(a, b)


def test_a_batch_that_has_no_room_for_a_sequence_is_refused(short, shards):
    message = "tokens_per_batch: less than the longest sequence; found {}, expected {} or more"
    with pytest.raises(UsageError, match=message.format(127, 128)):
        short(tokens_per_batch=127)
    with pytest.raises(UsageError, match=message.format(15, 16)):
        BertPretrainingPreprocessedDataLayer(shards, 3, tokens_per_batch=15)


def test_samples_do_not_depend_on_those_built_with_them(layer, monkeypatch):
    together = list(layer(shuffle=True).batches(1))
    monkeypatch.setattr(lm_bert_datalayer, "POSITIONS_AT_ONCE", 1)
    alone = list(layer(shuffle=True).batches(1))
    for a, b in zip(together, alone, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


# Shards


@pytest.fixture
def rows():
    return make_rows(20)


@pytest.fixture
def shards(tmp_path, rows):
    write_shard(tmp_path / "shards" / "wiki_training_0.hdf5", rows[:9])
    write_shard(tmp_path / "shards" / "wiki_training_1.hdf5", rows[9:])
    write_shard(tmp_path / "shards" / "wiki_test_0.hdf5", make_rows(6, seed=1))
    return tmp_path / "shards"


def same_rows(batches, expected) -> bool:
    ports = [torch.cat(parts) for parts in zip(*batches, strict=True)]
    return all(
        found.dtype == torch.from_numpy(array).dtype and np.array_equal(found.numpy(), array)
        for found, array in zip(ports, expected.values(), strict=True)
    )


def test_shards_give_what_the_ports_say(shards, rows):
    data = BertPretrainingPreprocessedDataLayer(shards, 3, "train", 8)
    batches = list(data.batches(0))
    assert [len(batch[0]) for batch in batches] == [8, 8, 4]
    assert len(data) == 20
    assert same_rows(batches, batch_of([rows[i] for i in data.order(0)]))
    assert data.items_in(batches[0]) == int(batches[0][2].sum())


@pytest.mark.parametrize(
    ("arguments", "keywords"),
    [
        ((3, "eval", 4), {}),
        ((3, 4, "eval"), {}),
        ((), {"max_predictions_per_seq": 3, "batch_size": 4, "mode": "eval"}),
        ((), {"max_pred_length": 3, "batch_size": "eval", "mode": 4}),
    ],
)
def test_the_tutorials_order_of_arguments_is_the_signatures(shards, arguments, keywords):
    data = BertPretrainingPreprocessedDataLayer(shards, *arguments, **keywords)
    assert (data.batch_size, data.shuffle, len(data)) == (4, False, 6)
    assert same_rows(list(data.batches(0)), batch_of(make_rows(6, seed=1)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3, 4, 4), "mode is a name, batch_size a number; found 4 and 4"),
        ((3, "train", "eval"), "found 'train' and 'eval'"),
        ((3, "train", 0), "batch_size: out of range; found 0"),
    ],
)
def test_ambiguous_arguments_are_refused(shards, arguments, message):
    with pytest.raises(UsageError, match=message):
        BertPretrainingPreprocessedDataLayer(shards, *arguments)


def test_the_length_of_predictions_is_what_the_shards_have_and_given_once(shards):
    data = BertPretrainingPreprocessedDataLayer(shards, mode="eval", batch_size=4)
    assert same_rows(list(data.batches(0)), batch_of(make_rows(6, seed=1)))
    with pytest.raises(UsageError, match="give max_pred_length once; found 2 times"):
        BertPretrainingPreprocessedDataLayer(shards, 3, max_predictions_per_seq=3)


def test_masks_can_be_drawn_in_either_kind_of_data(tmp_path, layer):
    path = write_shard(tmp_path / "a.hdf5", make_rows(60))
    data = BertPretrainingPreprocessedDataLayer(
        path, batch_size=60, vocab_size=60, masking="token", mask_probability=0.5
    )
    ports = dict(zip(data.output_ports, next(data.batches(0)), strict=True))
    expected = batch_of([make_rows(60)[i] for i in data.order(0)])
    assert np.array_equal(ports["output_ids"].numpy(), expected["output_ids"])
    assert ports["output_mask"].sum() > 2 * expected["output_mask"].sum()
    of_words, of_spans = (next(layer(masking=kind).batches(0)) for kind in ("whole_word", "span"))
    place = list(data.output_ports).index("output_ids")
    assert torch.equal(of_words[place], of_spans[place]) and not torch.equal(of_words[0], of_spans[0])
    with pytest.raises(UsageError, match="unknown masking; found 'words'"):
        layer(masking="words")


def test_rows_of_shards_come_in_batches_by_tokens(shards, rows):
    data = BertPretrainingPreprocessedDataLayer(shards, 3, "train", tokens_per_batch=50)
    for epoch in (0, 1):
        batches = list(data.batches(epoch))
        assert all(data.items_in(batch) <= 50 for batch in batches)
        assert len(batches) == data.num_batches(epoch)
        assert same_rows(batches, batch_of([rows[i] for i in data.order(epoch)]))
        assert same_rows(
            list(data.batches(epoch, 2)),
            batch_of([rows[i] for i in data.order(epoch)][data.bounds(epoch)[2] :]),
        )


def test_a_graph_trains_on_shards_for_the_given_epochs(shards):
    data = BertPretrainingPreprocessedDataLayer(shards, 3, "train", 8)
    bert = BERT(
        vocab_size=60, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    nsp = SequenceClassifier(16, num_classes=2, activation="tanh", log_softmax=False)
    batch = data()
    hidden = bert(
        input_ids=batch.input_ids, token_type_ids=batch.input_type_ids, attention_mask=batch.input_mask
    )
    loss = CrossEntropyLossNM()(logits=nsp(hidden_states=hidden), labels=batch.labels)
    actions = PtActions()
    actions.train([loss], "adam_w", {"lr": 1e-3, "num_epochs": 2})
    assert (actions.step, actions.epoch_num) == (6, 2)
    assert len(list(actions.evaluate([loss]))) == 3

"""Our encoder is transformers' encoder: the same names, the same numbers, the same gradients."""

import pytest
import torch
import transformers

from nemo.backends.pytorch.common.layers import ACT2FN
from nemo.collections.nlp.models.bert import BertModel
from nemo.utils.errors import UsageError

SIZES = {
    "vocab_size": 40,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 32,
    "max_position_embeddings": 12,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    # Large weights, so that activations leave the part around 0 where they all look alike.
    "initializer_range": 0.3,
}


def config_with(**changes) -> transformers.BertConfig:
    return transformers.BertConfig(**{**SIZES, **changes})


def pair_of_models(**changes):
    """Hugging Face's model and ours with the same weights."""
    config = config_with(**changes)
    torch.manual_seed(0)
    theirs = transformers.BertModel(config)
    ours = BertModel(config)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


@pytest.fixture
def batch():
    """Two sequences of 9 tokens in two sentences, the second one padded after 6."""
    return {
        "input_ids": torch.randint(1, 40, (2, 9), generator=torch.Generator().manual_seed(1)),
        "token_type_ids": torch.tensor([[0, 0, 0, 0, 0, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1, 0, 0, 0]]),
        "attention_mask": torch.tensor([[1] * 9, [1] * 6 + [0] * 3]),
    }


def assert_same_outputs_and_gradients(theirs, ours, batch):
    weights = torch.randn((2, 9, 24), generator=torch.Generator().manual_seed(2))

    output = theirs(**batch)
    hidden = ours(**batch)
    pooled = ours.pooler(hidden)
    torch.testing.assert_close(hidden, output.last_hidden_state, atol=1e-5, rtol=0)
    torch.testing.assert_close(pooled, output.pooler_output, atol=1e-5, rtol=0)

    ((output.last_hidden_state * weights).mean() + output.pooler_output.mean()).backward()
    ((hidden * weights).mean() + pooled.mean()).backward()
    gradients = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    assert gradients.keys() == dict(ours.named_parameters()).keys()
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], atol=1e-5, rtol=0, msg=name)


@pytest.mark.parametrize("activation", ACT2FN)
def test_equals_transformers_for_every_activation(activation, batch):
    assert_same_outputs_and_gradients(*pair_of_models(hidden_act=activation), batch)


@pytest.mark.parametrize("given", [(), ("token_type_ids",), ("attention_mask",)])
def test_equals_transformers_when_inputs_are_left_out(given, batch):
    inputs = {name: batch[name] for name in ("input_ids", *given)}
    assert_same_outputs_and_gradients(*pair_of_models(), inputs)


def test_equals_transformers_in_training_without_dropout(batch):
    theirs, ours = pair_of_models(hidden_act="gelu_new", layer_norm_eps=1e-5, type_vocab_size=3)
    assert_same_outputs_and_gradients(theirs.train(), ours.train(), batch)


def test_state_dict_loads_strictly_both_ways():
    theirs, ours = pair_of_models()
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    theirs.load_state_dict(ours.state_dict(), strict=True)


def test_only_requested_rows_leave_the_last_layer(batch):
    _, ours = pair_of_models()
    rows = torch.tensor([0, 4, 9, 13, 4])  # one of them twice

    whole = ours(**batch).flatten(0, 1)[rows]
    whole.square().sum().backward()
    expected = {name: p.grad for name, p in ours.named_parameters() if p.grad is not None}
    ours.zero_grad()
    asked = ours(**batch, rows=rows)
    asked.square().sum().backward()

    torch.testing.assert_close(asked, whole, atol=1e-6, rtol=1e-6)
    for name, gradient in expected.items():
        torch.testing.assert_close(ours.get_parameter(name).grad, gradient, atol=1e-4, rtol=1e-4)


def test_padding_does_not_change_what_tokens_see(batch):
    _, ours = pair_of_models()
    padded = ours(**batch)[1, :6]
    short = ours(batch["input_ids"][1:, :6], batch["token_type_ids"][1:, :6])[0]
    torch.testing.assert_close(padded, short, atol=1e-5, rtol=0)


@pytest.mark.slow
def test_compiles_as_one_graph(batch):
    _, ours = pair_of_models()
    compiled = torch.compile(ours, fullgraph=True, backend="eager")
    rows = torch.tensor([3, 10])
    torch.testing.assert_close(compiled(**batch, rows=rows), ours(**batch, rows=rows))


def test_bf16_autocast_keeps_padding_out(batch):
    _, ours = pair_of_models()
    with torch.autocast("cpu", torch.bfloat16):
        padded = ours(**batch)[1, :6]
        short = ours(batch["input_ids"][1:, :6], batch["token_type_ids"][1:, :6])[0]
    assert padded.isfinite().all()
    torch.testing.assert_close(padded, short, atol=0.1, rtol=0)


def test_initialization_is_berts():
    torch.manual_seed(0)
    model = BertModel(config_with(hidden_size=96, vocab_size=500, initializer_range=0.05))
    assert model.encoder.layer[1].intermediate.dense.weight.std().item() == pytest.approx(0.05, rel=0.05)
    assert model.embeddings.word_embeddings.weight.std().item() == pytest.approx(0.05, rel=0.05)
    assert model.embeddings.word_embeddings.weight[0].count_nonzero() == 0
    assert model.pooler.dense.bias.count_nonzero() == 0
    assert (model.embeddings.LayerNorm.weight == 1).all()


@pytest.mark.parametrize("dropout", ["hidden_dropout_prob", "attention_probs_dropout_prob"])
def test_dropout_acts_in_training_only(batch, dropout):
    model = BertModel(config_with(**{dropout: 0.5}))
    assert not torch.equal(model(**batch), model(**batch))
    model.eval()
    assert torch.equal(model(**batch), model(**batch))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_attention_heads": 5}, ["hidden_size 24", "num_attention_heads 5"]),
        ({"num_hidden_layers": 0}, ["num_hidden_layers", "found 0"]),
        ({"hidden_dropout_prob": 1.5}, ["hidden_dropout_prob", "found 1.5"]),
        ({"hidden_act": "gelou"}, ["unknown activation", "'gelu'"]),
        ({"pad_token_id": 40}, ["pad_token_id", "vocab_size = 40"]),
    ],
)
def test_impossible_configurations_are_refused(changes, words):
    with pytest.raises(UsageError) as refusal:
        BertModel(config_with(**changes))
    for word in words:
        assert word in str(refusal.value)


def test_sequences_longer_than_the_positions_are_refused():
    _, ours = pair_of_models()
    with pytest.raises(UsageError, match=r"found 13 tokens, expected at most .* = 12"):
        ours(torch.ones((1, 13), dtype=torch.long))

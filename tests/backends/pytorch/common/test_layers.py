"""Activations by name, and the perceptron that heads are made of."""

import math

import pytest
import torch

from nemo.backends.pytorch.common import ACT2FN, MultiLayerPerceptron, get_activation
from nemo.backends.pytorch.common.layers import init_transformer_weights
from nemo.utils.errors import UsageError

X = torch.linspace(-4, 4, 33)


def test_activations_equal_those_of_transformers():
    from transformers.activations import ACT2FN as THEIRS

    assert THEIRS.keys() - ACT2FN.keys() == {"prelu", "xielu"}
    for name, activation in ACT2FN.items():
        torch.testing.assert_close(activation(X), THEIRS[name](X), atol=1e-6, rtol=0, msg=name)


def test_gelu_is_the_exact_one():
    by_hand = 1.5 * 0.5 * (1 + math.erf(1.5 / math.sqrt(2)))
    assert get_activation("gelu")(torch.tensor(1.5)).item() == pytest.approx(by_hand)


def test_an_activation_may_be_a_function():
    assert get_activation(torch.sin) is torch.sin
    assert get_activation(ACT2FN["swish"]) is get_activation("silu")


def test_unknown_activation_names_the_closest():
    with pytest.raises(UsageError, match="did you mean 'tanh'"):
        get_activation("than")


def test_perceptron_alternates_linear_layers_and_activations():
    mlp = MultiLayerPerceptron(3, 2, num_layers=3, activation="tanh", log_softmax=False)
    x = torch.randn(5, 3)
    by_hand = mlp.layer4(mlp.layer3(mlp.layer2(torch.tanh(mlp.layer0(x)))))
    torch.testing.assert_close(mlp(x), by_hand)
    assert mlp.state_dict().keys() == {f"layer{i}.{leaf}" for i in (0, 2, 4) for leaf in ("weight", "bias")}
    assert mlp.layer4.out_features == 2


def test_perceptron_gives_log_probabilities_in_float32():
    mlp = MultiLayerPerceptron(4, 6).bfloat16()
    scores = mlp(torch.randn(7, 4).bfloat16())
    assert scores.dtype is torch.float32
    torch.testing.assert_close(scores.exp().sum(-1), torch.ones(7))


def test_last_linear_layer_can_be_replaced_by_path():
    mlp = MultiLayerPerceptron(4, 6, num_layers=1)
    weight = torch.nn.Parameter(torch.zeros(6, 4))
    mlp.last_linear_layer.weight = weight
    assert mlp.layer0.weight is weight


def test_perceptron_without_layers_is_refused():
    with pytest.raises(UsageError, match="num_layers"):
        MultiLayerPerceptron(4, 6, num_layers=0)


def test_initialization_is_normal_with_zero_biases_and_padding():
    torch.manual_seed(0)
    module = torch.nn.ModuleList(
        [torch.nn.Linear(80, 90), torch.nn.LayerNorm(4), torch.nn.Embedding(70, 80, padding_idx=3)]
    )
    torch.nn.init.constant_(module[1].weight, 5)
    module.apply(init_transformer_weights)
    assert module[0].weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert module[0].bias.count_nonzero() == 0
    assert (module[1].weight == 1).all()
    assert module[2].weight[3].count_nonzero() == 0
    assert module[2].weight[4].count_nonzero() == 80

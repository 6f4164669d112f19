"""Optimizers by name: which parameters they change and how, and their state by name."""

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, RMSprop

from nemo.backends.pytorch.optim.layer_wise import LAMB, NovoGrad
from nemo.backends.pytorch.optim.muon import Muon
from nemo.backends.pytorch.optim.optimizers import (
    OPTIMIZERS,
    load_optimizer_state,
    make_optimizer,
    optimizer_state,
)
from nemo.utils.errors import CheckpointError, UsageError

NAMES = list(OPTIMIZERS)


class Net(nn.Module):
    """A matrix, a bias and a LayerNorm in an encoder, an embedding, a decoder tied to it."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embeddings = nn.Embedding(5, 4)
        self.encoder = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
        self.decoder = nn.Linear(4, 5)
        self.decoder.weight = self.embeddings.weight

    def forward(self, ids):
        return self.decoder(self.encoder(self.embeddings(ids)))


def named(net):
    """All names, the tied weight's second one too."""
    return dict(net.named_parameters(remove_duplicate=False))


def train(net, optimizer, steps):
    for _ in range(steps):
        net(torch.arange(5)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def weights(net):
    return {name: parameter.detach().clone() for name, parameter in net.named_parameters()}


def reference(make, steps=3, **options):
    """The weights that torch itself gets to, decay being for matrices."""
    net = Net()
    matrices = [p for p in net.parameters() if p.ndim > 1]
    vectors = [p for p in net.parameters() if p.ndim == 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    train(net, make(groups, lr=0.05, **options), steps)
    return weights(net)


@pytest.mark.parametrize(
    ("name", "options", "make", "torch_options"),
    [
        ("adam_w", {"betas": (0.8, 0.9)}, AdamW, {"betas": (0.8, 0.9)}),
        ("fused_adam", {"eps": 1e-3}, AdamW, {"eps": 1e-3}),
        ("adam", {}, Adam, {}),
        ("SGD", {}, SGD, {"momentum": 0.9}),
        ("sgd", {"momentum": 0.5, "betas": (0.9, 0.999)}, SGD, {"momentum": 0.5}),
        ("novograd", {}, NovoGrad, {"betas": (0.95, 0.25)}),
        ("fused_novograd", {"luc": True, "luc_eta": 0.01}, NovoGrad, {"luc": True, "luc_eta": 0.01}),
    ],
)
def test_a_name_stands_for_an_optimizer_that_decays_matrices(name, options, make, torch_options):
    net = Net()
    train(net, make_optimizer(name, named(net), lr=0.05, weight_decay=0.1, **options), 3)
    torch.testing.assert_close(weights(net), reference(make, **torch_options))


@pytest.mark.parametrize("name", ["lamb", "fused_lamb"])
def test_lamb_scales_only_the_steps_of_matrices(name):
    net, expected = Net(), Net()
    train(net, make_optimizer(name, named(net), lr=0.05, weight_decay=0.1), 3)
    matrices = [p for p in expected.parameters() if p.ndim > 1]
    vectors = [p for p in expected.parameters() if p.ndim == 1]
    groups = [
        {"params": matrices, "weight_decay": 0.1},
        {"params": vectors, "trust_ratio": False},
    ]
    train(expected, LAMB(groups, lr=0.05), 3)
    assert torch.equal(net.encoder[0].weight, expected.encoder[0].weight)
    assert torch.equal(net.encoder[0].bias, expected.encoder[0].bias)


def test_muon_takes_the_matrices_of_the_encoder_and_adam_w_the_rest():
    net, expected = Net(), Net()
    train(net, make_optimizer("muon", named(net), lr=0.05, weight_decay=0.1), 3)

    hidden = expected.encoder[0].weight
    muon = Muon([hidden], lr=0.05, weight_decay=0.1)
    vectors = [p for p in expected.parameters() if p.ndim == 1]
    groups = [{"params": [expected.embeddings.weight], "weight_decay": 0.1}, {"params": vectors}]
    adam_w = AdamW(groups, lr=0.05, weight_decay=0.0)
    for _ in range(3):
        expected(torch.arange(5)).square().mean().backward()
        muon.step()
        adam_w.step()
        expected.zero_grad()
    torch.testing.assert_close(weights(net), weights(expected))


@pytest.mark.parametrize("name", ["adam_w", "muon", "sgd", "lamb", "novograd", "adam"])
def test_embeddings_and_heads_may_have_learning_rates_of_their_own(name):
    def moved(**rates):
        net = Net()
        before = weights(net)
        train(net, make_optimizer(name, named(net), lr=0.1, weight_decay=0.01, **rates), 1)
        return {name: weight - before[name] for name, weight in weights(net).items()}

    common, own = moved(), moved(lr_embeddings=0.2, lr_head=0.05)
    factors = {"embeddings.weight": 2.0, "decoder.bias": 0.5}  # the tied matrix is an embedding
    assert all(
        torch.allclose(own[name], factors.get(name, 1.0) * common[name], rtol=1e-4, atol=1e-7) for name in own
    )
    assert make_optimizer(name, named(Net()), lr=0.1, lr_head=0.05).param_groups[0]["lr"] == 0.1


@pytest.mark.parametrize("name", NAMES)
def test_the_learning_rate_of_the_groups_counts(name):
    net = Net()
    before = weights(net)
    optimizer = make_optimizer(name, named(net), lr=1.0)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    train(net, optimizer, 1)
    torch.testing.assert_close(weights(net), before, rtol=0, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_a_parameter_with_several_names_is_optimized_once(name):
    net = Net()
    optimizer = make_optimizer(name, named(net), lr=0.1)
    places = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(places) == sorted(id(p) for p in net.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_bias_and_layernorm_decay_only_on_demand(name):
    net = Net()
    plain = make_optimizer(name, named(net), lr=0.1, weight_decay=0.1)
    full = make_optimizer(name, named(net), lr=0.1, weight_decay=0.1, decay_bias_and_norm=True)
    for optimizer, vector_decay in ((plain, 0.0), (full, 0.1)):
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                assert group["weight_decay"] == (0.1 if parameter.ndim > 1 else vector_decay)


def test_larc_goes_with_sgd():
    """A rate of 1e-6 |w| / |g| moves a weight by no more than a millionth of its length."""
    net = Net()
    before = weights(net)
    train(net, make_optimizer("sgd", named(net), lr=1.0, larc=True, larc_eta=1e-6), 1)
    moved = (net.encoder[0].weight - before["encoder.0.weight"]).norm()
    assert 0 < moved < 1.01e-6 * before["encoder.0.weight"].norm()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("steps_before", [0, 2])
def test_training_resumes_bit_for_bit_from_a_saved_state(name, steps_before):
    net = Net()
    optimizer = make_optimizer(name, named(net), lr=0.05, weight_decay=0.1)
    train(net, optimizer, steps_before)
    state = {key: value.clone() for key, value in optimizer_state(optimizer, named(net)).items()}
    resumed_net = Net()
    resumed_net.load_state_dict(net.state_dict())
    resumed = make_optimizer(name, named(resumed_net), lr=0.05, weight_decay=0.1)
    load_optimizer_state(resumed, named(resumed_net), state)

    train(net, optimizer, 2)
    train(resumed_net, resumed, 2)
    assert all(map(torch.equal, weights(net).values(), weights(resumed_net).values()))


def test_loading_a_state_copies_its_tensors():
    net = Net()
    optimizer = make_optimizer("adam_w", named(net), lr=0.1)
    saved = {key: value.clone() for key, value in optimizer_state(optimizer, named(net)).items()}
    load_optimizer_state(optimizer, named(net), saved)
    train(net, optimizer, 1)
    assert not any(value.any() for value in saved.values())


def test_state_is_stored_under_the_first_name():
    net = Net()
    state = optimizer_state(make_optimizer("adam_w", named(net), lr=0.1), named(net))
    tensors = {name for name, _ in net.named_parameters()}
    assert set(state) == {f"{n}.{key}" for n in tensors for key in ("step", "exp_avg", "exp_avg_sq")}


def test_a_frozen_parameter_needs_no_state_but_keeps_what_it_has():
    net = Net()
    net.embeddings.weight.requires_grad = False
    optimizer = make_optimizer("adam_w", named(net), lr=0.1)
    without = optimizer_state(optimizer, named(net))
    assert "embeddings.weight.step" not in without
    load_optimizer_state(optimizer, named(net), without)

    net.embeddings.weight.requires_grad = True
    train(net, optimizer, 1)
    net.embeddings.weight.requires_grad = False
    assert optimizer_state(optimizer, named(net))["embeddings.weight.step"] == 1


def test_an_optimizer_from_elsewhere_round_trips():
    net = Net()
    optimizer = RMSprop(net.parameters(), lr=0.01)
    train(net, optimizer, 2)
    state = optimizer_state(optimizer, named(net))
    other = RMSprop(net.parameters(), lr=0.01)
    load_optimizer_state(other, named(net), state)
    again = optimizer_state(other, named(net))
    assert state.keys() == again.keys()
    assert all(torch.equal(state[key], again[key]) for key in state)


WRONG_STATES = {
    "missing": (lambda s: s.pop("encoder.0.bias.exp_avg"), "encoder.0.bias.exp_avg.*1 missing"),
    "empty": (lambda s: s.clear(), "embeddings.weight.step.*18 missing"),
    "unexpected": (lambda s: s.update({"x.step": torch.zeros(())}), "x.step.*1 unexpected"),
    "shape": (
        lambda s: s.update({"decoder.bias.exp_avg": torch.zeros(4)}),
        r"decoder.bias.exp_avg: .*1 with a different shape.*found torch.float32 \[4\], .*\[5\]",
    ),
    "dtype": (
        lambda s: s.update({"decoder.bias.exp_avg": torch.zeros(5, dtype=torch.half)}),
        "1 with a different shape or type; found torch.float16",
    ),
}


@pytest.mark.parametrize("kind", WRONG_STATES)
def test_a_state_that_does_not_fit_changes_nothing(kind):
    spoil, message = WRONG_STATES[kind]
    net = Net()
    optimizer = make_optimizer("adam_w", named(net), lr=0.1)
    train(net, optimizer, 1)
    before = {key: value.clone() for key, value in optimizer_state(optimizer, named(net)).items()}
    wrong = {key: value + 1 for key, value in before.items()}
    spoil(wrong)
    with pytest.raises(CheckpointError, match=message):
        load_optimizer_state(optimizer, named(net), wrong)
    after = optimizer_state(optimizer, named(net))
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_a_parameter_of_the_optimizer_needs_a_name():
    net = Net()
    optimizer = make_optimizer("adam_w", named(net), lr=0.1)
    with pytest.raises(UsageError, match="parameters without a name; found 1"):
        optimizer_state(optimizer, {k: v for k, v in named(net).items() if k != "decoder.bias"})


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("adamw", {}, "unknown optimizer.*did you mean 'adam_w'"),
        ("adam_w", {"lr": float("nan")}, "lr: out of range"),
        ("adam_w", {"lr": 0.1, "weight_decay": -1}, "weight_decay: out of range"),
        ("adam_w", {"lr": 0.1, "betas": (0.9, 1.0)}, "betas: out of range"),
        ("adam_w", {"lr": 0.1, "luc": True}, "luc is not supported by adam_w"),
        ("novograd", {"lr": 0.1, "larc": True}, "larc is not supported by novograd"),
    ],
)
def test_invalid_optimizer_options_are_refused(name, options, message):
    with pytest.raises(UsageError, match=message):
        make_optimizer(name, named(Net()), **({"lr": 0.1} | options))


def test_a_model_without_parameters_to_optimize_is_refused():
    with pytest.raises(UsageError, match="no parameters"):
        make_optimizer("adam_w", {}, lr=0.1)
    with pytest.raises(UsageError, match="muon needs a model with an encoder"):
        make_optimizer("muon", dict(nn.Linear(2, 2).named_parameters()), lr=0.1)

"""NovoGrad, LAMB and LARC against the equations of their papers, in plain Python numbers."""

import math

import pytest
import torch
from torch import nn
from torch.optim import SGD

from nemo.backends.pytorch.optim.layer_wise import LAMB, NovoGrad, add_larc

WEIGHTS = [3.0, -4.0]
GRADIENTS = [[0.3, 0.4], [-0.6, 0.8], [0.0, 0.1]]


def trained(make_optimizer, gradients=GRADIENTS):
    """The weights after a step with each of the gradients."""
    weight = nn.Parameter(torch.tensor(WEIGHTS))
    optimizer = make_optimizer([weight])
    for gradient in gradients:
        weight.grad = torch.tensor(gradient)
        optimizer.step()
    return weight.tolist()


def norm(values):
    return math.sqrt(sum(value * value for value in values))


def novograd(lr, beta1, beta2, decay, eta=None):
    """Ginsburg et al. 2019, algorithm 1; with `eta` each step is at most eta |w| long."""
    w, m, v = list(WEIGHTS), [0.0, 0.0], None
    for g in GRADIENTS:
        v = norm(g) ** 2 if v is None else beta2 * v + (1 - beta2) * norm(g) ** 2
        m = [beta1 * mi + gi / math.sqrt(v) + decay * wi for mi, gi, wi in zip(m, g, w, strict=True)]
        rate = lr if eta is None else min(lr, eta * norm(w) / norm(m))
        w = [wi - rate * mi for wi, mi in zip(w, m, strict=True)]
    return w


def lamb(lr, beta1, beta2, eps, decay, trust):
    """You et al. 2019, algorithm 2."""
    w, m, v = list(WEIGHTS), [0.0, 0.0], [0.0, 0.0]
    for t, g in enumerate(GRADIENTS, start=1):
        m = [beta1 * mi + (1 - beta1) * gi for mi, gi in zip(m, g, strict=True)]
        v = [beta2 * vi + (1 - beta2) * gi * gi for vi, gi in zip(v, g, strict=True)]
        u = [
            (mi / (1 - beta1**t)) / (math.sqrt(vi / (1 - beta2**t)) + eps) + decay * wi
            for mi, vi, wi in zip(m, v, w, strict=True)
        ]
        ratio = norm(w) / norm(u) if trust else 1
        w = [wi - lr * ratio * ui for wi, ui in zip(w, u, strict=True)]
    return w


def test_first_novograd_step_by_hand():
    """|g| = 0.5, so g / |g| = (0.6, 0.8); with 0.1 of the weight and lr 0.5 it moves (0.45, 0.2)."""
    after = trained(lambda p: NovoGrad(p, lr=0.5, weight_decay=0.1), GRADIENTS[:1])
    assert after == pytest.approx([3 - 0.45, -4 - 0.2])


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_novograd_follows_the_paper(decay):
    after = trained(lambda p: NovoGrad(p, lr=0.02, betas=(0.9, 0.5), weight_decay=decay))
    assert after == pytest.approx(novograd(0.02, 0.9, 0.5, decay), rel=1e-6)


@pytest.mark.parametrize("eta", [0.001, 1.0])
def test_luc_bounds_the_novograd_step(eta):
    after = trained(lambda p: NovoGrad(p, lr=0.02, betas=(0.9, 0.5), luc=True, luc_eta=eta))
    assert after == pytest.approx(novograd(0.02, 0.9, 0.5, 0, eta), rel=1e-6)


def test_first_lamb_step_by_hand():
    """u = g / |g| element by element = (1, 1), |w| = 5: a step of 0.1 * 5 / sqrt(2) each."""
    after = trained(lambda p: LAMB(p, lr=0.1, eps=0), GRADIENTS[:1])
    assert after == pytest.approx([3 - 0.5 / math.sqrt(2), -4 - 0.5 / math.sqrt(2)])


@pytest.mark.parametrize("trust", [True, False])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_lamb_follows_the_paper(decay, trust):
    after = trained(lambda p: LAMB(p, 0.02, (0.9, 0.95), 1e-6, weight_decay=decay, trust_ratio=trust))
    assert after == pytest.approx(lamb(0.02, 0.9, 0.95, 1e-6, decay, trust), rel=1e-6)


def test_lamb_moves_weights_that_are_zero():
    weight = nn.Parameter(torch.zeros(2))
    weight.grad = torch.tensor([2.0, -2.0])
    LAMB([weight], lr=0.1, eps=0).step()
    assert weight.tolist() == pytest.approx([-0.1, 0.1])


@pytest.mark.parametrize("optimizer", [NovoGrad, LAMB])
def test_gradients_of_zero_change_nothing(optimizer):
    assert trained(lambda p: optimizer(p, lr=0.1), [[0.0, 0.0]]) == WEIGHTS


@pytest.mark.parametrize("optimizer", [NovoGrad, LAMB])
def test_a_parameter_may_join_late(optimizer):
    """Its own first step is a first step, whatever the others have done."""
    early, late = nn.Parameter(torch.tensor(WEIGHTS)), nn.Parameter(torch.tensor(WEIGHTS))
    together = optimizer([early, late], lr=0.1)
    early.grad = torch.tensor(GRADIENTS[0])
    together.step()
    assert late.tolist() == WEIGHTS
    late.grad = torch.tensor(GRADIENTS[0])
    together.step()
    assert late.tolist() == pytest.approx(trained(lambda p: optimizer(p, lr=0.1), GRADIENTS[:1]))


@pytest.mark.parametrize("optimizer", [NovoGrad, LAMB])
def test_step_returns_what_the_closure_does(optimizer):
    weight = nn.Parameter(torch.tensor(WEIGHTS))

    def closure():
        loss = weight.square().sum()
        loss.backward()
        return loss.item()

    assert optimizer([weight], lr=0.1).step(closure) == 25
    assert weight[0] < 3


def test_larc_slows_a_tensor_down_to_its_share():
    """|w| = 5, g + decay w = (0.6, 0), |g| + decay |w| = 1: the rate is 0.02 * 5 / 1 = 0.1, not 0.5."""
    weight = nn.Parameter(torch.tensor(WEIGHTS))
    sgd = SGD([weight], lr=0.5, weight_decay=0.1)
    add_larc(sgd, eta=0.02)
    weight.grad = torch.tensor([0.3, 0.4])
    sgd.step()
    assert weight.tolist() == pytest.approx([3 - 0.1 * 0.6, -4], abs=1e-6)


def test_larc_never_speeds_up():
    """0.02 |w| / |g| = 0.2 is more than lr, which therefore holds."""
    weight = nn.Parameter(torch.tensor(WEIGHTS))
    sgd = SGD([weight], lr=0.1)
    add_larc(sgd, eta=0.02)
    weight.grad = torch.tensor([0.3, 0.4])
    sgd.step()
    assert weight.tolist() == pytest.approx([3 - 0.03, -4 - 0.04])

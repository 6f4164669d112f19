"""Muon against its equations, and against torch's own."""

import pytest
import torch
from torch import nn

from nemo.backends.pytorch.optim import muon
from nemo.backends.pytorch.optim.muon import Muon, orthogonal


def random_matrices(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=[False, True], ids=["float32", "bf16"])
def in_bf16(request, monkeypatch):
    """What a processor without bf16 units does, and one with them."""
    monkeypatch.setattr(muon, "has_bf16_units", lambda device: request.param)
    return request.param


@pytest.mark.parametrize("shape", [(3, 6, 6), (2, 4, 9), (2, 9, 4)])
def test_singular_values_approach_one_and_directions_do_not_change(shape, in_bf16):
    matrices = random_matrices(*shape)
    result = orthogonal(matrices)
    assert result.shape == shape and result.dtype == (torch.bfloat16 if in_bf16 else torch.float32)
    result = result.float()
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    turned = left.mT @ result @ right.mT
    values = torch.diagonal(turned, dim1=1, dim2=2)
    assert ((values > 0.5) & (values < 1.3)).all()
    torch.testing.assert_close(turned, torch.diag_embed(values), rtol=0, atol=0.03 if in_bf16 else 1e-4)


def test_bf16_makes_the_same_step_but_for_rounding(monkeypatch):
    """At a real model's sizes, of a gradient whose singular values span four orders of magnitude."""
    left, right = (torch.linalg.qr(random_matrices(2, 256, 256, seed=i))[0] for i in range(2))
    matrices = left * torch.logspace(0, -4, 256) @ right
    steps = []
    for has_units in (False, True):
        monkeypatch.setattr(muon, "has_bf16_units", lambda device, has_units=has_units: has_units)
        steps.append(orthogonal(matrices).float())
    exact, low = steps
    assert (low - exact).norm() < 0.1 * exact.norm()


def test_a_gradient_of_zero_stays_zero():
    assert not orthogonal(torch.zeros(1, 3, 3)).any()


def test_first_step_by_hand(in_bf16):
    """A multiple of the unit matrix becomes r times it, r the quintic at 1/sqrt(2), five times over."""
    r = 0.5**0.5
    for _ in range(5):
        r = 3.4445 * r - 4.7750 * r**3 + 2.0315 * r**5
    weight = nn.Parameter(torch.ones(2, 2))
    weight.grad = 3 * torch.eye(2)
    Muon([weight], lr=0.1, weight_decay=0.5).step()
    step = 0.1 * 0.2 * 2**0.5 * r
    expected = 0.95 * torch.ones(2, 2) - step * torch.eye(2)
    torch.testing.assert_close(weight.detach(), expected, rtol=0, atol=2e-3 if in_bf16 else 1e-6)


def test_steps_equal_those_of_torch(in_bf16):
    """Shapes are mixed, as ours takes those of one shape together; torch computes in bf16."""
    shapes = [(4, 8), (8, 4), (4, 8), (5, 5)]
    ours = [nn.Parameter(random_matrices(*shape)) for shape in shapes]
    theirs = [nn.Parameter(random_matrices(*shape)) for shape in shapes]
    optimizers = (
        Muon(ours, lr=0.1, weight_decay=0.1),
        torch.optim.Muon(theirs, lr=0.1, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
    )
    for step in range(3):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = random_matrices(*a.shape, seed=step + 1)
            b.grad = a.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for a, b, shape in zip(ours, theirs, shapes, strict=True):
        moved = 3 * 0.1 * 0.2 * max(shape) ** 0.5
        torch.testing.assert_close(a, b, rtol=0, atol=0.02 * moved)

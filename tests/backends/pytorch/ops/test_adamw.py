"""The one-pass step and norm are torch's."""

import pytest
import torch

from nemo.backends.pytorch.ops import native
from nemo.backends.pytorch.ops.adamw import adamw_, adamw_reference_, norm_of, rounded
from nemo.backends.pytorch.optim.adamw import OnePassAdamW

SHAPES = [(3,), (17, 5), (1,), (9000, 3), ()]  # more than a block, less than a vector


@pytest.fixture(autouse=True)
def kernels():
    if not native.build():
        pytest.skip(native.library.problem)


def parameters():
    generator = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]


def groups(params):
    return [
        {"params": params[:2], "weight_decay": 0.1},
        {"params": params[2:], "weight_decay": 0.0, "lr": 0.02},
    ]


def test_steps_equal_those_of_torch():
    ours, theirs = parameters(), parameters()
    optimizers = [
        OnePassAdamW(groups(ours), lr=0.01, betas=(0.8, 0.95), eps=1e-6),
        torch.optim.AdamW(groups(theirs), lr=0.01, betas=(0.8, 0.95), eps=1e-6),
    ]
    for step in range(5):
        generator = torch.Generator().manual_seed(step)
        for mine, other in zip(ours, theirs, strict=True):
            mine.grad = torch.randn(mine.shape, generator=generator)
            other.grad = mine.grad.clone()
        ours[3].grad = theirs[3].grad = None if step == 1 else ours[3].grad  # one is left out once
        for optimizer in optimizers:
            optimizer.step()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-6, rtol=1e-6)
        for key, value in optimizers[1].state[other].items():
            torch.testing.assert_close(optimizers[0].state[mine][key], value, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("clip", [1.0, 0.25])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_kernel_equals_reference(clip, dtype):
    def stepped(step):
        tensors = [[p.detach().clone() for p in parameters()] for _ in range(3)]
        tensors[1] = [g.to(dtype) if i % 2 else g for i, g in enumerate(tensors[1])]
        squares = [t.square() for t in tensors[2]]
        settings = {"lr": 0.1, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.01, "clip": clip}
        step(*tensors, squares, [1, 2, 3, 400, 5], **settings)
        return [*tensors[0], *tensors[2], *squares]

    for ours, theirs in zip(stepped(adamw_), stepped(adamw_reference_), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)


def test_a_gradient_scale_lasts_for_one_step():
    (weight,) = params = [torch.nn.Parameter(torch.ones(4))]
    optimizer = OnePassAdamW(params, lr=0.1)
    weight.grad = torch.full((4,), 8.0)
    optimizer.gradient_scale = 0.25
    optimizer.step()
    torch.testing.assert_close(optimizer.state[weight]["exp_avg"], torch.full((4,), 0.2))
    assert optimizer.gradient_scale == 1.0
    assert weight.grad.tolist() == [8.0] * 4


def test_autograd_notices_the_in_place_step():
    (weight,) = params = [torch.nn.Parameter(torch.ones(4))]
    loss = weight.square().sum()
    weight.grad = torch.ones(4)
    OnePassAdamW(params, lr=0.1).step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("threads", [1, 3])
def test_the_norm_is_taken_over_all_tensors(threads):
    tensors = [p.detach() for p in parameters()]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = norm_of(tensors)
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(found, torch.cat([t.flatten() for t in tensors]).norm(), rtol=1e-6, atol=0)
    assert norm_of([]) == 0
    assert norm_of([*tensors, torch.tensor([torch.nan])]).isnan()
    assert norm_of([*tensors, torch.tensor([torch.inf])]).isinf()


def test_the_norm_is_of_either_type():
    tensors = [p.detach().to(torch.bfloat16) if i % 2 else p.detach() for i, p in enumerate(parameters())]
    expected = torch.cat([t.flatten().double() for t in tensors]).norm().float()
    torch.testing.assert_close(norm_of(tensors), expected, rtol=1e-5, atol=0)


def test_copies_are_rounded_as_torch_rounds():
    tensors = [p.detach() * 1000 for p in parameters()]
    tensors[1][0, 0], tensors[1][1, 1] = torch.nan, torch.inf
    for ours, tensor in zip(rounded(tensors), tensors, strict=True):
        torch.testing.assert_close(ours, tensor.bfloat16(), rtol=0, atol=0, equal_nan=True)

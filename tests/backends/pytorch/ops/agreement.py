"""What it means that two functions give the same values and gradients."""

from contextlib import contextmanager

import torch
from torch import Tensor


class Inputs:
    """Random numbers for one test, the same in every run; `dtype` is that of activations and matrices."""

    def __init__(self, dtype: torch.dtype):
        self.dtype = dtype
        self.generator = torch.Generator().manual_seed(0)

    def activations(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator).to(self.dtype).requires_grad_()

    def vector(self, size: int) -> Tensor:
        return torch.randn(size, generator=self.generator).requires_grad_()

    def numbers(self, below: int, count: int) -> Tensor:
        return torch.randint(below, (count,), generator=self.generator)


def outcome(function, arguments):
    """The value, then the gradients of all arguments that have one, with uneven gradients of the value."""
    out = function(*arguments)
    inputs = [x for x in arguments if isinstance(x, Tensor) and x.requires_grad]
    grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return [out.detach(), *torch.autograd.grad(out, inputs, grad.to(out.dtype))]


def kernel_outcome(function, arguments):
    """`outcome`, once it is sure that a kernel gives it and not its reference."""
    assert type(function(*arguments).grad_fn).__name__ == "_NativeBackward"
    return outcome(function, arguments)


def exact_outcome(reference, arguments):
    """`outcome` of the reference in float64, on the very same numbers."""
    return outcome(reference, [_widened(x) for x in arguments])


def assert_agree(found, expected, tolerance):
    """Every tensor has the expected shape, and an error small in relation to the norm of what is expected."""
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape
        difference = (ours.to_dense().double() - theirs.to_dense().double()).norm()
        assert difference <= tolerance * theirs.to_dense().double().norm() + 1e-6 * theirs.numel() ** 0.5


@contextmanager
def threads(count):
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _widened(x):
    if isinstance(x, Tensor) and x.is_floating_point():
        return x.detach().double().requires_grad_(x.requires_grad)
    return x

import pytest
import torch

from nemo.backends.pytorch.ops import native
from nemo.backends.pytorch.ops.linear import linear, transposed


@pytest.mark.parametrize("shape", [(1, 1), (8, 8), (33, 70), (2048, 24), (7, 100), (0, 5)])
def test_transposes_any_shape(shape):
    if not native.build():
        pytest.skip(native.library.problem)
    matrix = torch.randn(shape).bfloat16()
    assert torch.equal(transposed(matrix), matrix.t())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_equal_those_of_a_matrix_product(dtype):
    native.build()
    x = torch.randn(5, 24).to(dtype).requires_grad_()
    weight = torch.randn(9, 24).to(dtype).requires_grad_()
    grad = torch.randn(5, 9).to(dtype)
    found = torch.autograd.grad(linear(x, weight), (x, weight), grad)
    expected = torch.autograd.grad(x.float() @ weight.float().t(), (x, weight), grad.float())
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=0.05, rtol=0.01)

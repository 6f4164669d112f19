"""The GELU kernel gives what its reference gives, far out, too."""

import pytest
import torch
import torch.nn.functional as F

from nemo.backends.pytorch.ops.gelu import bias_gelu, bias_gelu_reference
from tests.backends.pytorch.ops.agreement import Inputs, assert_agree, exact_outcome, kernel_outcome, threads

TOLERANCES = {torch.float32: 1e-6, torch.bfloat16: 5e-3}


def arguments_of(shape, dtype):
    inputs = Inputs(dtype)
    return [inputs.activations(*shape), inputs.vector(shape[1])]


@pytest.mark.parametrize("shape", [(0, 8), (1, 1), (7, 13), (5, 64), (130, 1027)])
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_kernel_equals_reference(shape, dtype, kernels):
    arguments = arguments_of(shape, dtype)
    expected = exact_outcome(bias_gelu_reference, arguments)
    assert_agree(kernel_outcome(bias_gelu, arguments), expected, TOLERANCES[dtype])


@pytest.mark.parametrize("count", [1, 3, 16])
def test_threads_do_not_matter(count, kernels):
    arguments = arguments_of((5, 40), torch.float32)
    expected = exact_outcome(bias_gelu_reference, arguments)
    with threads(count):
        assert_agree(kernel_outcome(bias_gelu, arguments), expected, 1e-6)


def test_kernel_is_right_everywhere(kernels):
    """Element by element, from where nothing is left of a number to where all is."""
    x = torch.linspace(-40, 40, 80001)[None].requires_grad_()
    arguments = [x, torch.zeros(80001, requires_grad=True)]
    found, expected = kernel_outcome(bias_gelu, arguments), exact_outcome(bias_gelu_reference, arguments)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.double(), theirs, atol=1.5e-6, rtol=3e-7)


def test_non_finite_inputs_give_non_finite_results(kernels):
    x = torch.tensor([[0.0, float("nan"), float("inf"), 1.0]], requires_grad=True)
    found = bias_gelu(x, torch.zeros(4, requires_grad=True))
    (grad,) = torch.autograd.grad(found.sum(), x)
    assert found.isfinite().tolist() == [[True, False, False, True]]
    assert grad.isnan().tolist()[0][1]


def test_inputs_may_be_strided(kernels):
    x, bias = arguments_of((6, 20), torch.float32)
    strided = [torch.stack([t.detach(), t.detach()], -1)[..., 0].requires_grad_() for t in (x, bias)]
    assert_agree(kernel_outcome(bias_gelu, strided), exact_outcome(bias_gelu_reference, [x, bias]), 1e-6)


def test_the_input_is_not_changed(kernels):
    x, bias = arguments_of((6, 20), torch.float32)
    before = x.detach().clone()
    bias_gelu(x, bias).sum().backward()
    assert torch.equal(x, before)


def test_reference_equals_torch():
    x, bias = (t.double() for t in arguments_of((6, 10), torch.float64))
    torch.testing.assert_close(bias_gelu_reference(x, bias), F.gelu(x + bias))


def test_reference_has_the_gradient_of_its_value():
    tensors = [t.detach().double().requires_grad_() for t in arguments_of((3, 4), torch.float64)]
    assert torch.autograd.gradcheck(bias_gelu_reference, tensors)


def test_is_one_graph_under_compile(kernels):
    arguments = arguments_of((6, 20), torch.float32)
    compiled = torch.compile(bias_gelu, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(*arguments), bias_gelu_reference(*arguments))


def test_shapes_that_do_not_fit_are_refused(kernels):
    with pytest.raises(RuntimeError):
        bias_gelu(torch.randn(6, 20), torch.randn(19))

"""The kernel of dropout, sum and norm gives what its reference gives, and the reference what torch gives."""

import pytest
import torch
import torch.nn.functional as F

from nemo.backends.pytorch.ops.norm import dropout_add_norm, dropout_add_norm_reference
from tests.backends.pytorch.ops.agreement import Inputs, assert_agree, exact_outcome, kernel_outcome, threads

TOLERANCES = {torch.float32: 2e-6, torch.bfloat16: 8e-3}
SEED = 4123456789


def arguments_of(shape, dtype, p, eps=1e-12):
    inputs = Inputs(dtype)
    x, residual = inputs.activations(*shape), inputs.activations(*shape)
    bias, weight, norm_bias = (inputs.vector(shape[1]) for _ in range(3))
    return [x, bias, residual, weight, norm_bias, eps, p, SEED]


@pytest.mark.parametrize("shape", [(0, 8), (1, 13), (7, 5), (5, 64), (130, 771)])
@pytest.mark.parametrize("p", [0.0, 0.1, 0.7])
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_kernel_equals_reference(shape, p, dtype, kernels):
    arguments = arguments_of(shape, dtype, p)
    expected = exact_outcome(dropout_add_norm_reference, arguments)
    assert_agree(kernel_outcome(dropout_add_norm, arguments), expected, TOLERANCES[dtype])


@pytest.mark.parametrize("count", [1, 3, 16])
def test_threads_do_not_matter(count, kernels):
    arguments = arguments_of((5, 40), torch.float32, 0.1)
    expected = exact_outcome(dropout_add_norm_reference, arguments)
    with threads(count):
        assert_agree(kernel_outcome(dropout_add_norm, arguments), expected, 2e-6)


def test_a_large_mean_costs_no_precision(kernels):
    arguments = arguments_of((4, 300), torch.float32, 0.0)
    arguments[2] = (arguments[2].detach() + 1000).requires_grad_()
    (found, *_), (expected, *_) = (
        kernel_outcome(dropout_add_norm, arguments),
        exact_outcome(dropout_add_norm_reference, arguments),
    )
    torch.testing.assert_close(found.double(), expected, atol=1e-3, rtol=0)


def test_inputs_may_be_strided(kernels):
    arguments = arguments_of((6, 20), torch.float32, 0.1)
    strided = [
        torch.stack([x.detach(), x.detach()], -1)[..., 0].requires_grad_() if torch.is_tensor(x) else x
        for x in arguments
    ]
    expected = exact_outcome(dropout_add_norm_reference, arguments)
    assert_agree(kernel_outcome(dropout_add_norm, strided), expected, 2e-6)


@pytest.mark.parametrize("number", range(3))
def test_non_finite_inputs_give_non_finite_results(number, kernels):
    arguments = [x.detach() if torch.is_tensor(x) else x for x in arguments_of((3, 30), torch.float32, 0.0)]
    arguments[number].view(-1)[17] = float("nan")
    found = dropout_add_norm(*arguments)
    assert torch.equal(found.isnan(), dropout_add_norm_reference(*arguments).isnan())
    assert found.isnan().any()


def test_reference_equals_torch():
    x, bias, residual, weight, norm_bias, eps, *_ = arguments_of((6, 10), torch.float64, 0.0)
    found = dropout_add_norm_reference(x, bias.double(), residual, weight.double(), norm_bias.double(), eps)
    expected = F.layer_norm(residual + x + bias, (10,), weight.double(), norm_bias.double(), eps)
    torch.testing.assert_close(found, expected)


def test_reference_has_the_gradient_of_its_value():
    *tensors, eps, p, seed = arguments_of((3, 4), torch.float64, 0.4, eps=1e-5)
    tensors = [x.detach().double().requires_grad_() for x in tensors]
    assert torch.autograd.gradcheck(lambda *t: dropout_add_norm_reference(*t, eps, p, seed), tensors)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_types_are_the_references(dtype):
    x, residual, *vectors = (torch.randn(shape).to(dtype) for shape in [(3, 8), (3, 8), 8, 8, 8])
    out = dropout_add_norm(x, vectors[0], residual, vectors[1], vectors[2], 1e-12, 0.1, SEED)
    assert out.dtype == dtype


@pytest.mark.slow
def test_is_one_graph_under_compile(kernels):
    arguments = arguments_of((6, 20), torch.float32, 0.1)
    compiled = torch.compile(dropout_add_norm, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(*arguments), dropout_add_norm_reference(*arguments))


@pytest.mark.parametrize("number", range(5))
def test_shapes_that_do_not_fit_are_refused(number, kernels):
    arguments = arguments_of((6, 20), torch.float32, 0.1)
    arguments[number] = torch.randn(arguments[number].shape)[..., :19]
    with pytest.raises(RuntimeError):
        dropout_add_norm(*arguments)

"""The cross entropy kernel gives what its reference gives, in one buffer of scores."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from nemo.backends.pytorch.ops.cross_entropy import linear_cross_entropy, linear_cross_entropy_reference
from tests.backends.pytorch.ops.agreement import Inputs, assert_agree, exact_outcome, kernel_outcome, threads

TOLERANCES = {torch.float32: 5e-6, torch.bfloat16: 1e-2}


def arguments_of(shape, dtype, smoothing=0.0, has_bias=True):
    rows, width, classes = shape
    inputs = Inputs(dtype)
    hidden, weight = inputs.activations(rows, width), inputs.activations(classes, width)
    labels = inputs.numbers(classes, rows)
    labels[1::3] = -100
    return [hidden, weight, inputs.vector(classes) if has_bias else None, labels, smoothing]


@pytest.mark.parametrize("shape", [(0, 8, 5), (1, 13, 1), (7, 3, 10), (20, 16, 64), (50, 40, 1003)])
@pytest.mark.parametrize(("smoothing", "has_bias"), [(0.0, True), (0.1, True), (0.3, False)])
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_kernel_equals_reference(shape, smoothing, has_bias, dtype, kernels):
    arguments = arguments_of(shape, dtype, smoothing, has_bias)
    found = kernel_outcome(linear_cross_entropy, arguments)
    assert found[0].dtype == torch.float32
    assert_agree(found, exact_outcome(linear_cross_entropy_reference, arguments), TOLERANCES[dtype])


@pytest.mark.parametrize("count", [1, 3, 16])
def test_threads_do_not_matter(count, kernels):
    arguments = arguments_of((5, 40, 11), torch.float32, 0.1)
    expected = exact_outcome(linear_cross_entropy_reference, arguments)
    with threads(count):
        assert_agree(kernel_outcome(linear_cross_entropy, arguments), expected, 5e-6)


def test_rows_without_a_label_are_ignored(kernels):
    hidden, weight, bias, labels, smoothing = arguments_of((6, 4, 9), torch.float32)
    losses = linear_cross_entropy(hidden, weight, bias, labels, smoothing)
    (grad,) = torch.autograd.grad(losses.sum(), hidden)
    assert losses[1] == 0
    assert grad[1].tolist() == [0.0] * 4
    assert (losses[[0, 2, 3, 5]] > 0).all()


def test_no_row_means_gradients_of_zero(kernels):
    hidden, weight, bias, labels, smoothing = arguments_of((0, 4, 9), torch.float32)
    linear_cross_entropy(hidden, weight, bias, labels, smoothing).sum().backward()
    assert weight.grad.count_nonzero() == bias.grad.count_nonzero() == 0


@pytest.mark.parametrize("size", [80.0, 1e4, 1e30])
def test_large_scores_do_not_overflow(size, kernels):
    """Two classes, the right one with 0 and the other with +-`size`."""
    weight, labels = torch.zeros(2, 1), torch.tensor([0, 0])
    hidden, weight[1] = torch.tensor([[1.0], [-1.0]]), size
    found = linear_cross_entropy(hidden, weight, None, labels)
    torch.testing.assert_close(found, torch.tensor([size, 0.0]))


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_classes_with_a_bias_of_minus_infinity_are_ignored(dtype, kernels):
    hidden, weight, bias, labels, smoothing = arguments_of((6, 4, 100), dtype)
    with torch.no_grad():
        bias[:70] = -torch.inf
    labels = labels.clamp(min=70)
    found = kernel_outcome(linear_cross_entropy, [hidden, weight, bias, labels, smoothing])
    of_others = exact_outcome(
        linear_cross_entropy_reference, [hidden, weight[70:], bias[70:], labels - 70, 0.0]
    )
    assert_agree(found[:2], of_others[:2], TOLERANCES[dtype])


@pytest.mark.parametrize("number", range(3))
def test_non_finite_inputs_give_non_finite_results(number, kernels):
    arguments = arguments_of((5, 4, 9), torch.float32)
    with torch.no_grad():
        arguments[number].view(-1)[3] = float("nan")
        found = linear_cross_entropy(*arguments)
        assert torch.equal(found.isnan(), linear_cross_entropy_reference(*arguments).isnan())
        assert found.isnan().any()


@pytest.mark.parametrize("label", [9, -1, -101])
def test_a_label_beyond_the_classes_is_refused(label, kernels):
    hidden, weight, bias, labels, smoothing = arguments_of((5, 4, 9), torch.float32)
    labels[2] = label
    with pytest.raises(IndexError):
        linear_cross_entropy(hidden, weight, bias, labels, smoothing)


@pytest.mark.parametrize("frozen", [(0,), (1,), (2,), (0, 2), (1, 2)])
def test_frozen_tensors_get_no_gradient(frozen, kernels):
    arguments = arguments_of((5, 4, 9), torch.float32)
    for number in frozen:
        arguments[number].requires_grad_(False)
    found = kernel_outcome(linear_cross_entropy, arguments)
    assert_agree(found, exact_outcome(linear_cross_entropy_reference, arguments), 5e-6)


def test_without_gradients_the_losses_are_the_same(kernels):
    arguments = arguments_of((5, 4, 9), torch.float32, 0.1)
    with torch.no_grad():
        assert torch.equal(linear_cross_entropy(*arguments), linear_cross_entropy(*arguments).detach())
        found = linear_cross_entropy(*arguments)
    assert torch.equal(found, linear_cross_entropy(*arguments))


def test_inputs_may_be_strided(kernels):
    arguments = arguments_of((6, 20, 11), torch.float32)
    strided = [
        torch.stack([x.detach(), x.detach()], -1)[..., 0] if torch.is_tensor(x) else x for x in arguments
    ]
    for x in strided[:3]:
        x.requires_grad_()
    expected = exact_outcome(linear_cross_entropy_reference, arguments)
    assert_agree(kernel_outcome(linear_cross_entropy, strided), expected, 5e-6)


def test_backward_can_be_had_twice(kernels):
    hidden, *rest = arguments_of((6, 20, 11), torch.float32)
    losses = linear_cross_entropy(hidden, *rest)
    first, second = (torch.autograd.grad(losses.sum(), hidden, retain_graph=True) for _ in range(2))
    assert torch.equal(first[0], second[0])


def test_an_upstream_gradient_keeps_its_precision(kernels):
    """1/3 is a part of every gradient; rounded to bfloat16 it would scale them all alike."""
    hidden, weight, bias, labels, _ = arguments_of((64, 64, 100), torch.bfloat16)
    losses = linear_cross_entropy(hidden, weight, bias, labels)
    for ours, theirs in zip(
        torch.autograd.grad(losses.sum() / 3, (hidden, weight), retain_graph=True),
        torch.autograd.grad(losses.sum(), (hidden, weight)),
        strict=True,
    ):
        assert (ours.double().norm() / theirs.double().norm()).item() == pytest.approx(1 / 3, rel=3e-4)


def test_scores_and_their_gradient_share_one_buffer(kernels):
    rows, width, classes = 37, 8, 1009
    buffers = set()

    class Buffers(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor) and out.numel() == rows * classes:
                buffers.add(out.untyped_storage().data_ptr())
                alive.append(out)
            return out

    alive = []  # so that no address is used again
    arguments = arguments_of((rows, width, classes), torch.float32, 0.1)
    with Buffers():
        linear_cross_entropy(*arguments).sum().backward()
    assert len(buffers) == 1


def test_autocast_computes_scores_in_bfloat16(kernels):
    arguments = arguments_of((20, 16, 64), torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = linear_cross_entropy(*arguments)
    found = [losses.detach(), *torch.autograd.grad(losses.sum(), arguments[:3])]
    assert [x.dtype for x in found] == [torch.float32] * 4
    losses = linear_cross_entropy_reference(*arguments)
    expected = [losses.detach(), *torch.autograd.grad(losses.sum(), arguments[:3])]
    assert_agree(found, expected, 1e-2)


def test_reference_equals_torch():
    hidden, weight, bias, labels, _ = arguments_of((6, 10, 7), torch.float64)
    scores = F.linear(hidden, weight, bias.double())
    torch.testing.assert_close(
        linear_cross_entropy_reference(hidden, weight, bias.double(), labels, 0.2),
        F.cross_entropy(scores, labels, reduction="none", label_smoothing=0.2),
    )


def test_reference_has_the_gradient_of_its_value():
    *tensors, labels, smoothing = arguments_of((4, 3, 5), torch.float64, 0.1)
    tensors = [x.detach().double().requires_grad_() for x in tensors]
    assert torch.autograd.gradcheck(lambda *t: linear_cross_entropy_reference(*t, labels, smoothing), tensors)


@pytest.mark.slow
def test_is_one_graph_under_compile(kernels):
    arguments = arguments_of((6, 20, 11), torch.float32)
    compiled = torch.compile(linear_cross_entropy, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(*arguments), linear_cross_entropy_reference(*arguments))


@pytest.mark.parametrize("number", range(4))
def test_shapes_that_do_not_fit_are_refused(number, kernels):
    arguments = arguments_of((6, 20, 11), torch.float32)
    arguments[number] = arguments[number][..., :5]
    with pytest.raises((RuntimeError, ValueError)):
        linear_cross_entropy(*arguments)

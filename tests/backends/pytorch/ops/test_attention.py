"""The attention kernel gives what its reference gives, and the reference what torch gives."""

import ctypes
import subprocess
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from nemo.backends.pytorch.ops import native
from nemo.backends.pytorch.ops.attention import PackedSequences, attention, attention_reference

# Lengths of sequences, how many of their tokens ask (None: all), heads, width of a head, dropout.
CASES = {
    "short": ([5, 17, 1], None, 3, 8, 0.0),
    "one sequence is empty, some tokens ask": ([5, 17, 0, 33], [2, 0, 0, 7], 3, 8, 0.3),
    "odd width": ([9, 40], None, 1, 13, 0.1),
    "several blocks of queries": ([300, 7], [270, 2], 2, 64, 0.1),
    "tokens of a sequence without keys ask": ([6, 0, 4], [2, 3, 1], 2, 8, 0.2),
    "nothing asks": ([4, 2], [0, 0], 2, 4, 0.0),
}


def sequences_of(lengths, asking):
    offsets = torch.tensor([0, *lengths]).cumsum(0).int()
    queries = offsets if asking is None else torch.tensor([0, *asking]).cumsum(0).int()
    return PackedSequences(queries, offsets, int(queries.diff().max()), max(lengths))


def output_and_gradients(function, case, dtype, compute=None):
    """The output and the gradients of all inputs, float32; inputs are rounded to `dtype`."""
    lengths, asking, heads, width, p = case
    generator = torch.Generator().manual_seed(0)
    hidden, tokens = heads * width, sum(lengths)
    asked = tokens if asking is None else sum(asking)

    def drawn(*shape):
        return torch.randn(shape, generator=generator).to(dtype).to(compute or dtype)

    query = None if asking is None else drawn(asked, hidden).requires_grad_()
    projections = drawn(tokens, (3 if asking is None else 2) * hidden).requires_grad_()
    bias = torch.randn(3 * hidden, generator=generator).requires_grad_()
    inputs = [x for x in (query, projections, bias) if x is not None]
    grad = drawn(asked, hidden)
    out = function(query, projections, bias, sequences_of(lengths, asking), heads, p, 123456789)
    return [x.float() for x in (out.detach(), *torch.autograd.grad(out, inputs, grad))]


def assert_close(found, expected, tolerance):
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape
        difference = (ours - theirs).norm() / theirs.norm().clamp(min=1e-6)
        assert difference < tolerance


@pytest.fixture
def kernels():
    if not native.build():
        pytest.skip(native.library.problem)
    return native.library.kernels


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 5e-6), (torch.bfloat16, 2e-2)])
def test_kernel_equals_reference(case, dtype, tolerance, kernels):
    expected = output_and_gradients(attention_reference, case, dtype, torch.float32)
    assert_close(output_and_gradients(attention, case, dtype), expected, tolerance)


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_do_not_matter(threads, kernels):
    case = CASES["several blocks of queries"]
    expected = output_and_gradients(attention_reference, case, torch.float32)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert_close(output_and_gradients(attention, case, torch.float32), expected, 5e-6)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("has_product", [True, False])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_kernel_multiplies_bf16_with_units_and_without(case, has_product, kernels, tmp_path):
    """With a stand-in for the product that only some processors have."""
    library = tmp_path / "product.so"
    source = Path(__file__).with_name("paired_product.cpp")
    subprocess.run(["g++", "-O2", "-shared", "-fPIC", str(source), "-o", str(library)], check=True)
    product = ctypes.CDLL(str(library))
    sgemm = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so")).sgemm_
    expected = output_and_gradients(attention_reference, case, torch.bfloat16, torch.float32)
    functions = (sgemm, product.paired_product, product.release) if has_product else (sgemm, None, None)
    kernels.use_matrix_products(*(ctypes.cast(function, ctypes.c_void_p) for function in functions))
    try:
        found = output_and_gradients(attention, case, torch.bfloat16)
    finally:
        native.use_matrix_products_of_torch(kernels)
    assert_close(found, expected, 2e-2)


@pytest.mark.parametrize("asking", [None, [3, 1]])
def test_reference_equals_torch_attention(asking):
    heads, width, lengths = 3, 4, [6, 4]
    torch.manual_seed(0)
    asked = sum(lengths if asking is None else asking)
    query = torch.randn(asked, heads * width, dtype=torch.float64)
    rest = torch.randn(sum(lengths), 2 * heads * width, dtype=torch.float64)
    bias = torch.randn(3 * heads * width, dtype=torch.float64)
    sequences = sequences_of(lengths, asking)
    given = (None, torch.cat([query, rest], 1)) if asking is None else (query, rest)
    found = attention_reference(*given, bias, sequences, heads)

    for queries, keys, rows in zip(
        (query + bias[:12]).split(asking or lengths),
        (rest + bias[12:]).split(lengths),
        found.split(asking or lengths),
        strict=True,
    ):
        q, k, v = (x.unflatten(-1, (heads, width)).transpose(0, 1) for x in (queries, *keys.chunk(2, 1)))
        expected = F.scaled_dot_product_attention(q, k, v).transpose(0, 1).flatten(1)
        torch.testing.assert_close(rows, expected)


def test_reference_has_the_gradient_of_its_value():
    case = sequences_of([3, 2], [2, 1])
    query = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    rest = torch.randn(5, 8, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(12, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda *inputs: attention_reference(*inputs, case, 2, 0.4, 99), (query, rest, bias)
    )


def test_a_kernel_repeats_itself_to_the_bit(kernels):
    case = ([30, 2, 61, 8, 44, 17], None, 4, 16, 0.1)
    first = output_and_gradients(attention, case, torch.float32)
    for _ in range(20):  # which thread works on which sequence differs from time to time
        again = output_and_gradients(attention, case, torch.float32)
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))

"""The embedding kernel gives what its reference gives; its gradient joins that of a tied head."""

import pytest
import torch

from nemo.backends.pytorch.ops.cross_entropy import linear_cross_entropy
from nemo.backends.pytorch.ops.embedding import embedding_sum, embedding_sum_reference
from tests.backends.pytorch.ops.agreement import Inputs, assert_agree, exact_outcome, kernel_outcome, threads

WORDS, POSITIONS, TYPES = 50, 12, 2
TOLERANCES = {torch.float32: 1e-6, torch.bfloat16: 5e-3}


def arguments_of(shape, dtype, padding_idx=None, sparse=False):
    count, width = shape
    inputs = Inputs(dtype)
    indices = [inputs.numbers(below, count) for below in (WORDS, TYPES, POSITIONS)]
    tables = [inputs.activations(below, width) for below in (WORDS, POSITIONS, TYPES)]
    return [*indices, *tables, padding_idx, sparse]


@pytest.mark.parametrize("shape", [(0, 8), (1, 1), (7, 13), (5, 64), (700, 771)])
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_kernel_equals_reference(shape, sparse, dtype, kernels):
    arguments = arguments_of(shape, dtype, padding_idx=3, sparse=sparse)
    expected = exact_outcome(embedding_sum_reference, arguments)
    found = kernel_outcome(embedding_sum, arguments)
    assert found[1].is_sparse == sparse
    assert_agree(found, expected, TOLERANCES[dtype])


@pytest.mark.parametrize("count", [1, 3, 16])
def test_threads_do_not_matter(count, kernels):
    arguments = arguments_of((5, 40), torch.float32)
    expected = exact_outcome(embedding_sum_reference, arguments)
    with threads(count):
        assert_agree(kernel_outcome(embedding_sum, arguments), expected, 1e-6)


def test_the_gradient_of_one_repeated_word_is_summed_in_float32(kernels):
    """Its gradient is summed in float32: in bfloat16, 1000 ones would be 256."""
    _, *rest = arguments_of((1000, 5), torch.bfloat16)
    ids = torch.full((1000,), 7)
    word = rest[2]
    (grad,) = torch.autograd.grad(embedding_sum(ids, *rest).sum(), word)
    assert grad[7].tolist() == [1000.0] * 5
    assert grad.count_nonzero() == 5


def test_sparse_gradient_names_each_word_once_in_order(kernels):
    ids, *rest = arguments_of((300, 5), torch.float32, sparse=True)
    (grad,) = torch.autograd.grad(embedding_sum(ids, *rest).sum(), rest[2])
    assert grad.is_coalesced()
    assert torch.equal(grad.indices()[0], ids.unique())


@pytest.mark.parametrize("sparse", [False, True])
def test_padding_gets_no_gradient(sparse, kernels):
    ids, *rest = arguments_of((300, 5), torch.float32, padding_idx=3, sparse=sparse)
    assert 3 in ids
    (grad,) = torch.autograd.grad(embedding_sum(ids, *rest).sum(), rest[2])
    assert grad.to_dense()[3].tolist() == [0.0] * 5


def test_tied_gradients_become_one_dense_gradient(kernels):
    """That of the head and that of the embedding, over two batches; padding gets the head's only."""
    grads = []
    for function, sparse in ((embedding_sum, True), (embedding_sum_reference, False)):
        ids, types, positions, word, position, type_, *_ = arguments_of((30, 16), torch.float32)
        for batch in (ids, ids.flip(0)):
            hidden = function(batch, types, positions, word, position, type_, 3, sparse)
            linear_cross_entropy(hidden, word, None, batch.roll(1)).sum().backward()
        grads.append(word.grad)
    assert not grads[0].is_sparse
    torch.testing.assert_close(*grads)


@pytest.mark.parametrize(("number", "size"), list(enumerate((WORDS, TYPES, POSITIONS))))
@pytest.mark.parametrize("wrong", [-1, 0])
def test_an_index_beyond_a_table_is_refused(number, size, wrong, kernels):
    arguments = arguments_of((5, 4), torch.float32)
    arguments[number][2] = wrong or size
    with pytest.raises(IndexError):
        embedding_sum(*arguments)


def test_frozen_tables_get_no_gradient(kernels):
    arguments = arguments_of((5, 4), torch.float32)
    arguments[3].requires_grad_(False)
    found = kernel_outcome(embedding_sum, arguments)
    assert_agree(found, exact_outcome(embedding_sum_reference, arguments), 1e-6)


def test_reference_has_the_gradient_of_its_value():
    ids, types, positions, *tables, padding_idx, sparse = arguments_of((9, 3), torch.float64)
    assert torch.autograd.gradcheck(
        lambda *t: embedding_sum_reference(ids, types, positions, *t, padding_idx, sparse), tables
    )


def test_is_one_graph_under_compile(kernels):
    arguments = arguments_of((6, 20), torch.float32)
    compiled = torch.compile(embedding_sum, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(*arguments), embedding_sum_reference(*arguments))


@pytest.mark.parametrize("number", range(6))
def test_shapes_that_do_not_fit_are_refused(number, kernels):
    arguments = arguments_of((6, 20), torch.float32)
    arguments[number] = arguments[number][..., :5]
    with pytest.raises(RuntimeError):
        embedding_sum(*arguments)


def test_indices_may_be_of_any_integer_type(kernels):
    arguments = arguments_of((6, 20), torch.float32)
    narrow = [x.int() for x in arguments[:3]] + arguments[3:]
    assert torch.equal(embedding_sum(*narrow), embedding_sum(*arguments))

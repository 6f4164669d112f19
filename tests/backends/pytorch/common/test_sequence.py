"""Embeddings of sequences."""

import torch

from nemo.backends.pytorch.common import SequenceEmbedding
from nemo.core import ChannelType


def test_every_token_gets_its_vector():
    module = SequenceEmbedding(voc_size=8, hidden_size=16)
    tokens = torch.tensor([[1, 2, 2], [7, 0, 1]])
    vectors = module(input_seq=tokens, force_pt=True)
    assert vectors.shape == (2, 3, 16)
    assert torch.equal(vectors[0, 1], module.embedding.weight[2])
    assert module.num_weights == 8 * 16
    assert list(module.get_weights()) == ["embedding.weight"]


def test_vectors_are_dropped_in_training_only():
    module = SequenceEmbedding(8, 400, dropout=0.5)
    tokens = torch.tensor([[3]])
    assert 100 < module(tokens).count_nonzero() < 300
    assert module.eval()(tokens).count_nonzero() == 400


def test_ports_have_the_expected_axes():
    module = SequenceEmbedding(8, 16)
    assert {n: [str(a) for a in p.axes] for n, p in module.input_ports.items()} == {
        "input_seq": ["batch", "time"]
    }
    (outputs,) = module.output_ports.values()
    assert [str(axis) for axis in outputs.axes] == ["batch", "time", "dimension"]
    assert isinstance(outputs.elements_type, ChannelType)

"""Starting weights from counting."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from nemo.collections.nlp.initialization import (
    OFFSETS,
    neighbour_tables,
    start_from_counts,
    word_vectors,
)
from nemo.collections.nlp.nm.trainables.common.huggingface import BERT
from nemo.collections.nlp.pretraining_model import with_heads


def store(*documents):
    """What `start_from_counts` reads of a token store; every document is one sentence."""
    lengths = [len(document) for document in documents]
    return SimpleNamespace(
        tokens=np.concatenate([np.array(d, dtype=np.uint16) for d in documents]),
        sentence_offsets=np.concatenate([[0], np.cumsum(lengths)]),
        document_offsets=np.arange(len(documents) + 1),
    )


def test_neighbours_are_counted_within_documents_by_hand():
    # Pairs at distance 1: (5, 6) twice, (6, 5) once; nothing across the end of a document.
    tables = neighbour_tables(store([5, 6, 5, 6], [7]), vocab_size=8)
    dense = tables[1].to_dense()
    # PMI of (5, 6): log(2 * 3 / (2 * 2)), times 2 / (2 + 1/2)
    assert dense[5, 6] == pytest.approx(math.log(1.5) * 0.8)
    assert dense[6, 5] == pytest.approx(math.log(3.0) / 1.5)
    assert torch.count_nonzero(dense) == 2
    assert torch.count_nonzero(tables[2].to_dense()) == 2  # (5, 5) and (6, 6)


def test_words_with_the_same_neighbours_get_the_same_vector():
    rng = np.random.default_rng(0)
    # 5 and 6 stand between the same words, 7 never does.
    text = [token for _ in range(500) for token in (8, rng.choice([5, 6]), 9, 10, 7, 11)]
    tables = neighbour_tables(store(text), vocab_size=12)
    vectors = word_vectors(tables, size=4, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(vectors[[5, 6, 7, 8]].norm(dim=1), torch.ones(4), atol=1e-5)
    assert vectors[5] @ vectors[6] > 0.95
    assert vectors[5] @ vectors[7] < 0.5


@pytest.fixture
def started():
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    text = store(*(rng.integers(5, 40, size=50) for _ in range(40)))
    model = with_heads(
        BERT(
            vocab_size=40,
            hidden_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=64,
            max_position_embeddings=32,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
    )
    start_from_counts(model.bert, model.mlm, text, special_ids=np.arange(5))
    return model, text


def test_the_first_heads_look_at_their_neighbours(started):
    model, _ = started
    encoder = model.bert.bert
    ids = torch.randint(5, 40, (1, 32))
    hidden = encoder.embeddings(ids[0], torch.zeros_like(ids[0]), torch.arange(32))[None]
    attention = encoder.encoder.layer[0].attention.self
    query, key = (f(hidden).unflatten(-1, (4, 32)).transpose(1, 2) for f in (attention.query, attention.key))
    most = (query @ key.transpose(-1, -2)).argmax(-1)[0]  # [heads, T]
    for head, offset in enumerate(OFFSETS):
        here = torch.arange(2, 30)
        assert torch.equal(most[head, here], here + offset)


def test_the_bias_holds_the_frequencies_and_the_tie_stays(started):
    model, text = started
    bias = model.mlm.mlp.last_linear_layer.bias.detach()
    counts = np.bincount(text.tokens, minlength=40)
    assert int(bias.argmax()) == int(counts.argmax())
    assert bias[7] - bias[8] == pytest.approx(math.log((counts[7] + 0.5) / (counts[8] + 0.5)), abs=1e-5)
    assert (bias[:5] == bias.min()).all()
    assert model.mlm.mlp.last_linear_layer.weight is model.bert.bert.embeddings.word_embeddings.weight


@pytest.mark.parametrize("heads", [1, 2, 8, 12])
def test_every_weight_is_finite_for_any_number_of_heads(heads):
    text = store(*(np.arange(5, 12) for _ in range(3)))
    model = with_heads(
        BERT(
            vocab_size=12,
            hidden_size=24,
            num_hidden_layers=1,
            num_attention_heads=heads,
            intermediate_size=8,
        )
    )
    start_from_counts(model.bert, model.mlm, text, special_ids=np.arange(5))
    for part in model.parts:
        assert all(torch.isfinite(parameter).all() for parameter in part.parameters())

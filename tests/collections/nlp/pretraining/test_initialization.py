"""Starting weights from counting."""

import math
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from nemo.collections.nlp.nm.pretraining_model import with_heads
from nemo.collections.nlp.nm.trainables.common.huggingface import BERT
from nemo.collections.nlp.pretraining import initialization
from nemo.collections.nlp.pretraining.initialization import (
    OFFSETS,
    neighbor_tables,
    start_from_counts,
    word_vectors,
)


def store(*documents):
    """What `start_from_counts` reads of a token store; every document is one sentence."""
    lengths = [len(document) for document in documents]
    return SimpleNamespace(
        tokens=np.concatenate([np.array(d, dtype=np.uint16) for d in documents]),
        sentence_offsets=np.concatenate([[0], np.cumsum(lengths)]),
        document_offsets=np.arange(len(documents) + 1),
    )


def test_neighbors_are_counted_within_documents_by_hand():
    # Pairs at distance 1: (5, 6) twice, (6, 5) once; nothing across the end of a document.
    tables = neighbor_tables(store([5, 6, 5, 6], [7]), vocab_size=8)
    dense = tables[1].to_dense()
    # PMI of (5, 6): log(2 * 3 / (2 * 2)), times 2 / (2 + 1/2)
    assert dense[5, 6] == pytest.approx(math.log(1.5) * 0.8)
    assert dense[6, 5] == pytest.approx(math.log(3.0) / 1.5)
    assert torch.count_nonzero(dense) == 2
    assert torch.count_nonzero(tables[2].to_dense()) == 2  # (5, 5) and (6, 6)


def test_words_with_the_same_neighbors_get_the_same_vector():
    rng = np.random.default_rng(0)
    # 5 and 6 stand between the same words, 7 never does.
    text = [token for _ in range(500) for token in (8, rng.choice([5, 6]), 9, 10, 7, 11)]
    tables = neighbor_tables(store(text), vocab_size=12)
    vectors = word_vectors(tables, size=4, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(vectors[[5, 6, 7, 8]].norm(dim=1), torch.ones(4, dtype=torch.float64), atol=1e-5)
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


def test_the_first_heads_look_at_their_neighbors(started):
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
    for module in model.neural_modules:
        assert all(torch.isfinite(parameter).all() for parameter in module.parameters())


def weights_of(text, vocab_size=80, hidden_size=64):
    """Every weight of a model that starts from counts, by name."""
    torch.manual_seed(0)
    model = with_heads(
        BERT(
            vocab_size=vocab_size,
            hidden_size=hidden_size,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=8,
        )
    )
    start_from_counts(model.bert, model.mlm, text, special_ids=np.arange(5))
    return {
        f"{i} {name}": p.detach()
        for i, module in enumerate(model.neural_modules)
        for name, p in module.named_parameters()
    }


def same(found, expected, atol):
    return all(torch.allclose(found[name], expected[name], rtol=0, atol=atol) for name in expected)


def chance(documents, size, low=5, high=80):
    rng = np.random.default_rng(1)
    return store(*(rng.integers(low, high, size=size) for _ in range(documents)))


TEXTS = {
    "by chance": chance(60, size=50),
    "of fewer words than dimensions": chance(40, size=30, low=50, high=70),
    # Each pair of words has the same counts: equal eigenvalues, more of them than dimensions.
    "of 36 pairs": store(*([5 + 2 * pair, 6 + 2 * pair] * 10 for pair in range(36))),
}


def rotations_within_groups(values, rng):
    """A random rotation that mixes the columns of equal values only, and another one of those of value 0."""
    nothing = 1e-9 * float(values.max())
    turns = [torch.zeros(len(values), len(values), dtype=values.dtype) for _ in range(2)]
    edges = [0, *(np.flatnonzero(np.abs(np.diff(values.numpy())) > nothing) + 1), len(values)]
    for begin, end in pairwise(edges):
        turn, other = (np.linalg.qr(rng.standard_normal((end - begin, end - begin)))[0] for _ in range(2))
        turns[0][begin:end, begin:end] = torch.from_numpy(turn)
        turns[1][begin:end, begin:end] = torch.from_numpy(other if values[begin] < nothing else turn)
    return turns


@pytest.fixture
def other_processor(monkeypatch):
    """Decompositions as another kernel may give them: other signs, other vectors of equal singular values."""
    rng = np.random.default_rng(2)
    qr, svd, eigh = torch.linalg.qr, torch.linalg.svd, torch.linalg.eigh

    def other_qr(x):
        q, r = qr(x)
        signs = torch.from_numpy(rng.choice([-1.0, 1.0], q.shape[1])).to(x.dtype)
        return q * signs, signs[:, None] * r

    def other_svd(x, full_matrices=True):
        u, s, vt = svd(x, full_matrices=full_matrices)
        left, right = rotations_within_groups(s, rng)
        return u @ left, s, right.T @ vt

    def other_eigh(x):
        values, vectors = eigh(x)
        return values, vectors @ rotations_within_groups(values, rng)[0]

    monkeypatch.setattr(torch.linalg, "qr", other_qr)
    monkeypatch.setattr(torch.linalg, "svd", other_svd)
    monkeypatch.setattr(torch.linalg, "eigh", other_eigh)


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_every_valid_decomposition_gives_the_same_weights(text, request):
    expected = weights_of(text)
    request.getfixturevalue("other_processor")
    assert same(weights_of(text), expected, atol=1e-6)


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_rounding_error_in_the_counts_stays_as_small(text, monkeypatch):
    expected = weights_of(text)
    rng = np.random.default_rng(3)

    def rounded(*arguments):
        tables = neighbor_tables(*arguments)
        for table in tables.values():
            signs = torch.from_numpy(rng.choice([-1.0, 1.0], table._nnz()))
            table.values().mul_(1 + 1e-7 * signs)  # an ulp of float32
        return tables

    monkeypatch.setattr(initialization, "neighbor_tables", rounded)
    assert same(weights_of(text), expected, atol=2e-5)


def test_a_word_that_does_not_occur_has_no_vector():
    words = weights_of(TEXTS["of fewer words than dimensions"])["0 bert.embeddings.word_embeddings.weight"]
    assert words[5:50].abs().max() < 1e-3
    assert words[50:70].norm(dim=1).min() > 0.1


@pytest.mark.parametrize("text", [store([7] * 30), store([7])], ids=["one word", "one token"])
def test_text_without_neighbors_to_count_starts_too(text):
    assert all(torch.isfinite(weight).all() for weight in weights_of(text).values())

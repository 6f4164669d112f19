"""Initial weights from co-occurrence counts.

A randomly initialized BERT spends its first million tokens on learning how frequent words are and which of
them are neighbors. Counting gives the same statistics in seconds (pointwise mutual information; Levy and
Goldberg 2014), and BERT's own weights can hold the counts:

- *decoder bias*: log of the tokens' frequencies;
- *word embeddings*: a low-rank factor of the neighbors' PMI, in the first C dimensions;
- *position embeddings*: cos and sin of random frequencies, in the last P dimensions, so that a position
  turned by an offset is a rotation (Vaswani et al. 2017);
- *first layer*: the queries of a head read the position, its keys the position turned back by an offset, so
  that it looks at the neighbor there, as some heads of every trained BERT do (Clark et al. 2019); its values
  and outputs hold what this neighbor says of the word here, the best bilinear fit of their PMI;
- *MLM head*: the identity on the content, with a bias that keeps GELU in its linear part.

Everything else is initialized as usual, residual branches a little smaller, and all weights are trained. The
architecture is the same. Results: benchmarks/records/2026-11-22_demo_recipe and 2026-11-30_recipes_tried.

The weights are a smooth function of the counts, so that every processor starts the same model: the signs and
rotations that matrix decompositions leave open never reach them, nothing is cut off within a group of nearly
equal singular values, and all is computed in float64.

Shapes: V vocabulary, D hidden size, C content and P position dimensions (D = C + P), S head size.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nemo.collections.nlp.data.store.token_store import TokenStore
from nemo.collections.nlp.nm.trainables import BertTokenClassifier
from nemo.collections.nlp.nm.trainables.common.huggingface import BERT

MAX_TOKENS = 20_000_000  # more text does not change the counts that matter
OFFSETS = (-1, 1, -2, 2)  # of the neighbors that the first heads look at
POSITION_SIZE = 32
WORD_NORM, POSITION_NORM = 0.8, 0.65  # of embedding rows
ATTENTION = 1.0  # how sharply a head looks at its neighbor alone
MIXING = 0.7  # share of the first layer's output that neighbors make up
QUIET = 0.3  # of the usual size, for the residual branches that hold no counts
HEAD_SPREAD = 0.5  # standard deviation of a new head's scores, bias aside
RIDGE = 1e-3
ROUNDING = 1e-7  # of the largest singular value: smaller ones are rounding errors
UNKNOWN = 1e-6  # a word whose vector is shorter is not known, and stays near 0


@torch.no_grad()
def start_from_counts(
    bert: BERT, mlm: BertTokenClassifier, store: TokenStore, special_ids: np.ndarray
) -> None:
    """Set the weights of an encoder and of its MLM head, tied to the word embeddings, from a text.

    Args:
        bert: of any size.
        mlm: its masked-language-model head.
        store: the training text.
        special_ids: tokens that are no text; what they mean is left to training.
    """
    generator = torch.Generator().manual_seed(0)
    settings = bert.settings
    encoder: Any = bert.bert  # its parts are known by name only
    counts = np.bincount(store.tokens, minlength=settings.vocab_size)
    frequency = torch.from_numpy(counts / counts.sum())
    head_size = settings.hidden_size // settings.num_attention_heads
    position_size = max(2, min(POSITION_SIZE, head_size, settings.hidden_size // 4) // 2 * 2)
    content = slice(settings.hidden_size - position_size)
    tables = neighbor_tables(store, settings.vocab_size)

    words = word_vectors(tables, settings.hidden_size - position_size, generator) * WORD_NORM
    words[torch.from_numpy(special_ids).long()] = 0
    turns = torch.rand(position_size // 2, generator=generator) * 3 + 0.06  # radians per position
    angles = torch.arange(settings.max_position_embeddings)[:, None] * turns
    positions = torch.cat([angles.cos(), angles.sin()], 1) * POSITION_NORM / math.sqrt(position_size / 2)
    embeddings = encoder.embeddings
    for weight, rows, columns in (
        (embeddings.word_embeddings.weight, words, content),
        (embeddings.position_embeddings.weight, positions, slice(content.stop, None)),
    ):
        weight.zero_()
        weight[:, columns] = rows

    for layer in encoder.encoder.layer:
        for branch in (layer.attention.output, layer.output):
            branch.dense.weight.mul_(QUIET)
    # What a layer sees of a word lies behind the norm of the embeddings.
    seen = words * math.sqrt(settings.hidden_size / (WORD_NORM**2 + POSITION_NORM**2))
    heads = min(len(OFFSETS), settings.num_attention_heads)
    fits = [_fit(tables, offset, words, seen, frequency, head_size, generator) for offset in OFFSETS[:heads]]
    power = sum(float(((seen @ values.T).norm(dim=1) ** 2 * frequency).sum()) for values, _ in fits)
    scale = math.sqrt(settings.hidden_size) * MIXING / math.sqrt(power) if power else 0.0
    attention = encoder.encoder.layer[0].attention
    for head, (offset, (values, outputs)) in enumerate(zip(OFFSETS, fits, strict=False)):
        of_head = slice(head * head_size, (head + 1) * head_size)
        used = slice(of_head.start, of_head.start + len(values))
        _look_at(attention.self, of_head, content, turns, offset)
        for weight in (attention.self.value.weight[of_head], attention.output.dense.weight[:, of_head]):
            weight.zero_()
        attention.self.value.weight[used, content] = values * math.sqrt(scale)
        attention.output.dense.weight[content, used] = outputs * math.sqrt(scale)

    mlm.dense.weight.mul_(0.2)
    mlm.dense.weight[content, content] += 0.7 * torch.eye(content.stop)
    mlm.dense.bias.fill_(2.0)
    _predict_by_frequency(mlm, counts, special_ids)


@torch.no_grad()
def start_head_from_frequencies(
    bert: BERT, mlm: BertTokenClassifier, counts: np.ndarray, special_ids: np.ndarray
) -> None:
    """Make a new MLM head predict frequent words, weighted by similarity to the encoder's output.

    The transform is the identity, with a bias that keeps GELU in its linear part, and the norm behind it so
    small that the logits of the words differ by `HEAD_SPREAD`. A random head predicts random words with
    confidence instead: on a published encoder of 6 x 384 it starts 4 nats higher.

    Args:
        bert: the encoder.
        mlm: its new head; a decoder that is not tied starts as the word embeddings.
        counts: how often each token of the vocabulary occurs in the training data, (V,).
        special_ids: tokens that are no text.
    """
    words = bert.bert.embeddings.word_embeddings.weight
    mlm.dense.weight.copy_(torch.eye(len(mlm.dense.weight)))
    mlm.dense.bias.fill_(2.0)
    mlm.norm.weight.fill_(HEAD_SPREAD / max(float(words.var(dim=0).sum().sqrt()), 1e-6))
    mlm.mlp.last_linear_layer.weight.copy_(words)
    _predict_by_frequency(mlm, counts, special_ids)


def _predict_by_frequency(mlm: BertTokenClassifier, counts: np.ndarray, special_ids: np.ndarray) -> None:
    bias = mlm.mlp.last_linear_layer.bias
    bias.copy_(((torch.from_numpy(counts) + 0.5) / (counts.sum() + 0.5 * len(counts))).log())
    bias[torch.from_numpy(special_ids).long()] = bias.min()


def neighbor_tables(store: TokenStore, vocab_size: int) -> dict[int, Tensor]:
    """For each distance in OFFSETS the positive PMI of (token, token so far behind it), sparse (V, V).

    Counts are taken within documents; a pair seen c times is discounted by c / (c + 1/2), as rare pairs look
    closer than they are.
    """
    tokens = np.asarray(store.tokens[:MAX_TOKENS], dtype=np.int64)
    ends = np.asarray(store.sentence_offsets)[np.asarray(store.document_offsets)]
    document = np.searchsorted(ends, np.arange(len(tokens)), side="right")
    tables = {}
    for distance in sorted({abs(offset) for offset in OFFSETS}):
        together = document[distance:] == document[:-distance]
        pairs = (tokens[:-distance] * vocab_size + tokens[distance:])[together]
        pairs, counts = np.unique(pairs, return_counts=True)
        left, right = pairs // vocab_size, pairs % vocab_size
        of_left, of_right = (np.bincount(side, counts, vocab_size) for side in (left, right))
        pmi = np.log(counts * counts.sum() / (of_left[left] * of_right[right])) * counts / (counts + 0.5)
        kept = pmi > 0
        tables[distance] = torch.sparse_coo_tensor(
            torch.from_numpy(np.stack([left[kept], right[kept]])),
            torch.from_numpy(pmi[kept]),
            (vocab_size, vocab_size),
            check_invariants=False,
        ).coalesce()
    return tables


def word_vectors(tables: dict[int, Tensor], size: int, generator: torch.Generator) -> Tensor:
    """Unit vectors, (V, size): tokens with similar neighbors get similar vectors.

    They hold the leading eigenvectors of A = sum M M^T over the tables and their transposes, near ones
    weighing more, each times the fourth root of its eigenvalue.
    """
    sides = [(1 / distance, table, table.t().coalesce()) for distance, table in tables.items()]

    def spread(x: Tensor) -> Tensor:
        products = [w * (m @ (mt @ x) + mt @ (m @ x)) for w, m, mt in sides]
        return torch.stack(products).sum(0)

    vocab_size = next(iter(tables.values())).shape[0]
    width = min(size, vocab_size)
    u, s, vt = _svd(spread(_leading(spread, vocab_size, width, generator)))
    vectors = u * s**0.25 @ vt  # the same for every choice of U and V
    # A random rotation keeps any dimension from dominating LayerNorm.
    turn = _orthonormal(_normal(size, size, generator))
    return nn.functional.normalize(vectors @ turn[:width], dim=1, eps=UNKNOWN)


def _leading(
    apply: Callable[[Tensor], Tensor], size: int, width: int, generator: torch.Generator, rounds: int = 3
) -> Tensor:
    """An orthonormal basis, (size, width), of nearly the leading eigenvectors of a symmetric operator.

    Subspace iteration from random vectors (Halko et al. 2011), all of which are kept: to choose among nearly
    equal eigenvalues would be to choose by rounding errors.
    """
    basis = _normal(size, width, generator)
    for _ in range(rounds):
        basis = _orthonormal(apply(basis))
    return basis


def _orthonormal(x: Tensor) -> Tensor:
    """Q of the QR decomposition whose R has a positive diagonal, the only one where x has full rank."""
    q, r = torch.linalg.qr(x)
    return torch.where(r.diagonal() < 0, -q, q)


def _svd(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """SVD (U, S, V^T) with singular values at rounding level set to 0."""
    u, s, vt = torch.linalg.svd(x, full_matrices=False)
    return u, (s - ROUNDING * s[0]).clamp_min(0), vt


def _normal(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    return torch.randn(rows, columns, generator=generator, dtype=torch.float64)


def _fit(
    tables: dict[int, Tensor],
    offset: int,
    words: Tensor,
    seen: Tensor,
    frequency: Tensor,
    rank: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Values (S, C) and outputs (C, S) whose product predicts a word from its neighbor at `offset`.

    The best fit of words @ outputs @ values @ seen.T to the PMI of word and neighbor, both weighted by their
    frequency, cut to rank S.
    """
    table = tables[abs(offset)]
    word_by_neighbor = table.t() if offset < 0 else table
    left, right = words.T * frequency, seen.T * frequency
    half = _solve(left @ words, left @ (word_by_neighbor @ right.T))
    whole = _solve(right @ seen, half.T).T
    basis = _leading(lambda x: whole.T @ (whole @ x), len(whole), min(rank, len(whole)), generator)
    u, s, vt = _svd(whole @ basis)
    # Two equal halves of whole @ basis @ basis.T, again the same for every choice of U and V.
    return vt.T * s.sqrt() @ vt @ basis.T, u * s.sqrt() @ vt


def _solve(gram: Tensor, target: Tensor) -> Tensor:
    """The ridge solution X of gram @ X = target; 0 if gram is 0."""
    ridge = RIDGE * float(gram.trace()) / len(gram) or 1.0
    return torch.linalg.solve(gram + ridge * torch.eye(len(gram)), target)


def _look_at(attention: Any, rows: slice, content: slice, turns: Tensor, offset: int) -> None:
    """Make the head in `rows` attend to the token at `offset` from each token."""
    size = 2 * len(turns)
    cos, sin = (turns * offset).cos().diag(), (turns * offset).sin().diag()
    turned_back = torch.cat([torch.cat([cos, sin], 1), torch.cat([-sin, cos], 1)])
    head = slice(rows.start, rows.start + size)
    for linear, matrix in ((attention.query, torch.eye(size)), (attention.key, turned_back)):
        linear.weight[rows] = 0
        linear.weight[head, content.stop :] = matrix * ATTENTION

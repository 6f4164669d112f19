"""BERT's encoder, in one file: what `transformers.BertModel` computes, under the same parameter names.

Devlin et al. 2018 (arXiv 1810.04805): embeddings, then layers of self-attention and feed-forward with the
layer norm after every residual sum.

From the embeddings to the last layer, the tokens of all sequences are packed into one row, without padding.

Shapes: B batch, T tokens of a padded sequence, N tokens that are computed, K of them not padding,
D hidden size, H heads, I intermediate size, R requested rows out of B*T.
"""

import os
from functools import partial

import torch
from torch import Tensor, nn

from nemo.backends.pytorch.common.layers import dense_activation, get_activation, init_transformer_weights
from nemo.backends.pytorch.ops.attention import PackedSequences, Padded, attention
from nemo.backends.pytorch.ops.dropout import Seed, dropout, next_seeds
from nemo.backends.pytorch.ops.embedding import embedding_sum
from nemo.backends.pytorch.ops.linear import linear
from nemo.backends.pytorch.ops.norm import dropout_add_norm
from nemo.backends.pytorch.ops.packing import Packing
from nemo.collections.nlp.models.bert_settings import SIZES, BertSettings
from nemo.collections.nlp.options.limits import DEEPEST
from nemo.utils.errors import UsageError


def check_settings(settings: BertSettings) -> None:
    """Reject sizes that cannot be built.

    Raises:
        UsageError: a size below 1, more layers than any model has, a hidden size that the heads cannot
            share, a dropout probability outside [0, 1), a padding token beyond the vocabulary, or more
            weights than the machine has memory for.
    """
    for name in SIZES:
        if name != "hidden_act" and getattr(settings, name) < 1:
            raise UsageError("is too small", where=name, found=getattr(settings, name), expected=">= 1")
    if settings.num_hidden_layers > DEEPEST:
        raise UsageError(
            "is too large",
            where="num_hidden_layers",
            found=settings.num_hidden_layers,
            expected=f"<= {DEEPEST:,}",
        )
    if settings.hidden_size % settings.num_attention_heads:
        raise UsageError(
            "hidden_size has to be a multiple of num_attention_heads",
            found=f"hidden_size {settings.hidden_size}, num_attention_heads {settings.num_attention_heads}",
        )
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
        if not 0 <= getattr(settings, name) < 1:
            raise UsageError(
                "not a dropout probability", where=name, found=getattr(settings, name), expected="[0, 1)"
            )
    for name in ("initializer_range", "layer_norm_eps"):
        if getattr(settings, name) < 0:
            raise UsageError("is negative", where=name, found=getattr(settings, name), expected=">= 0")
    if not 0 <= (settings.pad_token_id or 0) < settings.vocab_size:
        raise UsageError(
            "is not in the vocabulary",
            where="pad_token_id",
            found=settings.pad_token_id,
            expected=f"below vocab_size = {settings.vocab_size}",
        )
    needed = 4 * _num_weights(settings)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > memory and torch.get_default_device().type != "meta":
        raise UsageError(
            "the model is larger than the memory",
            where="hidden_size, num_hidden_layers, vocab_size, ...",
            found=f"{needed / 2**30:,.0f} GiB of weights",
            expected=f"less than {memory / 2**30:,.0f} GiB",
            fix="use smaller sizes",
        )


def _num_weights(settings: BertSettings) -> int:
    """The number of weights for these sizes, without biases and norms."""
    rows = settings.vocab_size + settings.max_position_embeddings + settings.type_vocab_size
    width = settings.hidden_size
    return width * (rows + settings.num_hidden_layers * (4 * width + 2 * settings.intermediate_size) + width)


class BertEmbeddings(nn.Module):
    """The normalized sum of token, position and segment embeddings."""

    def __init__(self, settings: BertSettings):
        super().__init__()
        width = settings.hidden_size
        self.word_embeddings = nn.Embedding(settings.vocab_size, width, padding_idx=settings.pad_token_id)
        self.position_embeddings = nn.Embedding(settings.max_position_embeddings, width)
        self.token_type_embeddings = nn.Embedding(settings.type_vocab_size, width)
        self.LayerNorm = nn.LayerNorm(width, eps=settings.layer_norm_eps)
        self.dropout = nn.Dropout(settings.hidden_dropout_prob)

    def forward(self, input_ids: Tensor, token_type_ids: Tensor, positions: Tensor) -> Tensor:
        """three (N,) tensors -> (N, D)."""
        hidden = embedding_sum(
            input_ids,
            token_type_ids,
            positions,
            self.word_embeddings.weight,
            self.position_embeddings.weight,
            self.token_type_embeddings.weight,
            self.word_embeddings.padding_idx,
            self.word_embeddings.sparse,
        )
        hidden = self.LayerNorm(hidden)
        return dropout(hidden, self.dropout.p, next_seeds(1)[0]) if self.training else hidden


class BertSelfAttention(nn.Module):
    """Self-attention within each sequence."""

    def __init__(self, settings: BertSettings):
        super().__init__()
        self.num_heads = settings.num_attention_heads
        self.query = nn.Linear(settings.hidden_size, settings.hidden_size)
        self.key = nn.Linear(settings.hidden_size, settings.hidden_size)
        self.value = nn.Linear(settings.hidden_size, settings.hidden_size)
        self.dropout_prob = settings.attention_probs_dropout_prob

    def forward(
        self,
        hidden: Tensor,
        query_states: Tensor,
        keys: Tensor | None,
        sequences: PackedSequences | Padded,
        seed: Seed,
    ) -> Tensor:
        """(N, D), (R, D) -> (R, D).

        Args:
            hidden: all tokens.
            query_states: the states to compute attention for; `hidden` itself for all.
            keys: indices of the tokens in `hidden` that are not padding, (K,); None: all.
            sequences: the queries in `query_states` and the keys of every sequence.
            seed: seed of the dropout.
        """
        bias = torch.cat([self.query.bias, self.key.bias, self.value.bias])
        if query_states is hidden and keys is None:
            query, weights = None, [self.query.weight, self.key.weight, self.value.weight]
        else:
            query, weights = linear(query_states, self.query.weight), [self.key.weight, self.value.weight]
            hidden = hidden if keys is None else hidden[keys]
        projections = linear(hidden, torch.cat(weights))
        p = self.dropout_prob if self.training else 0.0
        return attention(query, projections, bias, sequences, self.num_heads, p, seed)


class BertOutput(nn.Module):
    """The end of a residual branch: dense, dropout, and the norm of the sum."""

    def __init__(self, in_features: int, settings: BertSettings):
        super().__init__()
        self.dense = nn.Linear(in_features, settings.hidden_size)
        self.LayerNorm = nn.LayerNorm(settings.hidden_size, eps=settings.layer_norm_eps)
        self.dropout = nn.Dropout(settings.hidden_dropout_prob)

    def forward(self, branch: Tensor, hidden: Tensor, seed: Seed) -> Tensor:
        """(N, in_features), (N, D) -> (N, D); `seed` is that of the dropout."""
        p = self.dropout.p if self.training else 0.0
        return dropout_add_norm(
            linear(branch, self.dense.weight),
            self.dense.bias,
            hidden,
            self.LayerNorm.weight,
            self.LayerNorm.bias,
            self.LayerNorm.eps,
            p,
            seed,
        )


class BertAttention(nn.Module):
    """Self-attention and the end of its residual branch."""

    def __init__(self, settings: BertSettings):
        super().__init__()
        self.self = BertSelfAttention(settings)
        self.output = BertOutput(settings.hidden_size, settings)

    def forward(
        self,
        hidden: Tensor,
        query_states: Tensor,
        keys: Tensor | None,
        sequences: PackedSequences | Padded,
        seeds: tuple[Seed, ...],
    ) -> Tensor:
        """(N, D), (R, D) -> (R, D), see `BertSelfAttention`; `seeds` are those of the two dropouts."""
        return self.output(self.self(hidden, query_states, keys, sequences, seeds[0]), query_states, seeds[1])


class BertIntermediate(nn.Module):
    """The first half of the feed-forward branch."""

    def __init__(self, settings: BertSettings):
        super().__init__()
        self.dense = nn.Linear(settings.hidden_size, settings.intermediate_size)
        self.activation = get_activation(settings.hidden_act)

    def forward(self, hidden: Tensor) -> Tensor:
        """(N, D) -> (N, I)."""
        return dense_activation(hidden, self.dense, self.activation)


class BertLayer(nn.Module):
    """Attention, then feed-forward."""

    def __init__(self, settings: BertSettings):
        super().__init__()
        self.attention = BertAttention(settings)
        self.intermediate = BertIntermediate(settings)
        self.output = BertOutput(settings.intermediate_size, settings)

    def forward(
        self,
        hidden: Tensor,
        query_states: Tensor,
        keys: Tensor | None,
        sequences: PackedSequences | Padded,
        seeds: tuple[Seed, ...],
    ) -> Tensor:
        """(N, D), (R, D) -> (R, D), see `BertSelfAttention`; `seeds` are those of the three dropouts."""
        hidden = self.attention(hidden, query_states, keys, sequences, seeds)
        return self.output(self.intermediate(hidden), hidden, seeds[2])


class BertEncoder(nn.Module):
    """The layers, one after the other."""

    def __init__(self, settings: BertSettings):
        super().__init__()
        self.layer = nn.ModuleList(BertLayer(settings) for _ in range(settings.num_hidden_layers))

    def forward(self, hidden: Tensor, packing: Packing) -> Tensor:
        """(N, D) -> (N, D), or (R, D) in the order of the rows requested from `packing`."""
        # Draw seeds here, so that a layer depends on its arguments alone and can be compiled.
        seeds = [next_seeds(3) if self.training else (0, 0, 0) for _ in self.layer]
        *lower, last = self.layer
        for layer, its_seeds in zip(lower, seeds, strict=False):
            hidden = layer(hidden, hidden, packing.keys, packing.sequences, its_seeds)
        if packing.requested is None or packing.restore is None or packing.last_sequences is None:
            return last(hidden, hidden, packing.keys, packing.sequences, seeds[-1])
        query_states = hidden.index_select(0, packing.requested)
        hidden = last(hidden, query_states, packing.keys, packing.last_sequences, seeds[-1])
        return hidden.index_select(0, packing.restore)


class BertPooler(nn.Module):
    """A sequence as one vector: dense layer and tanh on its first token."""

    def __init__(self, settings: BertSettings):
        super().__init__()
        self.dense = nn.Linear(settings.hidden_size, settings.hidden_size)

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, T, D) -> (B, D)."""
        return torch.tanh(self.dense(hidden[:, 0]))


class BertModel(nn.Module):
    """Tokens in, hidden states out.

    `forward` does not use `pooler`; it exists for the names of its weights, and for callers.

    Args:
        settings: sizes and probabilities.

    Raises:
        UsageError: the sizes do not match, or the activation is unknown.
    """

    def __init__(self, settings: BertSettings):
        super().__init__()
        check_settings(settings)
        self.embeddings = BertEmbeddings(settings)
        self.encoder = BertEncoder(settings)
        self.pooler = BertPooler(settings)
        self.apply(partial(init_transformer_weights, std=settings.initializer_range))

    def forward(
        self,
        input_ids: Tensor,
        token_type_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        rows: Tensor | None = None,
        packing: Packing | None = None,
    ) -> Tensor:
        """The last layer's output.

        Args:
            input_ids: (B, T) integers.
            token_type_ids: (B, T) integers, the segment of each token; None: all in the first.
            attention_mask: (B, T), 1 for a token, 0 for padding; None: no padding.
            rows: (R,) indices into the B*T tokens; the last layer returns only these, and computes its dense
                layers for them alone. Padding is then not computed at all, unless it is among them.
            packing: the packing for this mask and these rows, if already known. A traced or exported model
                makes none: it also computes padding, so that one program fits every batch.

        Returns:
            (B, T, D), or (R, D) for `rows`.

        Raises:
            UsageError: T is beyond the last position.
        """
        batch, length = input_ids.shape
        longest = self.embeddings.position_embeddings.num_embeddings
        if length > longest:
            raise UsageError(
                "the sequences are longer than the model allows",
                found=f"{length} tokens",
                expected=f"at most max_position_embeddings = {longest}",
            )
        if packing is None and (torch.compiler.is_compiling() or torch.jit.is_tracing()):
            packing = Packing.padded(input_ids, attention_mask)
        elif packing is None:
            packing = Packing.of((batch, length), attention_mask, rows)
        if token_type_ids is None:
            token_type_ids = torch.zeros_like(input_ids)
        ids, types = (x.flatten() for x in (input_ids, token_type_ids))
        if packing.tokens is not None:
            ids, types = (x.index_select(0, packing.tokens) for x in (ids, types))
        hidden = self.embeddings(ids, types, packing.positions)
        if torch.is_autocast_enabled(hidden.device.type):  # use the type of matrix products
            hidden = hidden.to(torch.get_autocast_dtype(hidden.device.type))
        hidden = self.encoder(hidden, packing)
        if rows is None:
            return hidden[: batch * length].unflatten(0, (batch, length))
        return hidden if packing.requested is not None else hidden.index_select(0, rows)

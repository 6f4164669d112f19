"""BERT's encoder, in one file: what `transformers.BertModel` computes, under the same parameter names.

Devlin et al. 2018 (arXiv 1810.04805): embeddings, then layers of self-attention and feed-forward with the
layer norm after every residual sum.

Shapes: B batch, T tokens, D hidden size, H heads, I intermediate size, R rows asked for out of B*T.
"""

from functools import partial
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nemo.backends.pytorch.common.layers import get_activation, init_transformer_weights
from nemo.utils.errors import UsageError


class BertConfig(Protocol):
    """What the encoder reads of its configuration; a `transformers.BertConfig` has it all."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    hidden_act: str
    hidden_dropout_prob: float
    attention_probs_dropout_prob: float
    max_position_embeddings: int
    type_vocab_size: int
    initializer_range: float
    layer_norm_eps: float
    pad_token_id: int | None


_SIZES = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
)


def check_config(config: BertConfig) -> None:
    """Refuse what cannot be built.

    Raises:
        UsageError: a size below 1, a hidden size that the heads cannot share, a dropout probability outside
            [0, 1), or a padding token beyond the vocabulary.
    """
    for name in _SIZES:
        if getattr(config, name) < 1:
            raise UsageError("is too small", where=name, found=getattr(config, name), expected=">= 1")
    if config.hidden_size % config.num_attention_heads:
        raise UsageError(
            "hidden_size has to be a multiple of num_attention_heads",
            found=f"hidden_size {config.hidden_size}, num_attention_heads {config.num_attention_heads}",
        )
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
        if not 0 <= getattr(config, name) < 1:
            raise UsageError(
                "not a dropout probability", where=name, found=getattr(config, name), expected="[0, 1)"
            )
    if not 0 <= (config.pad_token_id or 0) < config.vocab_size:
        raise UsageError(
            "is not in the vocabulary",
            where="pad_token_id",
            found=config.pad_token_id,
            expected=f"below vocab_size = {config.vocab_size}",
        )


class BertEmbeddings(nn.Module):
    """The sum of what stands where in which sentence, normed."""

    def __init__(self, config: BertConfig):
        super().__init__()
        width = config.hidden_size
        self.word_embeddings = nn.Embedding(config.vocab_size, width, padding_idx=config.pad_token_id)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, width)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, width)
        self.LayerNorm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, input_ids: Tensor, token_type_ids: Tensor | None) -> Tensor:
        """(B, T), (B, T) -> (B, T, D)."""
        length, longest = input_ids.shape[1], self.position_embeddings.num_embeddings
        if length > longest:
            raise UsageError(
                "the sequences are longer than the model",
                found=f"{length} tokens",
                expected=f"at most max_position_embeddings = {longest}",
            )
        types = self.token_type_embeddings
        hidden = (
            self.word_embeddings(input_ids)
            + (types.weight[0] if token_type_ids is None else types(token_type_ids))
            + self.position_embeddings.weight[:length]
        )
        return self.dropout(self.LayerNorm(hidden))


class BertSelfAttention(nn.Module):
    """Every token's mixture of the tokens of its sequence."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.num_heads = config.num_attention_heads
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key = nn.Linear(config.hidden_size, config.hidden_size)
        self.value = nn.Linear(config.hidden_size, config.hidden_size)
        self.dropout_prob = config.attention_probs_dropout_prob

    def forward(self, hidden: Tensor, padding: Tensor | None) -> Tensor:
        """(B, T, D), (B, 1, 1, T) -> (B, T, D)."""
        query, key, value = (
            linear(hidden).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # B H T D/H
            for linear in (self.query, self.key, self.value)
        )
        dropout = self.dropout_prob if self.training else 0.0
        context = F.scaled_dot_product_attention(query, key, value, padding, dropout_p=dropout)
        return context.transpose(1, 2).flatten(2)


class BertOutput(nn.Module):
    """The end of a residual branch: dense, dropout, and the norm of the sum."""

    def __init__(self, in_features: int, config: BertConfig):
        super().__init__()
        self.dense = nn.Linear(in_features, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, branch: Tensor, hidden: Tensor) -> Tensor:
        """(..., in_features), (..., D) -> (..., D)."""
        return self.LayerNorm(hidden + self.dropout(self.dense(branch)))


class BertAttention(nn.Module):
    """Self-attention and the end of its branch."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.self = BertSelfAttention(config)
        self.output = BertOutput(config.hidden_size, config)

    def forward(self, hidden: Tensor, padding: Tensor | None, rows: Tensor | None) -> Tensor:
        """(B, T, D) -> (B, T, D), or (R, D) for `rows`."""
        context = self.self(hidden, padding)
        if rows is not None:
            context, hidden = (x.flatten(0, 1).index_select(0, rows) for x in (context, hidden))
        return self.output(context, hidden)


class BertIntermediate(nn.Module):
    """The first half of the feed-forward branch."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.intermediate_size)
        self.activation = get_activation(config.hidden_act)

    def forward(self, hidden: Tensor) -> Tensor:
        """(..., D) -> (..., I)."""
        return self.activation(self.dense(hidden))


class BertLayer(nn.Module):
    """Attention, then feed-forward."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.attention = BertAttention(config)
        self.intermediate = BertIntermediate(config)
        self.output = BertOutput(config.intermediate_size, config)

    def forward(self, hidden: Tensor, padding: Tensor | None, rows: Tensor | None = None) -> Tensor:
        """(B, T, D) -> (B, T, D), or (R, D) for `rows`."""
        hidden = self.attention(hidden, padding, rows)
        return self.output(self.intermediate(hidden), hidden)


class BertEncoder(nn.Module):
    """The layers, one after the other."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.layer = nn.ModuleList(BertLayer(config) for _ in range(config.num_hidden_layers))

    def forward(self, hidden: Tensor, padding: Tensor | None, rows: Tensor | None) -> Tensor:
        """(B, T, D) -> (B, T, D), or (R, D) for `rows`."""
        *lower, last = self.layer
        for layer in lower:
            hidden = layer(hidden, padding)
        return last(hidden, padding, rows)


class BertPooler(nn.Module):
    """A sequence in one vector: dense and tanh of its first token."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, T, D) -> (B, D)."""
        return torch.tanh(self.dense(hidden[:, 0]))


class BertModel(nn.Module):
    """Tokens in, hidden states out.

    `pooler` is there for its weights' names, and for those who call it on what `forward` gives.

    Args:
        config: sizes and probabilities.

    Raises:
        UsageError: sizes that do not go together, or an unknown activation.
    """

    def __init__(self, config: BertConfig):
        super().__init__()
        check_config(config)
        self.embeddings = BertEmbeddings(config)
        self.encoder = BertEncoder(config)
        self.pooler = BertPooler(config)
        self.apply(partial(init_transformer_weights, std=config.initializer_range))

    def forward(
        self,
        input_ids: Tensor,
        token_type_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        rows: Tensor | None = None,
    ) -> Tensor:
        """The last layer's output.

        Args:
            input_ids: (B, T) integers.
            token_type_ids: (B, T) integers, which sentence a token is in; None means the first.
            attention_mask: (B, T), 1 for a token, 0 for padding; None means that nothing is padded.
            rows: (R,) indices into the B*T tokens; only these leave the last layer, and its dense layers are
                computed for them alone.

        Returns:
            (B, T, D), or (R, D) for `rows`.

        Raises:
            UsageError: T is beyond the last position.
        """
        hidden = self.embeddings(input_ids, token_type_ids)
        padding = None if attention_mask is None else _padding(attention_mask, hidden.dtype)
        return self.encoder(hidden, padding, rows)


def _padding(attention_mask: Tensor, dtype: torch.dtype) -> Tensor:
    """What to add to attention scores: 0 for tokens, next to minus infinity for padding, (B, 1, 1, T)."""
    scores = torch.zeros_like(attention_mask, dtype=dtype)
    return scores.masked_fill(attention_mask == 0, torch.finfo(dtype).min)[:, None, None]

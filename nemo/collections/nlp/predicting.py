"""Predictions of a model for masked tokens.

Shapes: T tokens, D hidden size, V vocabulary.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from nemo.collections.nlp.data.tokenizers import TokenizerSpec
from nemo.collections.nlp.nm.pretraining_model import PretrainingModel


@dataclass(frozen=True)
class Prediction:
    """A candidate for a masked token."""

    token: str
    probability: float


@torch.no_grad()
def best_predictions(
    model: PretrainingModel, tokenizer: TokenizerSpec, ids: Tensor, top: int
) -> list[list[Prediction]]:
    """The `top` most probable tokens for every [MASK] of one text, in its order; never a special token.

    Args:
        ids: (T,) int64, including `[CLS]` and `[SEP]`.
    """
    input_ids = ids[None].to(next(model.bert.parameters()).device)
    with _evaluating(model):
        hidden = model.bert(
            input_ids=input_ids,
            token_type_ids=torch.zeros_like(input_ids),
            attention_mask=torch.ones_like(input_ids),
        )
        masked = hidden[input_ids == tokenizer.mask_id]  # [masks, D]
        scores = model.mlm(hidden_states=masked)
    scores = scores[:, : tokenizer.vocab_size]  # a model may have unused entries
    probabilities = scores.float().softmax(-1).cpu()  # [masks, V]
    probabilities[:, torch.from_numpy(tokenizer.special_ids).long()] = 0  # never the answer
    best = probabilities.topk(min(top, probabilities.shape[-1]))
    return [
        [Prediction(tokenizer.ids_to_tokens([i])[0], p) for i, p in zip(row_ids, row_values, strict=True)]
        for row_ids, row_values in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]


@contextmanager
def _evaluating(model: PretrainingModel) -> Iterator[None]:
    """Turn off dropout inside the block, and restore it afterwards."""
    was_training = [module.training for module in model.neural_modules]
    for module in model.neural_modules:
        module.eval()
    try:
        yield
    finally:
        for module, training in zip(model.neural_modules, was_training, strict=True):
            module.train(training)

"""Checks that a tokenizer matches a model."""

from typing import Any

from nemo.collections.nlp.data.tokenizers import TokenizerSpec
from nemo.collections.nlp.models.bert_settings import BertSettings
from nemo.utils.errors import UsageError


def check_model_tokenizer(tokenizer: TokenizerSpec, settings: BertSettings, source: Any) -> None:
    """Refuse a tokenizer that does not match the model.

    Args:
        tokenizer: any.
        settings: of the model.
        source: where the model comes from, for the error.

    Raises:
        UsageError: a special token is missing, or the tokenizer has ids without an embedding in the model.
    """
    # Each of them raises an error if the token is missing.
    _ = tokenizer.pad_id, tokenizer.unk_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id
    if tokenizer.vocab_size > settings.vocab_size:
        raise UsageError(
            "the tokenizer has more entries than the model",
            where=source,
            found=f"{tokenizer.vocab_size} entries",
            expected=f"at most vocab_size = {settings.vocab_size}",
            fix="use the tokenizer that the model was trained with",
        )

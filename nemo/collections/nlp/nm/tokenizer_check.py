"""Do a tokenizer and a model go together?"""

from typing import Any

from nemo.collections.nlp.data.tokenizers import TokenizerSpec
from nemo.collections.nlp.models.bert import BertConfig
from nemo.utils.errors import UsageError


def check_tokenizer(tokenizer: TokenizerSpec, config: BertConfig, source: Any) -> None:
    """Reject a tokenizer that this model cannot be pretrained or used with.

    Args:
        tokenizer: any.
        config: of the model.
        source: where the model comes from, for the error.

    Raises:
        UsageError: a special token is not known, or there are ids that the model has no embedding for.
    """
    # Each of them raises for a token that is not known.
    _ = tokenizer.pad_id, tokenizer.unk_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id
    if tokenizer.vocab_size > config.vocab_size:
        raise UsageError(
            "the tokenizer has more entries than the model",
            where=source,
            found=f"{tokenizer.vocab_size} entries",
            expected=f"at most vocab_size = {config.vocab_size}",
            fix="use the tokenizer that the model was trained with",
        )

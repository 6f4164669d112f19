"""Text -> ids and back."""

from nemo.collections.nlp.data.tokenizers.base import TokenizerSpec
from nemo.collections.nlp.data.tokenizers.opening import has_tokenizer, load_tokenizer
from nemo.collections.nlp.data.tokenizers.sentencepiece import SentencePieceTokenizer
from nemo.collections.nlp.data.tokenizers.special_tokens import (
    MODEL_SPECIAL_TOKENS,
    get_bert_special_tokens,
)
from nemo.collections.nlp.data.tokenizers.wordpiece import NemoBertTokenizer

__all__ = [
    "MODEL_SPECIAL_TOKENS",
    "NemoBertTokenizer",
    "SentencePieceTokenizer",
    "TokenizerSpec",
    "get_bert_special_tokens",
    "has_tokenizer",
    "load_tokenizer",
]

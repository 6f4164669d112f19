"""Text -> sequences, independent of the graph."""

from nemo.collections.nlp.data.datasets import (
    BertPretrainingDataset,
    BertPretrainingPreprocessedDataset,
    lm_bert_dataset,
)
from nemo.collections.nlp.data.descriptor import BERTPretrainingDataDesc
from nemo.collections.nlp.data.tokenizers import (
    MODEL_SPECIAL_TOKENS,
    NemoBertTokenizer,
    SentencePieceTokenizer,
    get_bert_special_tokens,
)

__all__ = [
    "MODEL_SPECIAL_TOKENS",
    "BERTPretrainingDataDesc",
    "BertPretrainingDataset",
    "BertPretrainingPreprocessedDataset",
    "NemoBertTokenizer",
    "SentencePieceTokenizer",
    "get_bert_special_tokens",
    "lm_bert_dataset",
]

"""Text -> ids and back."""

import os
from pathlib import Path

from nemo.collections.nlp.data.tokenizers.base import TokenizerSpec
from nemo.collections.nlp.data.tokenizers.files import VOCABULARY_FILE
from nemo.collections.nlp.data.tokenizers.sentencepiece import MODEL_FILE, SentencePieceTokenizer
from nemo.collections.nlp.data.tokenizers.special_tokens import (
    MODEL_SPECIAL_TOKENS,
    get_bert_special_tokens,
)
from nemo.collections.nlp.data.tokenizers.wordpiece import TOKENIZER_FILE, NemoBertTokenizer
from nemo.utils.errors import MissingFileError

__all__ = [
    "MODEL_SPECIAL_TOKENS",
    "NemoBertTokenizer",
    "SentencePieceTokenizer",
    "TokenizerSpec",
    "get_bert_special_tokens",
    "load_tokenizer",
]


def load_tokenizer(folder: str | os.PathLike[str]) -> TokenizerSpec:
    """The tokenizer in a folder: `tokenizer.model` if it is there, else `tokenizer.json`, else `vocab.txt`.

    Raises:
        MissingFileError: none of them is there.
        UsageError: what is there cannot be read.
    """
    folder = Path(folder)
    if (folder / MODEL_FILE).is_file():
        return SentencePieceTokenizer.from_folder(folder)
    if (folder / TOKENIZER_FILE).is_file() or (folder / VOCABULARY_FILE).is_file():
        return NemoBertTokenizer.from_folder(folder)
    expected = f"{MODEL_FILE}, {TOKENIZER_FILE} or {VOCABULARY_FILE}"
    raise MissingFileError("no tokenizer in this folder", where=folder, expected=expected)

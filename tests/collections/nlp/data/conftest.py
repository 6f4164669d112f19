"""A real tokenizer, small enough to work out its ids by hand."""

from collections.abc import Callable, Iterable

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


class SmallTokenizer:
    """WordPiece over the given pieces: ids 0 to 4 are the specials, the pieces follow in their order."""

    pad_id, unk_id, cls_id, sep_id, mask_id = range(5)

    def __init__(self, pieces: Iterable[str]):
        self._vocabulary = SPECIALS + list(pieces)
        ids = {token: i for i, token in enumerate(self._vocabulary)}
        self.tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
        self.tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
        self.tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        self.vocab_size = len(ids)
        self.special_ids = np.arange(5, dtype=np.int32)
        self.starts_word = np.array([not token.startswith("##") for token in self._vocabulary])
        self.fingerprint = " ".join(self._vocabulary)

    def vocabulary(self) -> list[str]:
        return self._vocabulary

    def encode_batch(self, texts: list[str]) -> list[np.ndarray]:
        encodings = self.tokenizer.encode_batch(texts, add_special_tokens=False)
        return [np.array(encoding.ids, dtype=np.int32) for encoding in encodings]


@pytest.fixture
def small_tokenizer() -> Callable[[Iterable[str]], SmallTokenizer]:
    """Makes a tokenizer of the given pieces."""
    return SmallTokenizer


@pytest.fixture
def letters() -> SmallTokenizer:
    """Splits words into their letters: a is id 5, z is 30, ##a is 31; digits and marks are unknown."""
    alphabet = "abcdefghijklmnopqrstuvwxyz"
    return SmallTokenizer([*alphabet, *(f"##{letter}" for letter in alphabet)])

"""Interface and common behavior of tokenizers: tokens, ids and special tokens."""

import hashlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nemo.collections.nlp.data.tokenizers.files import CONTINUATION, VOCABULARY_FILE, write_vocabulary
from nemo.collections.nlp.data.tokenizers.special_tokens import KINDS, SpecialTokens
from nemo.utils.errors import UsageError
from nemo.utils.files import storage_errors
from nemo.utils.lookup import choose


class TokenizerSpec(ABC):
    """Text <-> tokens <-> ids.

    Args:
        tokens: the model's own tokens, in order of their ids.
        mark: prefix of tokens that continue a word (`##`) or, in other models, begin one (`▁`, `Ġ`).
        unknown_id: id for text that the vocabulary cannot spell.
        control_ids: tokens that do not stand for text and are never found in text.

    Attributes:
        original_vocab_size: number of the model's own tokens, without special tokens added later.
        special_token_to_id: ids of the special tokens that are recognized in text.
        id_to_special_token: the inverse of `special_token_to_id`.
        pad_token, unk_token, cls_token, sep_token, mask_token, bos_token, eos_token: None if not known.
    """

    pad_token: str | None = None
    unk_token: str | None = None
    cls_token: str | None = None
    sep_token: str | None = None
    mask_token: str | None = None
    bos_token: str | None = None
    eos_token: str | None = None
    tokens_without_text: frozenset[str] = frozenset()
    """Tokens that text is never tokenized into, even if it spells them."""

    def __init__(self, tokens: Sequence[str], mark: str, unknown_id: int, control_ids: Iterable[int] = ()):
        self._tokens = list(tokens)
        self._ids = {token: i for i, token in enumerate(self._tokens)}
        self._mark = mark
        self._unknown_id = unknown_id
        self._control_ids = frozenset(control_ids)
        self.original_vocab_size = len(self._tokens)
        self.special_token_to_id: dict[str, int] = {}
        self.id_to_special_token: dict[int, str] = {}

    # Text, tokens, ids.

    @abstractmethod
    def text_to_tokens(self, text: str) -> list[str]:
        """Tokenize a text, recognizing special tokens anywhere in it."""

    @abstractmethod
    def tokens_to_text(self, tokens: Sequence[str]) -> str:
        """The text of these tokens, except for what normalization and unknown tokens lost."""

    @abstractmethod
    def text_to_ids(self, text: str) -> list[int]:
        """The ids of `text_to_tokens(text)`."""

    @abstractmethod
    def ids_to_text(self, ids: Sequence[int]) -> str:
        """The text of these ids, except for what normalization and unknown tokens lost."""

    @abstractmethod
    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Encode the texts of a corpus: the ids of each, int32 and read-only.

        Fast. Special tokens that frame a text are not recognized in it: `[SEP]` in a corpus is a word in
        brackets. The others are recognized, see `corpus_tokens`.
        """

    def normalized(self, text: str) -> str:
        """The text after normalization (such as lower-casing), before it is tokenized; spaces may differ."""
        return text

    def token_to_id(self, token: str) -> int:
        """Id of a token; that of the unknown token if there is no such token."""
        return self._ids.get(token, self._unknown_id)

    def tokens_to_ids(self, tokens: Sequence[str]) -> list[int]:
        """`token_to_id` of each."""
        return [self.token_to_id(token) for token in tokens]

    def ids_to_tokens(self, ids: Sequence[int]) -> list[str]:
        """Token of each id."""
        return [self._tokens[i] for i in ids]

    # Special tokens.

    def add_special_tokens(self, special_tokens: SpecialTokens) -> None:
        """Recognize special tokens; one that is not in the vocabulary gets the next free id.

        Args:
            special_tokens: tokens, or kind -> token (see `get_bert_special_tokens`); kinds also set
                `pad_token`, `pad_id` and so on.

        Raises:
            UsageError: a kind is unknown.
        """
        if isinstance(special_tokens, Mapping):
            for kind, token in special_tokens.items():
                choose(dict.fromkeys(KINDS), kind, what="kind of special token")
                setattr(self, kind, token)
            special_tokens = special_tokens.values()
        for token in special_tokens:
            if token not in self._ids:
                self._ids[token] = len(self._tokens)
                self._tokens.append(token)
            self.special_token_to_id[token] = self._ids[token]
            self.id_to_special_token[self._ids[token]] = token

    def _special(self, kind: str) -> str:
        token = getattr(self, kind)
        if token is None:
            raise UsageError(
                f"the tokenizer has no {kind}",
                fix="call add_special_tokens(get_bert_special_tokens('bert'))",
            )
        return token

    def _id_of(self, kind: str) -> int:
        return self._ids[self._special(kind)]

    @property
    def pad_id(self) -> int:
        """Id of the token that pads short sequences."""
        return self._id_of("pad_token")

    @property
    def unk_id(self) -> int:
        """Id of the token for text that the vocabulary cannot spell."""
        return self._id_of("unk_token")

    @property
    def cls_id(self) -> int:
        """Id of the token that begins a sequence and represents it as a whole."""
        return self._id_of("cls_token")

    @property
    def sep_id(self) -> int:
        """Id of the token that ends a sentence."""
        return self._id_of("sep_token")

    @property
    def mask_id(self) -> int:
        """Id of the token that masks another."""
        return self._id_of("mask_token")

    @property
    def bos_id(self) -> int:
        """Id of the token that begins a sequence."""
        return self._id_of("bos_token")

    @property
    def eos_id(self) -> int:
        """Id of the token that ends a sequence."""
        return self._id_of("eos_token")

    @property
    def special_tokens(self) -> dict[str, str]:
        """Kind -> special token, as `add_special_tokens` takes them."""
        return {kind: getattr(self, kind) for kind in KINDS if getattr(self, kind) is not None}

    @property
    def special_ids(self) -> np.ndarray:
        """Ids of all tokens that do not stand for text, ascending, int32."""
        return np.array(sorted({*self._control_ids, *self.id_to_special_token}), dtype=np.int32)

    @property
    def corpus_tokens(self) -> frozenset[str]:
        """Special tokens found in a corpus: the unknown one, and those without a kind (such as [USER])."""
        frame = {token for kind, token in self.special_tokens.items() if kind != "unk_token"}
        return frozenset(self.special_token_to_id) - frame

    # The vocabulary as a whole.

    @property
    def vocab_size(self) -> int:
        """The number of ids, including special tokens."""
        return len(self._tokens)

    @property
    def starts_word(self) -> np.ndarray:
        """Whether each token begins a word, bool [vocab_size]; special tokens do."""
        marked = np.array([token.startswith(self._mark) for token in self._tokens])
        starts = ~marked if self._mark == CONTINUATION else marked
        starts[self.special_ids] = True
        return starts

    def vocabulary(self) -> list[str]:
        """The tokens in WordPiece spelling, in order of their ids, as in `vocab.txt`.

        All are distinct: a token keeps its mark if without it it would be empty, a special token, or look
        like a token with a mark. So a lone `▁` stays `▁`, and `▁##` stays `▁##`.
        """
        if self._mark == CONTINUATION:
            return list(self._tokens)
        verbatim = {self._tokens[i] for i in self.special_ids}
        taken = verbatim | {""}

        def spelled(token: str) -> str:
            if token in verbatim:
                return token
            if not token.startswith(self._mark):
                return CONTINUATION + token
            word = token.removeprefix(self._mark)
            return token if word in taken or word.startswith((CONTINUATION, self._mark)) else word

        return [spelled(token) for token in self._tokens]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of everything that affects the ids of a text."""
        specials = json.dumps([self.special_tokens, self.special_token_to_id], sort_keys=True)
        return hashlib.sha256(self._definition() + specials.encode()).hexdigest()

    @abstractmethod
    def _definition(self) -> bytes:
        """Everything that affects the ids, except special tokens."""

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write `vocab.txt`, and the files from which `load_tokenizer(folder)` restores this tokenizer.

        Raises:
            StorageError: they cannot be written.
        """
        folder = Path(folder)
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._save_model(folder)
        write_vocabulary(folder / VOCABULARY_FILE, self.vocabulary())

    @abstractmethod
    def _save_model(self, folder: Path) -> None:
        """Write the files besides `vocab.txt`."""

    @abstractmethod
    def to_huggingface(self) -> Any:
        """A transformers tokenizer with the same ids, which encodes texts as `[CLS] A [SEP] B [SEP]`."""

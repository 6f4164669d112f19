"""WordPiece (Schuster and Nakajima 2012), BERT's tokenizer, in which `##` continues a word.

Also the tokenizers of BERT's relatives in transformers.
"""

import copy
import json
import os
import sys
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from nemo.collections.nlp.data.tokenizers.base import TokenizerSpec
from nemo.collections.nlp.data.tokenizers.files import is_placeholder
from nemo.collections.nlp.data.tokenizers.huggingface import (
    open_description,
    open_pretrained,
    open_vocabulary,
    save_pretrained,
    tokens_of,
)
from nemo.collections.nlp.data.tokenizers.plain import Plain, open_plain
from nemo.collections.nlp.data.tokenizers.requirements import MARKS
from nemo.collections.nlp.data.tokenizers.special_tokens import KINDS, SpecialTokens
from nemo.collections.nlp.data.tokenizers.units import Units
from nemo.utils.errors import UsageError
from nemo.utils.lookup import choose

# Fingerprints use 200 letters per word where transformers has 100: earlier versions used 200 for every
# vocabulary, and what they made must stay valid.
_LONGEST_WORDS = {100: 200, 200: 100}


class NemoBertTokenizer(TokenizerSpec):
    """A Hugging Face tokenizer: a pretrained one, or BERT's over a vocabulary file.

    Args:
        pretrained_model: a Hugging Face folder; a name on the hub, looked up in the cache before the network;
            or a `tokenizer.json`, read without the files beside it.
        vocab_file: a `vocab.txt` with BERT's special tokens, read without the files beside it; instead of
            `pretrained_model`.
        bert_derivative: the model family of the vocabulary file; only "bert" has one of this kind.
        do_lower_case: lower-case text and strip accents, if no file specifies it: for a `vocab_file`, or a
            folder with only a `vocab.txt`.

    Attributes:
        tokenizer: the transformers tokenizer, with all its settings. Its truncation and padding have no
            effect here. For a plain vocabulary it is created on first use, see plain.py.

    Raises:
        MissingFileError: there is no such vocabulary file.
        UsageError: neither is given; the file is not a BERT vocabulary (see `files.read_vocabulary`); or
            there is no such pretrained tokenizer, or it does not suit a BERT.
    """

    def __init__(
        self,
        pretrained_model: str | os.PathLike[str] | None = None,
        vocab_file: str | os.PathLike[str] | None = None,
        bert_derivative: str = "bert",
        do_lower_case: bool = False,
    ):
        self._plain: Plain | None = None
        if pretrained_model and Path(pretrained_model).is_file():
            self.tokenizer = open_description(Path(pretrained_model))
        elif pretrained_model:
            self._plain = open_plain(Path(pretrained_model), do_lower_case)
            if self._plain is None:
                self.tokenizer = open_pretrained(os.fspath(pretrained_model), do_lower_case)
        elif vocab_file:
            choose({"bert": None}, bert_derivative, what="BERT derivative with a vocab_file")
            self._plain = open_plain(Path(vocab_file), do_lower_case)
            if self._plain is None:
                self.tokenizer = open_vocabulary(Path(vocab_file), do_lower_case)
        else:
            raise UsageError("either 'vocab_file' or 'pretrained_model' has to be specified")
        if self._plain is not None:
            tokens, kinds = self._plain.tokens, self._plain.kinds
        else:
            tokens = tokens_of(self.tokenizer)
            kinds = self.tokenizer.special_tokens_map
        mark = MARKS[type(self._backend.model).__name__]
        unused = (number for number, token in enumerate(tokens) if is_placeholder(token))
        super().__init__(tokens, mark, self._backend.token_to_id(kinds["unk_token"]), unused)
        added = sorted(self._backend.get_added_tokens_decoder().items())
        self.add_special_tokens([token.content for _, token in added if token.special])
        kinds = {kind: token for kind, token in kinds.items() if kind in KINDS}
        self.add_special_tokens({"bos_token": kinds["cls_token"], "eos_token": kinds["sep_token"], **kinds})

    @property
    def _bare(self) -> Plain | None:
        """The plain tokenizer, until `tokenizer` is first used, which callers may change."""
        return None if "tokenizer" in self.__dict__ else self._plain

    @property
    def _backend(self) -> Any:
        """The `tokenizers.Tokenizer`: that of `tokenizer` if it exists, so that both share added tokens."""
        bare = self._bare
        return self.tokenizer.backend_tokenizer if bare is None else bare.backend

    @cached_property
    def tokenizer(self) -> Any:
        assert self._plain is not None  # otherwise it was created in the constructor
        return self._plain.to_huggingface()

    def add_special_tokens(self, special_tokens: SpecialTokens) -> None:
        super().add_special_tokens(special_tokens)
        from tokenizers import AddedToken

        known = self._backend.get_added_tokens_decoder()
        self._backend.add_tokens(
            [
                AddedToken(token, special=True, normalized=False)
                for i, token in sorted(self.id_to_special_token.items())
                if i not in known
            ]
        )
        for stale in ("_encoder", "_corpus_encoder", "_units"):
            self.__dict__.pop(stale, None)

    def text_to_tokens(self, text: str) -> list[str]:
        return self.ids_to_tokens(self.text_to_ids(text))

    def text_to_ids(self, text: str) -> list[int]:
        return self._encoder.encode(text, add_special_tokens=False).ids

    def normalized(self, text: str) -> str:
        normalizer = self._backend.normalizer
        return text if normalizer is None else normalizer.normalize_str(text)

    def tokens_to_text(self, tokens: Sequence[str]) -> str:
        decoder = self._backend.decoder
        return decoder.decode(list(tokens)) if decoder else " ".join(tokens)

    def ids_to_text(self, ids: Sequence[int]) -> str:
        """The text of these ids, without special tokens."""
        return self.tokens_to_text(self.ids_to_tokens([i for i in ids if i not in self.id_to_special_token]))

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        encode = self._units.encode_batch if self._has_units else self._encode_whole
        return encode(list(texts))

    def _encode_whole(self, texts: list[str]) -> list[np.ndarray]:
        encodings = self._corpus_encoder.encode_batch_fast(texts, add_special_tokens=False)
        return [np.array(encoding.ids, np.int32) for encoding in encodings]

    @property
    def _has_units(self) -> bool:
        """Whether normalization and word boundaries of a character do not depend on its neighbors."""
        backend = self._backend
        kinds = [
            type(component).__name__
            for component in (backend.normalizer, backend.pre_tokenizer, backend.model)
        ]
        return kinds == ["BertNormalizer", "BertPreTokenizer", "WordPiece"] and all(
            token.special and not token.normalized for token in backend.get_added_tokens_decoder().values()
        )

    @cached_property
    def _encoder(self) -> Any:
        """The backend without truncation and padding."""
        return self._over_the_model(found_in_text=frozenset())

    @cached_property
    def _corpus_encoder(self) -> Any:
        """The backend without truncation and padding, which treats special tokens in a text as words."""
        encoder = self._over_the_model(found_in_text=self.corpus_tokens)
        encoder.encode_special_tokens = True  # encodes special tokens as if they were words
        return encoder

    def _over_the_model(self, found_in_text: frozenset[str]) -> Any:
        """A tokenizer with the model and tokens of the backend, without anything that frames a text.

        Args:
            found_in_text: special tokens that it treats as ordinary added tokens.
        """
        from tokenizers import Tokenizer

        encoder = Tokenizer(self._backend.model)
        if self._backend.normalizer is not None:
            encoder.normalizer = self._backend.normalizer
        if self._backend.pre_tokenizer is not None:
            encoder.pre_tokenizer = self._backend.pre_tokenizer
        for _, token in sorted(self._backend.get_added_tokens_decoder().items()):
            token.special &= token.content not in found_in_text
            encoder.add_tokens([token])
        return encoder

    @cached_property
    def _units(self) -> "_WordUnits":
        return _WordUnits(self)

    def _definition(self) -> bytes:
        return self._model_definition

    @cached_property
    def _model_definition(self) -> bytes:
        description = json.loads(self._backend.to_str())
        longest = description["model"].get("max_input_chars_per_word")
        if longest in _LONGEST_WORDS:
            description["model"]["max_input_chars_per_word"] = _LONGEST_WORDS[longest]
        return json.dumps(
            [description[component] for component in ("model", "normalizer", "pre_tokenizer")]
        ).encode()

    def _save_model(self, folder: Path) -> None:
        bare = self._bare
        if bare is None:
            save_pretrained(self.tokenizer, folder)
        else:
            bare.save(folder)

    def to_huggingface(self) -> Any:
        return copy.deepcopy(self.tokenizer)


_UNSEEN, _SPACE, _WORD, _IN_WORD, _ODD = range(5)  # kinds of characters, see _kind_of


class _WordUnits(Units):
    """Units are words, and characters that are separate words: punctuation and Chinese characters."""

    def __init__(self, tokenizer: NemoBertTokenizer):
        super().__init__(tokenizer, tokenizer._encode_whole, tokenizer.starts_word)
        self._encoder = tokenizer._corpus_encoder
        self._kinds = np.full(sys.maxunicode + 1, _UNSEEN, np.uint8)
        self._odd: set[str] = set()

    def _begins(self, characters: np.ndarray) -> np.ndarray:
        kinds = self._kinds[characters]
        if not kinds.all():
            for code in np.flatnonzero(np.bincount(characters[kinds == _UNSEEN])).tolist():
                self._kinds[code] = self._kind_of(chr(code))
            kinds = self._kinds[characters]
        is_space, is_word = kinds == _SPACE, kinds == _WORD
        begins = is_word.copy()
        begins[1:] |= is_space[:-1] | is_word[:-1]
        begins &= ~is_space
        return begins

    def _kind_of(self, character: str) -> int:
        normal = self._encoder.normalizer.normalize_str(f"a{character}a")
        words = [word for word, _ in self._encoder.pre_tokenizer.pre_tokenize_str(normal)]
        if words == ["a", "a"]:
            return _SPACE
        if len(words) == 3 and words[0] == words[2] == "a":
            return _WORD
        if len(words) == 1 and len(words[0]) > 2:
            return _IN_WORD
        # Such as one that normalization drops: the encoder sees it together with its neighbors.
        self._odd.add(character)
        return _ODD

    def _are_words(self, units: list[str]) -> list[bool]:
        return [self._odd.isdisjoint(unit) for unit in units] if self._odd else [True] * len(units)

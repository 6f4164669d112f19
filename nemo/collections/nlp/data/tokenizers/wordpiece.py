"""WordPiece (Schuster and Nakajima 2012), BERT's own tokenizer, in which `##` continues a word.

And the tokenizers of BERT's relatives, as transformers has them.
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

from nemo.collections.nlp.data.tokenizers.base import CONTINUATION, TokenizerSpec
from nemo.collections.nlp.data.tokenizers.files import (
    VOCABULARY_FILE,
    read_file,
    read_json,
    read_vocabulary,
    try_out,
)
from nemo.collections.nlp.data.tokenizers.special_tokens import (
    KINDS,
    NEEDED_KINDS,
    SpecialTokens,
    vocabulary_order,
)
from nemo.collections.nlp.data.tokenizers.units import Units
from nemo.collections.nlp.hub import find, quiet
from nemo.utils.errors import UsageError
from nemo.utils.lookup import choose

TOKENIZER_FILE = "tokenizer.json"
CONFIG_FILE = "tokenizer_config.json"
MAX_CHARS_PER_WORD = 200  # longer words are unknown, as in Google's BERT; transformers' default is 100
_MARKS = {"WordPiece": CONTINUATION, "Unigram": "▁", "BPE": "Ġ"}  # model -> mark, see TokenizerSpec


class NemoBertTokenizer(TokenizerSpec):
    """A transformers tokenizer: a pretrained one, or BERT's over a vocabulary file.

    Args:
        pretrained_model: a Hugging Face folder, or a name of the hub, looked for in the cache before the
            network is asked. What kind of tokenizer it is stands in its files.
        vocab_file: a `vocab.txt` with BERT's special tokens; read if there is no `pretrained_model`.
        bert_derivative: whose vocabulary file it is; only "bert" has one of this kind.
        do_lower_case: with `vocab_file`: lower-case text and strip accents.

    Attributes:
        tokenizer: the transformers tokenizer.

    Raises:
        MissingFileError: there is no such vocabulary file.
        UsageError: neither is given; or the file is no vocabulary of a BERT (see `files.read_vocabulary`); or
            there is no such pretrained tokenizer, or none that a BERT could use.
    """

    def __init__(
        self,
        pretrained_model: str | os.PathLike[str] | None = None,
        vocab_file: str | os.PathLike[str] | None = None,
        bert_derivative: str = "bert",
        do_lower_case: bool = False,
    ):
        if pretrained_model:
            self.tokenizer = _pretrained(os.fspath(pretrained_model))
        elif vocab_file:
            choose({"bert": None}, bert_derivative, what="BERT derivative with a vocab_file")
            self.tokenizer = _from_vocabulary(os.fspath(vocab_file), do_lower_case)
        else:
            raise UsageError("either 'vocab_file' or 'pretrained_model' has to be specified")
        model = self.tokenizer.backend_tokenizer.model
        mark = choose(_MARKS, type(model).__name__, what="kind of tokenizer")
        if mark == CONTINUATION:
            model.max_input_chars_per_word = MAX_CHARS_PER_WORD
        tokens = self.tokenizer.convert_ids_to_tokens(list(range(len(self.tokenizer))))
        super().__init__(tokens, mark, self.tokenizer.unk_token_id)
        added = self.tokenizer.added_tokens_decoder.values()
        self.add_special_tokens([token.content for token in added if token.special])
        kinds = {k: token for k, token in self.tokenizer.special_tokens_map.items() if k in KINDS}
        self.add_special_tokens({"bos_token": kinds["cls_token"], "eos_token": kinds["sep_token"], **kinds})

    @classmethod
    def from_folder(cls, folder: Path) -> "NemoBertTokenizer":
        """What `save` wrote, a Hugging Face folder, or a `vocab.txt` with or without a configuration."""
        if (folder / TOKENIZER_FILE).is_file():
            return cls(pretrained_model=folder)
        config = read_json(folder / CONFIG_FILE) if (folder / CONFIG_FILE).is_file() else {}
        return cls(vocab_file=folder / VOCABULARY_FILE, do_lower_case=config.get("do_lower_case") is True)

    def add_special_tokens(self, special_tokens: SpecialTokens) -> None:
        super().add_special_tokens(special_tokens)
        from tokenizers import AddedToken

        self.tokenizer.add_tokens(
            [
                AddedToken(token, special=True, normalized=False)
                for i, token in sorted(self.id_to_special_token.items())
                if i not in self.tokenizer.added_tokens_decoder
            ]
        )
        for stale in ("_corpus_encoder", "_units"):
            self.__dict__.pop(stale, None)

    def text_to_tokens(self, text: str) -> list[str]:
        return self.tokenizer.tokenize(text)

    def text_to_ids(self, text: str) -> list[int]:
        return self.tokens_to_ids(self.text_to_tokens(text))

    def tokens_to_text(self, tokens: Sequence[str]) -> str:
        return self.tokenizer.convert_tokens_to_string(list(tokens))

    def ids_to_text(self, ids: Sequence[int]) -> str:
        """Special tokens are left out."""
        return self.tokens_to_text(self.ids_to_tokens([i for i in ids if i not in self.id_to_special_token]))

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        encode = self._units.encode_batch if self._has_units else self._encode_whole
        return encode(list(texts))

    def _encode_whole(self, texts: list[str]) -> list[np.ndarray]:
        encodings = self._corpus_encoder.encode_batch_fast(texts, add_special_tokens=False)
        return [np.array(encoding.ids, np.int32) for encoding in encodings]

    @property
    def _has_units(self) -> bool:
        """Whether a character is normalised, and begins a word or not, whatever stands beside it."""
        backend = self.tokenizer.backend_tokenizer
        kinds = [type(part).__name__ for part in (backend.normalizer, backend.pre_tokenizer, backend.model)]
        return kinds == ["BertNormalizer", "BertPreTokenizer", "WordPiece"] and all(
            token.special for token in self.tokenizer.added_tokens_decoder.values()
        )

    @cached_property
    def _corpus_encoder(self) -> Any:
        """The backend, blind to special tokens in the text but for the unknown token."""
        from tokenizers import Tokenizer

        description = json.loads(self.tokenizer.backend_tokenizer.to_str())
        for token in description["added_tokens"]:
            token["special"] &= token["content"] != self.unk_token
        encoder = Tokenizer.from_str(json.dumps(description))
        encoder.encode_special_tokens = True  # the name of the option says: as if they were words
        return encoder

    @cached_property
    def _units(self) -> "_WordUnits":
        return _WordUnits(self)

    def _definition(self) -> bytes:
        description = json.loads(self.tokenizer.backend_tokenizer.to_str())
        return json.dumps([description[part] for part in ("model", "normalizer", "pre_tokenizer")]).encode()

    def _save_model(self, folder: Path) -> None:
        with quiet():
            self.tokenizer.save_pretrained(folder)

    def to_huggingface(self) -> Any:
        return copy.deepcopy(self.tokenizer)


_UNSEEN, _SPACE, _WORD, _IN_WORD, _ODD = range(5)  # what a character is to the words of a text, see _kind_of


class _WordUnits(Units):
    """Words, and characters that are words of their own: punctuation and Chinese ones."""

    def __init__(self, tokenizer: NemoBertTokenizer):
        super().__init__(tokenizer, tokenizer._encode_whole, tokenizer.starts_word)
        self._encoder = tokenizer._corpus_encoder
        self._kinds = np.full(sys.maxunicode + 1, _UNSEEN, np.uint8)
        self._odd: set[str] = set()

    def _begins(self, characters: np.ndarray) -> np.ndarray:
        kinds = self._kinds[characters]
        if not kinds.all():
            for code in np.unique(characters[kinds == _UNSEEN]).tolist():
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
        self._odd.add(character)  # such as one that is left out: stays beside its neighbours for the encoder
        return _ODD

    def _is_word(self, unit: str) -> bool:
        return self._odd.isdisjoint(unit)


def _from_vocabulary(path: str, do_lower_case: bool) -> Any:
    tokens = read_vocabulary(path, required=vocabulary_order())
    from transformers import BertTokenizer

    return BertTokenizer(vocab={token: i for i, token in enumerate(tokens)}, do_lower_case=do_lower_case)


def _pretrained(name: str) -> Any:
    """The tokenizer of that name, or in that folder.

    Raises:
        UsageError: there is none, its files are damaged, or it lacks what a BERT needs.
    """
    from transformers import AutoTokenizer

    def load(place: str, local_only: bool) -> Any:
        with quiet():
            return AutoTokenizer.from_pretrained(place, local_files_only=local_only)

    file = Path(name, TOKENIZER_FILE)
    if file.is_file():
        read_json(file)
        try_out("tokenizers", read_file(file), file, "the tokenizer cannot be read")
    try:
        tokenizer = find(name, load)
    except OSError as error:
        raise UsageError(
            "no pretrained tokenizer of that name",
            where=name,
            found=_first_line(error),
            expected="a Hugging Face folder, or a name in the cache or on the hub",
        ) from error
    except Exception as error:  # `tokenizers` has no narrower class for what it cannot read
        raise UsageError("the tokenizer cannot be read", where=name, found=_first_line(error)) from error
    return _checked(tokenizer, name)


def _checked(tokenizer: Any, name: str) -> Any:
    if not tokenizer.is_fast:
        raise UsageError("has no fast tokenizer", where=name, found=type(tokenizer).__name__)
    missing = [kind for kind in NEEDED_KINDS if kind not in tokenizer.special_tokens_map]
    if missing:
        raise UsageError("not the tokenizer of a BERT", where=name, found=f"no {', '.join(missing)}")
    if sorted(tokenizer.get_vocab().values()) != list(range(len(tokenizer))):
        raise UsageError("ids are missing or shared between tokens", where=name)
    return tokenizer


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")

"""A plain BERT tokenizer over a vocabulary, built with `tokenizers` alone.

It is the tokenizer that transformers would open, without transformers, which takes seconds to import. If the
files specify anything unusual or unclear, transformers opens them (huggingface.py).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nemo.collections.nlp.data.tokenizers.files import (
    CONTINUATION,
    VOCABULARY_FILE,
    are_plain,
    read_file,
    read_json,
    read_vocabulary,
    vocabulary_lines,
)
from nemo.collections.nlp.data.tokenizers.huggingface import CONFIG_FILE, FILES, TOKENIZER_FILE, warn_of_case
from nemo.collections.nlp.data.tokenizers.special_tokens import (
    NEEDED_KINDS,
    get_bert_special_tokens,
    vocabulary_order,
)
from nemo.utils.files import write_atomically

_KINDS = {kind: get_bert_special_tokens("bert")[kind] for kind in NEEDED_KINDS}
_OF_A_PLACE = {"is_local", "local_files_only"}  # transformers' record of where it read a configuration


@dataclass(frozen=True)
class Plain:
    """A plain tokenizer.

    Attributes:
        tokens: the vocabulary, including BERT's special tokens.
        do_lower_case: lower-case text and strip accents.
        backend: the `tokenizers.Tokenizer`, to which tokens may be added.
    """

    tokens: list[str]
    do_lower_case: bool
    backend: Any

    @property
    def kinds(self) -> dict[str, str]:
        """Kind -> special token."""
        return dict(_KINDS)

    @property
    def description(self) -> bytes:
        """The content of `tokenizer.json`, as transformers writes it."""
        return self.backend.to_str(pretty=True).encode()

    def save(self, folder: Path) -> None:
        """Write the same files as `huggingface.save_pretrained`."""
        config = json.dumps(_usual_config(self.do_lower_case), indent=2, sort_keys=True) + "\n"
        write_atomically(folder / TOKENIZER_FILE, self.description)
        write_atomically(folder / CONFIG_FILE, config.encode())

    def to_huggingface(self) -> Any:
        """The transformers tokenizer."""
        from transformers import BertTokenizer

        ids = {token: number for number, token in enumerate(self.tokens)}
        tokenizer = BertTokenizer(vocab=ids, do_lower_case=self.do_lower_case)
        added = self.backend.get_added_tokens_decoder()
        tokenizer.add_tokens([token for _, token in sorted(added.items())])
        return tokenizer


def open_plain(source: Path, do_lower_case: bool) -> Plain | None:
    """The tokenizer in a folder, or over a `vocab.txt` alone; None if it is not plain.

    A plain folder has a `vocab.txt`; optionally a tokenizer_config.json with nothing unusual; and optionally
    a `tokenizer.json` that equals the one this module would save.

    Args:
        do_lower_case: for a lone `vocab.txt`, given as a file or in a folder.

    Raises:
        UsageError: the files are damaged.
    """
    file = source / VOCABULARY_FILE if source.is_dir() else source
    lines = vocabulary_lines(read_file(file)) if file.is_file() else []
    if not are_plain(lines) or not set(_KINDS.values()) <= set(lines):
        return None
    if file == source:
        tokens = read_vocabulary(file, required=vocabulary_order())
        warn_of_case(file, do_lower_case)
        return _plain(tokens, do_lower_case)
    others = {name for name in FILES if (source / name).exists()}
    said = read_json(source / CONFIG_FILE) if CONFIG_FILE in others else {}
    if others:
        do_lower_case = said.get("do_lower_case", True) is True
    if not _is_usual(said, do_lower_case) or not others <= {CONFIG_FILE, TOKENIZER_FILE}:
        return None
    plain = _plain(read_vocabulary(file, required=vocabulary_order()), do_lower_case)
    if TOKENIZER_FILE in others and plain.description != read_file(source / TOKENIZER_FILE):
        return None
    return plain


def _plain(tokens: list[str], do_lower_case: bool) -> Plain:
    return Plain(tokens, do_lower_case, bert_backend(tokens, do_lower_case))


def _is_usual(said: dict[str, Any], do_lower_case: bool) -> bool:
    """Whether a tokenizer_config.json has only usual settings; 1 instead of true is unusual."""
    usual = _usual_config(do_lower_case)
    return all(
        key in usual and json.dumps(usual[key]) == json.dumps(said[key]) for key in said.keys() - _OF_A_PLACE
    )


def _usual_config(do_lower_case: bool) -> dict[str, Any]:
    """The content of tokenizer_config.json, as transformers writes it."""
    return _KINDS | {
        "backend": "tokenizers",
        "do_lower_case": do_lower_case,
        "model_max_length": int(1e30),  # means no maximum
        "strip_accents": None,
        "tokenize_chinese_chars": True,
        "tokenizer_class": "BertTokenizer",
    }


def bert_backend(tokens: Sequence[str], do_lower_case: bool) -> Any:
    """BERT's WordPiece tokenizer in `tokenizers`, as transformers' `BertTokenizer` sets it up.

    Args:
        tokens: the vocabulary, including BERT's special tokens.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    ids = {token: number for number, token in enumerate(tokens)}
    cls, sep = _KINDS["cls_token"], _KINDS["sep_token"]
    backend = Tokenizer(models.WordPiece(ids, unk_token=_KINDS["unk_token"]))
    backend.normalizer = normalizers.BertNormalizer(lowercase=do_lower_case)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix=CONTINUATION)
    backend.post_processor = processors.TemplateProcessing(
        single=f"{cls}:0 $A:0 {sep}:0",
        pair=f"{cls}:0 $A:0 {sep}:0 $B:1 {sep}:1",
        special_tokens=[(cls, ids[cls]), (sep, ids[sep])],
    )
    backend.add_tokens([AddedToken(token, special=True, normalized=False) for token in _KINDS.values()])
    return backend

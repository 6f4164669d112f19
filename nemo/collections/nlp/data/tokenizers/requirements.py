"""Checks, on opening, that a transformers tokenizer suits a BERT."""

from pathlib import Path
from typing import Any

from nemo.collections.nlp.data.tokenizers.files import CONTINUATION, SPACE
from nemo.collections.nlp.data.tokenizers.special_tokens import NEEDED_KINDS
from nemo.utils.errors import UsageError
from nemo.utils.logging import logging

MARKS = {"WordPiece": CONTINUATION, "Unigram": SPACE, "BPE": "Ġ"}
"""Kind of model -> mark of its tokens, see `TokenizerSpec`."""


def check_kind(tokenizer: Any, source: Path) -> None:
    """Check everything except the special tokens.

    Raises:
        UsageError: it is not a fast tokenizer, has no vocabulary, or is of a kind that is not supported.
    """
    if not tokenizer.is_fast:
        raise UsageError("not a fast tokenizer", where=source, found=type(tokenizer).__name__)
    specials = set(tokenizer.all_special_tokens)
    if specials.issuperset(tokenizer.get_vocab()):
        pieces = [path.name for path in sorted(source.glob("*.model"))]
        raise UsageError(
            "the tokenizer has no vocabulary",
            where=source,
            found=f"only {', '.join(sorted(specials))}",
            expected="a tokenizer.json or a vocab.txt",
            fix=f"name {source / pieces[0]} to read it as a SentencePiece model" if pieces else "",
        )
    backend = tokenizer.backend_tokenizer
    kind = type(backend.model).__name__
    if kind not in MARKS:
        raise UsageError(
            "unsupported kind of tokenizer",
            where=source,
            found=kind,
            expected=f"one of {', '.join(MARKS)}",
        )
    prefix = getattr(backend.model, "continuing_subword_prefix", None)
    if kind == "WordPiece" and prefix != CONTINUATION:
        raise UsageError(
            "its WordPieces mark continued words differently",
            where=source,
            found=repr(prefix),
            expected=repr(CONTINUATION),
            fix="rewrite the tokens and continuing_subword_prefix in its tokenizer.json",
        )
    for component in (backend.normalizer, backend.pre_tokenizer):
        try:
            component and component.__getstate__()
        except Exception as error:  # `tokenizers` has no narrower class
            raise UsageError(
                "it contains custom code, which cannot be saved to tokenizer.json",
                where=source,
                found=type(tokenizer).__name__,
                fix="use another tokenizer, such as a BertTokenizer with the same vocab.txt",
            ) from error
    if tokenizer.split_special_tokens:
        raise UsageError(
            "special tokens would be split into words",
            where=source,
            found="split_special_tokens: true",
            fix="delete it from tokenizer_config.json",
        )


def warn_of_shared_tokens(tokenizer: Any, source: Path) -> None:
    """Warn if one token has two kinds, such as [UNK] for both masked and unknown text."""
    kinds: dict[str, str] = {}
    for kind in NEEDED_KINDS:
        token = tokenizer.special_tokens_map[kind]
        if token in kinds:
            logging.warning(
                "%s: %s is both %s and %s, so the model cannot tell them apart; fix: give each its own "
                "token in tokenizer_config.json",
                source,
                token,
                kinds[token],
                kind,
            )
        kinds[token] = kind

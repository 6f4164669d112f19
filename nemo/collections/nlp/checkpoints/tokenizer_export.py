"""Writes the tokenizer of an exported folder, and verifies that `AutoTokenizer` gives the same ids."""

from pathlib import Path
from typing import Any

from nemo.collections.nlp.data.tokenizers import TokenizerSpec
from nemo.collections.nlp.data.tokenizers.crash_test import TEXTS
from nemo.collections.nlp.data.tokenizers.files import CONTINUATION, VOCABULARY_FILE, write_vocabulary
from nemo.collections.nlp.data.tokenizers.huggingface import save_pretrained
from nemo.collections.nlp.data.tokenizers.special_tokens import NEEDED_KINDS
from nemo.collections.nlp.models.hub import quiet
from nemo.utils.errors import CheckpointError

_LENGTHS = (99, 100, 101, 150, 200, 201)  # of long words: tokenizers differ in the longest word they split
_WORDS_AT_ONCE = 200
_A_BYTE = "<0x00>"  # a piece in SentencePiece models with byte fallback


def export_tokenizer(tokenizer: TokenizerSpec, folder: Path, max_length: int) -> None:
    """Write a tokenizer's files, and verify that they reload as the same tokenizer.

    Args:
        max_length: number of the model's positions.

    Raises:
        CheckpointError: they do not.
        UsageError: transformers has no such tokenizer, see `TokenizerSpec.to_huggingface`.
    """
    exported = tokenizer.to_huggingface()
    exported.model_max_length = max_length
    save_pretrained(exported, folder)
    vocabulary = tokenizer.vocabulary()
    if exported.backend_tokenizer.model.__class__.__name__ == "WordPiece":
        write_vocabulary(folder / VOCABULARY_FILE, vocabulary)
    _prove_same_ids(tokenizer, folder, vocabulary)


def _prove_same_ids(tokenizer: TokenizerSpec, folder: Path, vocabulary: list[str]) -> None:
    from transformers import AutoTokenizer

    texts = _texts(tokenizer, vocabulary)
    with quiet():
        theirs = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        reloaded = theirs(texts, add_special_tokens=False)["input_ids"]
    if len(theirs) != tokenizer.vocab_size:
        raise _differs("a different size", len(theirs), tokenizer.vocab_size)
    for kind in NEEDED_KINDS:
        number = tokenizer.token_to_id(tokenizer.special_tokens[kind])
        if getattr(theirs, f"{kind}_id") != number:
            raise _differs(f"a different {kind}", getattr(theirs, kind), tokenizer.special_tokens[kind])
    for text, ids in zip(texts, reloaded, strict=True):
        if tokenizer.text_to_ids(text) == ids:
            continue
        for word in (*text.split(), text):
            found = theirs(word, add_special_tokens=False)["input_ids"]
            if found != (expected := tokenizer.text_to_ids(word)):
                raise _differs(
                    f"different ids for {_shortened(word)}",
                    theirs.convert_ids_to_tokens(found)[:10],
                    tokenizer.ids_to_tokens(expected)[:10],
                )


def _differs(what: str, found: Any, expected: Any) -> CheckpointError:
    return CheckpointError(
        f"as transformers reads it, the tokenizer has {what}",
        found=found,
        expected=expected,
        fix="train with another tokenizer: this one cannot be exported",
    )


def _texts(tokenizer: TokenizerSpec, vocabulary: list[str]) -> list[str]:
    """Texts with every character, alone and beside others, the words of the vocabulary, and long words."""
    without_text = tokenizer.tokens_without_text - tokenizer.special_token_to_id.keys()
    spelled = (token.removeprefix(CONTINUATION) for token in vocabulary)
    words = [word for word in spelled if word not in without_text]
    letter = next((word for word in words if len(word) == 1 and word.isalpha()), "a")
    # Byte fallback distinguishes what other models treat as unknown: marks in another order than Unicode's.
    has_bytes = _A_BYTE in without_text
    return [
        *(" ".join(words[i : i + _WORDS_AT_ONCE]) for i in range(0, len(words), _WORDS_AT_ONCE)),
        *map(" ".join, TEXTS),
        *([] if has_bytes else TEXTS),
        *(letter * length for length in _LENGTHS),
    ]


def _shortened(word: str) -> str:
    return ascii(word) if len(word) <= 40 else f"{word[:20]!a} ... ({len(word)} characters)"

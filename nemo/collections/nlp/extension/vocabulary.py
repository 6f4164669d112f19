"""Extends a vocabulary: selects new entries, assigns their ids, and verifies that nothing else changes."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from nemo.collections.nlp.data.text.sentences import IDEOGRAPHS
from nemo.collections.nlp.data.tokenizers import NemoBertTokenizer, TokenizerSpec, load_tokenizer
from nemo.collections.nlp.data.tokenizers.files import CONTINUATION, VOCABULARY_FILE, write_vocabulary
from nemo.collections.nlp.data.tokenizers.huggingface import TOKENIZER_FILE, save_pretrained
from nemo.collections.nlp.data.tokenizers.special_tokens import vocabulary_order
from nemo.collections.nlp.data.tokenizers.vocabulary import learn_wordpiece
from nemo.collections.nlp.extension.wordpiece import Selection, Words, split_word
from nemo.utils.errors import CheckpointError, DataError, UsageError
from nemo.utils.files import write_atomically
from nemo.utils.logging import logging

CANDIDATES = 40_000
"""WordPieces learned on the text, including characters; the best of them are added."""
LEAST_SAVED = 20
"""Minimum number of tokens that an entry must save, without `pieces`: rarer entries would not be learned."""
_IDEOGRAPH = re.compile(f"[{IDEOGRAPHS}]")
_UNUSED = re.compile(r"\[unused\d+\]")


@dataclass(frozen=True)
class Extension:
    """New entries.

    Attributes:
        ids: new piece -> id.
        replaced: new piece -> the old ids it replaces, from whose mean it starts.
        saved: new piece -> tokens of the text that it saved when it was added.
        tokenizer: the tokenizer with the new entries.
    """

    ids: Mapping[str, int]
    replaced: Mapping[str, Sequence[int]]
    saved: Mapping[str, int]
    tokenizer: TokenizerSpec


def refuse_other_kinds(tokenizer: TokenizerSpec, source: str) -> None:
    """Raise a UsageError unless the tokenizer is BERT's WordPiece."""
    if isinstance(tokenizer, NemoBertTokenizer):
        backend = tokenizer.to_huggingface().backend_tokenizer
        kinds = [type(component).__name__ for component in (backend.pre_tokenizer, backend.model)]
        if kinds == ["BertPreTokenizer", "WordPiece"]:
            return
    raise UsageError(
        "only a WordPiece vocabulary can be extended",
        where=source,
        found=type(tokenizer).__name__,
        expected="BERT's tokenizer over a vocab.txt",
    )


def count_words(tokenizer: TokenizerSpec, lines: Iterable[str]) -> Counter[str]:
    """The words of a text, as normalized and separated by the tokenizer."""
    cut = tokenizer.to_huggingface().backend_tokenizer.pre_tokenizer.pre_tokenize_str
    words: Counter[str] = Counter()
    for line in lines:
        words.update(word for word, _ in cut(tokenizer.normalized(line)))
    return words


def is_chinese(words: Words) -> bool:
    """Whether most characters of a text are ideographs, each of which is a word for BERT."""
    ideographs = sum(count for word, count in words.items() if _IDEOGRAPH.fullmatch(word))
    return 2 * ideographs > sum(count * len(word) for word, count in words.items())


def extend(
    tokenizer: TokenizerSpec, lines: Sequence[str], pieces: int | None, least_saving: float
) -> Extension:
    """Select the pieces that save most in a text, and assign ids to them.

    For a Chinese text, pieces are single characters: its longer words are mostly numbers with their units.

    Args:
        pieces: maximum number of pieces; None: limited by `least_saving`.
        least_saving: share of the text's tokens that a piece must save.

    Raises:
        DataError: no piece saves enough.
        CheckpointError: the new vocabulary splits words differently where it should not.
    """
    words = count_words(tokenizer, lines)
    vocabulary = tokenizer.vocabulary()
    specials = set(tokenizer.special_tokens.values())
    normalized = [tokenizer.normalized(line) for line in lines]
    candidates = set(learn_wordpiece(normalized, vocabulary_order(), CANDIDATES)) - specials
    if is_chinese(words):
        candidates = {piece for piece in candidates if len(piece.removeprefix(CONTINUATION)) == 1}
    selection = Selection(words, vocabulary, candidates)
    known = set(vocabulary)
    tokens = sum(count * len(split_word(word, known) or "?") for word, count in words.items())
    least = 0.0 if pieces is not None else max(LEAST_SAVED, least_saving * tokens)
    logging.info("%d candidates from %d words (%d distinct)", len(candidates), words.total(), len(words))
    selection.run(pieces, least)
    while selection.drop_unused():
        selection.run(pieces, least)
    if not selection.chosen:
        raise DataError(
            "no new entry saves enough: the vocabulary already fits the text",
            found=f"{tokens / max(1, words.total()):.2f} pieces per word",
            fix="lower --least_saving, or give --pieces",
        )
    ids: dict[str, int] = {}
    slots = [i for i, token in enumerate(vocabulary) if _UNUSED.fullmatch(token)]
    for piece in selection.chosen:
        if slots:
            ids[piece] = slots.pop(0)
            vocabulary[ids[piece]] = piece
        else:
            ids[piece] = len(vocabulary)
            vocabulary.append(piece)
    replaced = {piece: tokenizer.tokens_to_ids(_replaced(piece, known, tokenizer)) for piece in ids}
    extended = _with_vocabulary(tokenizer, vocabulary)
    prove(tokenizer, extended, words, ids)
    return Extension(ids, replaced, selection.chosen, extended)


def _replaced(piece: str, known: Set[str], tokenizer: TokenizerSpec) -> list[str]:
    """The old pieces that spell a new one; the unknown token if they cannot."""
    text = piece.removeprefix(CONTINUATION)
    return split_word(text, known, continues=text != piece) or tokenizer.ids_to_tokens([tokenizer.unk_id])


def _with_vocabulary(tokenizer: TokenizerSpec, vocabulary: Sequence[str]) -> TokenizerSpec:
    """The tokenizer with a new vocabulary: as entries, because added tokens are slow."""
    original = tokenizer.to_huggingface()
    description = json.loads(original.backend_tokenizer.to_str())
    description["model"]["vocab"] = {token: i for i, token in enumerate(vocabulary)}
    with TemporaryDirectory() as aside:
        folder = Path(aside)
        save_pretrained(original, folder)
        write_atomically(folder / TOKENIZER_FILE, json.dumps(description, ensure_ascii=False).encode())
        write_vocabulary(folder / VOCABULARY_FILE, vocabulary)
        return load_tokenizer(folder)


def prove(before: TokenizerSpec, after: TokenizerSpec, words: Words, new: Mapping[str, int]) -> None:
    """Verify a vocabulary with new entries, on all words of the text and of the old vocabulary.

    Raises:
        CheckpointError: an entry is never used, or a word without new entries is split differently.
    """
    texts = [*words, *(token for token in before.vocabulary() if not token.startswith(CONTINUATION))]
    reached: set[int] = set()
    new_ids = set(new.values())
    for text, old_ids, ids in zip(texts, before.encode_batch(texts), after.encode_batch(texts), strict=True):
        used = new_ids.intersection(ids.tolist())
        reached |= used
        if not used and old_ids.tolist() != ids.tolist():
            raise CheckpointError(
                "a word without new entries is split differently",
                where=repr(text),
                found=after.ids_to_tokens(ids.tolist()),
                expected=before.ids_to_tokens(old_ids.tolist()),
            )
    for piece, number in new.items():
        if number not in reached:
            raise CheckpointError("the new entry is never used", where=repr(piece))

"""SentencePiece (Kudo and Richardson 2018): pieces of text, in which `▁` is the space before a word."""

import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from nemo.collections.nlp.data.tokenizers.base import TokenizerSpec
from nemo.collections.nlp.data.tokenizers.files import SPACE, read_file, read_json, try_out
from nemo.collections.nlp.data.tokenizers.special_tokens import (
    NEEDED_KINDS,
    SpecialTokens,
    get_bert_special_tokens,
)
from nemo.collections.nlp.data.tokenizers.units import Units
from nemo.utils.errors import UsageError
from nemo.utils.files import write_atomically
from nemo.utils.logging import logging

MODEL_FILE = "tokenizer.model"
SPECIAL_TOKENS_FILE = "special_tokens.json"
_NOT_A_MODEL = "not a SentencePiece model, or a damaged one"

SCORE_STEP = 1 / 256
"""Scores that are multiples of this can be added without rounding, see `_SpacedUnits`."""
_EXACT_SUM = SCORE_STEP * 2**24  # largest sum that is exact in float32
_USE_OURS = "train with a unigram model, such as --tokenizer sentence-piece makes"
_WIDE_TILDE = "\uff5e"  # NFKC turns it into a tilde, SentencePiece's nmt_nfkc keeps it
_STAND_IN = "\ufdd1\ufdd0"  # noncharacters, in an order that no list of them has
_USUAL_LENGTH = 40  # characters of a word and the space after it
_UNKNOWN_PENALTY = 10  # an unknown character scores this much below the lowest piece


class SentencePieceTokenizer(TokenizerSpec):
    """A SentencePiece model with special tokens.

    If the model has BERT's special tokens as control pieces, as models trained here do, they are recognized
    immediately. For other models, `add_special_tokens` appends them.

    Args:
        model_path: a `.model` file.
        special_tokens: passed to `add_special_tokens`.

    Raises:
        MissingFileError: there is no such file.
        UsageError: it is not a SentencePiece model, or one that would crash this process.
    """

    def __init__(self, model_path: str | os.PathLike[str], special_tokens: SpecialTokens = ()):
        self._content = read_file(model_path)
        entries = parse_model(self._content, model_path).pieces
        try_out("sentencepiece", self._content, model_path, _NOT_A_MODEL)
        self._model = _open(self._content, model_path)
        pieces = [entry.piece for entry in entries]
        controls = [i for i, e in enumerate(entries) if e.type in (e.CONTROL, e.UNKNOWN)]
        super().__init__(pieces, SPACE, self._model.unk_id(), controls)
        known = {pieces[i] for i in controls}
        self.tokens_without_text = frozenset({SPACE, *known, *(e.piece for e in entries if e.type == e.BYTE)})
        self._source = model_path
        of_bert = get_bert_special_tokens("bert").items()
        self.add_special_tokens({kind: token for kind, token in of_bert if token in known})
        self.add_special_tokens(special_tokens)

    @classmethod
    def from_file(cls, file: Path) -> "SentencePieceTokenizer":
        """Open what `save` wrote, or any SentencePiece model, with BERT's special tokens added."""
        tokenizer = cls(file)
        if reason := tokenizer._not_exported:
            logging.warning(
                "%s is %s: BERT can be trained with it, but not exported for transformers; fix: %s",
                file,
                reason,
                _USE_OURS,
            )
        notes = file.with_name(SPECIAL_TOKENS_FILE)
        if notes.is_file():
            special_tokens = read_json(notes)
            tokenizer.add_special_tokens(special_tokens.get("tokens", []))
            tokenizer.add_special_tokens(special_tokens.get("kinds", {}))
        else:
            tokenizer.add_special_tokens(get_bert_special_tokens("bert"))
        return tokenizer

    def normalized(self, text: str) -> str:
        return self._model.normalize(text).replace(SPACE, " ").strip()

    def text_to_tokens(self, text: str) -> list[str]:
        return list(self._encode(text, self.special_token_to_id, str))

    def text_to_ids(self, text: str) -> list[int]:
        return list(self._encode(text, self.special_token_to_id, int))

    def _encode(self, text: str, special_tokens: Iterable[str], as_type: type) -> Iterator[Any]:
        """The special tokens in a text and the pieces between them, as ids (int) or strings (str).

        Text directly after a special token, without a space, does not begin a word: "un[MASK]ed" ends in
        `ed`, not `▁ed`.
        """
        for number, part in enumerate(_one_of(special_tokens).split(text)):
            if number % 2:
                yield part if as_type is str else self._ids[part]
            elif number == 0 or part[:1].isspace():
                yield from self._model.encode(part, return_type=as_type)
            elif part:
                yield from self._model_inside_words.encode(part, return_type=as_type)

    @cached_property
    def _model_inside_words(self) -> Any:
        """The model for text that begins inside a word."""
        proto = parse_model(self._content, MODEL_FILE)
        proto.normalizer_spec.add_dummy_prefix = False
        return _open(proto.SerializeToString(), MODEL_FILE)

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        encode = self._units.encode_batch if self._units else self._encode_whole
        return encode(list(texts))

    def _encode_whole(self, texts: list[str]) -> list[np.ndarray]:
        batch = self._model.encode(texts, return_type="numpy", num_threads=_num_threads())
        tokens = self.corpus_tokens
        for i, text in enumerate(texts):
            if any(token in text for token in tokens):
                batch[i] = np.fromiter(self._encode(text, tokens, int), np.int32)
        return batch

    @cached_property
    def _units(self) -> "_SpacedUnits | None":
        """None if the split of text between spaces may depend on its context."""
        proto = parse_model(self._content, MODEL_FILE)
        trainer, normalizer = proto.trainer_spec, proto.normalizer_spec
        usual = {proto.SentencePiece.NORMAL, proto.SentencePiece.UNKNOWN, proto.SentencePiece.CONTROL}
        texts = {entry.piece: entry.score for entry in proto.pieces if entry.type == entry.NORMAL}
        has_units = (
            trainer.model_type == trainer.UNIGRAM
            and normalizer.add_dummy_prefix
            and normalizer.remove_extra_whitespaces
            and normalizer.escape_whitespaces
            and not trainer.treat_whitespace_as_suffix
            and usual.issuperset(entry.type for entry in proto.pieces)
            and SPACE in texts  # otherwise it is unknown, and merges with unknown text before it
            and not any(SPACE in text[1:] for text in texts)
            and all(score % SCORE_STEP == 0 for score in texts.values())
        )
        return _SpacedUnits(self, min(texts.values())) if has_units else None

    def tokens_to_text(self, tokens: Sequence[str]) -> str:
        parts: list[str] = []
        for is_special, group in groupby(tokens, self.special_token_to_id.__contains__):
            run = list(group)
            parts += run if is_special else [self._model.decode_pieces(run)]
        return " ".join(part for part in parts if part)

    def ids_to_text(self, ids: Sequence[int]) -> str:
        return self.tokens_to_text(self.ids_to_tokens(ids))

    def _special_in_order(self) -> list[str]:
        return sorted(self.special_token_to_id, key=self._ids.__getitem__)

    def _definition(self) -> bytes:
        return self._content

    def _save_model(self, folder: Path) -> None:
        special_tokens = {"kinds": self.special_tokens, "tokens": self._special_in_order()}
        write_atomically(folder / MODEL_FILE, self._content)
        write_atomically(folder / SPECIAL_TOKENS_FILE, json.dumps(special_tokens, indent=2).encode())

    def to_huggingface(self) -> Any:
        """A transformers tokenizer over the same pieces.

        It splits text into words first, and normalizes it by NFKC before SentencePiece's own rules, which
        alone would lose marks in `tokenizers`. Ids are equal except for unusual combining marks, and, in
        models not trained here, where two splits of a word are equally likely (see
        `vocabulary.learn_sentencepiece`).

        A control or byte piece spelled out in a text, such as `<unk>`, becomes that piece in `tokenizers`;
        here it is text, as in SentencePiece.

        Raises:
            UsageError: `tokenizers` has no such model, or a special token is unknown.
        """
        from tokenizers import AddedToken, processors
        from transformers import PreTrainedTokenizerFast

        kinds = {kind: self._special(kind) for kind in NEEDED_KINDS}
        backend = self._unigram()
        # Those that the model does not know are appended in this order, so that they get the same ids as
        # here.
        backend.add_special_tokens([AddedToken(t, normalized=False) for t in self._special_in_order()])
        sep, cls = ((kinds[kind], self._ids[kinds[kind]]) for kind in ("sep_token", "cls_token"))
        backend.post_processor = processors.BertProcessing(sep, cls)
        return PreTrainedTokenizerFast(
            tokenizer_object=backend,
            model_input_names=["input_ids", "token_type_ids", "attention_mask"],
            **kinds,
        )

    @property
    def _not_exported(self) -> str | None:
        """The kind of model, if `tokenizers` has no equivalent; else None."""
        proto = parse_model(self._content, self._source)
        trainer, normalizer = proto.trainer_spec, proto.normalizer_spec
        if trainer.model_type != trainer.UNIGRAM:
            return f"a {trainer.ModelType.Name(trainer.model_type).lower()} model"
        if trainer.treat_whitespace_as_suffix or not normalizer.escape_whitespaces:
            return "a model without a mark where words begin"
        return None if normalizer.remove_extra_whitespaces else "a model in which every space counts"

    def _unigram(self) -> Any:
        """The equivalent model in `tokenizers`."""
        from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

        proto = parse_model(self._content, MODEL_FILE)
        trainer, normalizer = proto.trainer_spec, proto.normalizer_spec
        if reason := self._not_exported:
            raise UsageError(
                "cannot be exported for transformers",
                where=self._source,
                found=reason,
                expected="a unigram model",
                fix=_USE_OURS,
            )
        pieces = [(piece.piece, piece.score) for piece in proto.pieces]
        backend = Tokenizer(models.Unigram(pieces, self._model.unk_id(), trainer.byte_fallback))
        steps: list[normalizers.Normalizer] = []
        if "nfkc" in normalizer.name:
            steps.append(normalizers.NFKC())
        if normalizer.precompiled_charsmap:
            steps.append(normalizers.Precompiled(normalizer.precompiled_charsmap))
        if self.normalized(_WIDE_TILDE) == _WIDE_TILDE:
            steps = [
                normalizers.Replace(_WIDE_TILDE, _STAND_IN),
                *steps,
                normalizers.Replace(_STAND_IN, _WIDE_TILDE),
            ]
        is_mark_a_space = self._model.normalize(f"a{SPACE} a").endswith(f"a{SPACE}a")
        steps.append(normalizers.Replace(Regex(f"[ {SPACE}]+" if is_mark_a_space else " +"), " "))
        ends = f"[ {SPACE}]+$" if normalizer.add_dummy_prefix else f"^ +|[ {SPACE}]+$"
        steps.append(normalizers.Replace(Regex(ends), ""))
        backend.normalizer = normalizers.Sequence(steps)
        scheme = "first" if normalizer.add_dummy_prefix else "never"
        backend.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, scheme)
        backend.decoder = decoders.Metaspace(SPACE, scheme)
        return backend


class _SpacedUnits(Units):
    """Units are separated by spaces, for models whose pieces do not cross spaces.

    All sums of scores must be exact: a rounded sum depends on the text before, and could tip the balance
    between two splits of a word.
    """

    def __init__(self, tokenizer: SentencePieceTokenizer, lowest_score: float):
        # Half of the limit, as normalization may lengthen the text.
        self._longest = int(_EXACT_SUM / (_UNKNOWN_PENALTY - lowest_score) / 2)
        begins_word = tokenizer.starts_word
        begins_word[tokenizer.special_ids] = False  # the unknown token may be inside a word
        super().__init__(tokenizer, tokenizer._encode_whole, begins_word, self._longest // _USUAL_LENGTH)

    def _begins(self, characters: np.ndarray) -> np.ndarray:
        is_space = characters == ord(" ")
        begins = ~is_space
        begins[1:] &= is_space[:-1]
        return begins

    def _without_units(self, texts: list[str], text: str) -> list[int]:
        """Also long texts, and all texts if spaces are rare: whole clauses do not recur."""
        if len(text) > 20 * text.count(" "):
            return list(range(len(texts)))
        long = [i for i, text in enumerate(texts) if len(text) > self._longest]
        return sorted({*long, *super()._without_units(texts, text)})

    def _are_words(self, units: list[str]) -> list[bool]:
        return [len(unit) < _USUAL_LENGTH and unit.isascii() and unit.isprintable() for unit in units]


def _num_threads() -> int:
    """All cores; one if `tokenizers` is limited to one thread, because then each core has its own process."""
    return 1 if os.environ.get("TOKENIZERS_PARALLELISM") == "false" else os.cpu_count() or 1


def _one_of(tokens: Iterable[str]) -> re.Pattern[str]:
    """A pattern that finds the tokens in a text, preferring longer ones; without tokens it never matches."""
    longest_first = sorted(tokens, key=len, reverse=True)
    return re.compile(f"({'|'.join(map(re.escape, longest_first)) or '(?!)'})")


def is_model(content: bytes) -> bool:
    """Whether it is a SentencePiece model, which contains bytes that are not text."""
    try:
        content.decode()
    except UnicodeDecodeError:
        with suppress(UsageError):
            return bool(parse_model(content, "").pieces)
    return False


def parse_model(content: bytes, where: Any) -> Any:
    """Parse a model into its pieces and settings.

    Raises:
        UsageError: it is not a SentencePiece model, or not a complete one.
    """
    from google.protobuf.message import DecodeError
    from sentencepiece import sentencepiece_model_pb2

    try:
        proto = sentencepiece_model_pb2.ModelProto.FromString(content)  # type: ignore[attr-defined]
    except DecodeError:
        raise _not_a_model(where) from None
    # A file truncated between two pieces still parses, but lacks the settings, which come last. Text that is
    # not UTF-8 parses as bytes.
    is_text = all(isinstance(entry.piece, str) for entry in proto.pieces)
    if not proto.HasField("normalizer_spec") or not is_text:
        raise _not_a_model(where)
    return proto


def _open(content: bytes, where: Any) -> Any:
    from sentencepiece import SentencePieceProcessor

    try:
        return SentencePieceProcessor(model_proto=content)
    except RuntimeError as error:
        raise _not_a_model(where) from error


def _not_a_model(where: Any) -> UsageError:
    return UsageError(_NOT_A_MODEL, where=where)

"""Trains a tokenizer on lines of a corpus, in bounded memory and reproducibly."""

import heapq
import io
import json
import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random
from typing import Any

from nemo.collections.nlp.data.inputs import (
    AUTO,
    Section,
    SectionReader,
    Source,
    TextOptions,
    sections_of,
    sources_of,
)
from nemo.collections.nlp.data.tokenizers import (
    NemoBertTokenizer,
    SentencePieceTokenizer,
    TokenizerSpec,
    has_tokenizer,
    load_tokenizer,
)
from nemo.collections.nlp.data.tokenizers.files import CONTINUATION, VOCABULARY_FILE, write_vocabulary
from nemo.collections.nlp.data.tokenizers.huggingface import CONFIG_FILE, TOKENIZER_FILE
from nemo.collections.nlp.data.tokenizers.plain import bert_backend
from nemo.collections.nlp.data.tokenizers.sentencepiece import MODEL_FILE, SCORE_STEP, parse_model
from nemo.collections.nlp.data.tokenizers.special_tokens import SpecialTokens, vocabulary_order
from nemo.utils.errors import DataError, UsageError
from nemo.utils.files import gone_if_empty, storage_errors, write_atomically
from nemo.utils.logging import logging
from nemo.utils.lookup import choose
from nemo.utils.progress import working

Path_ = str | os.PathLike[str]

SAMPLE_SIZE = 10_000_000  # lines
SAMPLE_BYTES = {
    "sentence-piece": 250_000_000,  # its trainer needs 20 times this in memory
    "word-piece": 1_000_000_000,
}
READ_BYTES = 1 << 30  # stored bytes of text from which lines are drawn
NAMED = 5  # files named in a message
LINE_BYTES = 4192  # SentencePiece skips longer lines, and says so only in its log
COVERAGE = 0.9995  # share of a text that the characters in the vocabulary must cover; as in SentencePiece
_LEFT_OUT = "\u2585"  # it also skips lines with this character, which it uses internally


def find_or_train_tokenizer(
    kind: str,
    files: Iterable[Path_ | Source],
    folder: Path,
    vocab_size: int,
    sample_size: int = SAMPLE_SIZE,
    special_tokens: SpecialTokens | None = None,
    do_lower_case: bool | None = None,
    text: TextOptions = AUTO,
) -> TokenizerSpec:
    """Open the tokenizer in `folder` (see `load_tokenizer`), or train one there (see `train_tokenizer`).

    For "sentence-piece", an existing `vocab.txt` is also accepted, as in the tutorial.

    Raises:
        UsageError: "word-piece" is requested, but a SentencePiece model exists. Also as `train_tokenizer`.
    """
    choose(SAMPLE_BYTES, kind, what="tokenizer")
    if not has_tokenizer(folder):
        return train_tokenizer(
            kind, files, folder, vocab_size, sample_size, special_tokens, bool(do_lower_case), text
        )
    tokenizer = load_tokenizer(folder, do_lower_case)
    if kind == "word-piece" and isinstance(tokenizer, SentencePieceTokenizer):
        raise UsageError(
            "contains a SentencePiece model",
            where=folder,
            expected="none, or a vocab.txt",
            fix="use another folder",
        )
    tokenizer.add_special_tokens(special_tokens or ())
    logging.info("using the tokenizer in %s: %d entries", folder, tokenizer.vocab_size)
    return tokenizer


def train_tokenizer(
    kind: str,
    files: Iterable[Path_ | Source],
    folder: Path,
    vocab_size: int,
    sample_size: int = SAMPLE_SIZE,
    special_tokens: SpecialTokens | None = None,
    do_lower_case: bool = False,
    text: TextOptions = AUTO,
    sample_bytes: int | None = None,
) -> TokenizerSpec:
    """Train a tokenizer and write it to `folder`, where `load_tokenizer` finds it.

    Args:
        kind: "sentence-piece" (writes `tokenizer.model` and `vocab.txt`) or "word-piece" (`vocab.txt`).
        files: text, as `inputs.sources_of` takes it.
        folder: created if missing.
        vocab_size: number of entries, including special tokens; fewer if the text does not yield that many.
        sample_size: maximum number of lines to learn from, drawn uniformly from the whole corpus.
        special_tokens: as `vocabulary_order` takes them; they come first.
        do_lower_case: lower-case all text, in training and in use; WordPiece also strips accents.
        text: how the files are read.
        sample_bytes: maximum bytes to learn from. Default: `SAMPLE_BYTES`.

    Raises:
        UsageError: the kind is unknown, `vocab_size` is too small, or the folder already has a tokenizer.
        DataError: the files cannot be read, or contain no text.
        StorageError: the folder cannot be written to.
    """
    sample_bytes = choose(SAMPLE_BYTES, kind, what="tokenizer") if sample_bytes is None else sample_bytes
    with _tokenizer_folder(folder):
        specials = vocabulary_order(special_tokens)
        with working("reading text for a vocabulary"):
            lines = draw_lines(files, sample_size, sample_bytes, specials, text)
        logging.info(
            "learning a %s vocabulary from %d lines, %.1f million characters (limits: %d lines, %d MB)",
            kind,
            len(lines),
            sum(map(len, lines)) / 1e6,
            sample_size,
            sample_bytes // 10**6,
        )
        tokenizer: TokenizerSpec
        if kind == "sentence-piece":
            with working("learning the vocabulary"):
                model = learn_sentencepiece(lines, specials, vocab_size, do_lower_case)
            tokenizer = _opened(model)
            tokenizer.add_special_tokens(special_tokens or ())
            tokenizer.save(folder)
        else:
            with working("learning the vocabulary"):
                tokens = learn_wordpiece(lines, vocabulary_order(specials), vocab_size, do_lower_case)
            config = json.dumps({"do_lower_case": do_lower_case, "tokenizer_class": "BertTokenizer"})
            write_atomically(folder / CONFIG_FILE, config.encode())
            write_vocabulary(folder / VOCABULARY_FILE, tokens)
            tokenizer = NemoBertTokenizer(pretrained_model=folder)
            tokenizer.add_special_tokens(special_tokens or ())
        if tokenizer.vocab_size < vocab_size:
            logging.info("the text yields only %d entries, not %d", tokenizer.vocab_size, vocab_size)
        return tokenizer


def _opened(model: bytes) -> SentencePieceTokenizer:
    """The tokenizer of a model that is not in its place yet: it saves itself, including special tokens."""
    with tempfile.TemporaryDirectory() as aside:
        learned = Path(aside, MODEL_FILE)
        learned.write_bytes(model)
        return SentencePieceTokenizer(learned)


@contextmanager
def _tokenizer_folder(folder: Path) -> Iterator[None]:
    """Before the work, make sure that its result can be written without overwriting anything."""
    for name in (MODEL_FILE, TOKENIZER_FILE, VOCABULARY_FILE):
        if (folder / name).exists():
            raise UsageError("already exists, not overwritten", where=folder / name, fix="use another folder")
    with ExitStack() as stack:
        with storage_errors(folder):
            stack.enter_context(gone_if_empty(folder))
            tempfile.TemporaryFile(dir=folder).close()
        yield


def draw_lines(
    files: Iterable[Path_ | Source],
    sample_size: int,
    sample_bytes: int,
    special_tokens: Iterable[str] = (),
    text: TextOptions = AUTO,
) -> list[str]:
    """Draw lines uniformly from all files, in order; all lines if there are few.

    Reads the corpus once (of a large one, sections from all over it), and keeps only the lines it returns.
    Lines over `LINE_BYTES` are cut, at spaces if possible. Special tokens are removed, as they must not be
    learned.

    Raises:
        DataError: the text is empty; and what `inputs.sources_of` and `inputs.SectionReader` raise.
    """
    sources = sources_of(files, text)
    specials = re.compile("|".join(map(re.escape, special_tokens)) or "(?!)")
    random = Random(0)
    # Each line draws a number, and the lowest are kept; negated, because a heap pops its lowest.
    kept: list[tuple[float, int, str]] = []
    size = 0
    for number, line in enumerate(_lines(_some_of(sections_of(sources)), specials, text)):
        heapq.heappush(kept, (-random.random(), number, line))
        size += len(line.encode())
        while len(kept) > sample_size or size > sample_bytes:
            size -= len(heapq.heappop(kept)[2].encode())
    if not kept:
        raise DataError("no text to learn a vocabulary from", where=", ".join(map(str, sources[:NAMED])))
    return [line for _, _, line in sorted(kept, key=lambda entry: entry[1])]


def _some_of(sections: Sequence[Section]) -> list[Section]:
    """All sections of a corpus of up to `READ_BYTES`; of a larger one some, drawn uniformly, in order."""
    order = list(range(len(sections)))
    Random(0).shuffle(order)
    kept, size = [], 0
    for number in order:
        if size >= READ_BYTES:
            break
        kept.append(number)
        size += max(sections[number].num_bytes, 0)
    if len(kept) < len(sections):
        logging.info("reading %d of %d sections of the corpus", len(kept), len(sections))
    return [sections[number] for number in sorted(kept)]


def _lines(sections: Iterable[Section], specials: re.Pattern[str], text: TextOptions) -> Iterator[str]:
    for section in sections:
        for document in SectionReader(section, text).documents():
            for paragraph in document:
                for line in _cut(specials.sub(" ", paragraph)):
                    if line.strip():
                        yield line


def _cut(text: str) -> Iterator[str]:
    rest = text.encode()
    while len(rest) > LINE_BYTES:
        # A character that the cut would split goes to the rest.
        head = rest[:LINE_BYTES].decode(errors="ignore")
        head = head.rpartition(" ")[0] or head
        yield head
        rest = rest[len(head.encode()) :]
    yield rest.decode()


def learn_sentencepiece(
    lines: Iterable[str], special_tokens: Sequence[str], vocab_size: int, do_lower_case: bool = False
) -> bytes:
    """Train a unigram model (Kudo 2018) whose first pieces are the special tokens: padding, unknown, others.

    Raises:
        UsageError: `vocab_size` is too small.
    """
    from sentencepiece import SentencePieceTrainer

    pad, unknown, *others = special_tokens
    model = io.BytesIO()
    try:
        SentencePieceTrainer.train(
            sentence_iterator=(line.replace(_LEFT_OUT, " ") for line in lines),
            model_writer=model,
            model_type="unigram",
            normalization_rule_name="nmt_nfkc_cf" if do_lower_case else "nmt_nfkc",
            vocab_size=max(vocab_size, len(special_tokens)),  # with less, its error does not name the minimum
            hard_vocab_limit=False,
            character_coverage=COVERAGE,
            max_sentence_length=LINE_BYTES,
            pad_id=0,
            pad_piece=pad,
            unk_id=1,
            unk_piece=unknown,
            control_symbols=others,
            bos_id=-1,
            eos_id=-1,
            num_threads=16,  # it sums per thread, so another number gives another model
            minloglevel=2,
        )
    except RuntimeError as error:
        too_small = re.search(r"smaller than required_chars\. \d+ vs (\d+)", str(error))
        if not too_small:
            raise
        raise _too_small(vocab_size, int(too_small[1])) from None
    return _with_exact_scores(model.getvalue())


def _with_exact_scores(model: bytes) -> bytes:
    """Round the scores of the pieces so that their sums are exact in float32.

    "00" + "0" and "0" + "00" are equally likely. With exact sums, SentencePiece and `tokenizers` both take
    the one they find first; otherwise rounding decides, which depends on the text before.
    """
    proto = parse_model(model, MODEL_FILE)
    for piece in proto.pieces:
        piece.score = round(piece.score / SCORE_STEP) * SCORE_STEP
    return proto.SerializeToString(deterministic=True)


def learn_wordpiece(
    lines: Sequence[str], special_tokens: Sequence[str], vocab_size: int, do_lower_case: bool = False
) -> list[str]:
    """Train a WordPiece vocabulary that begins with the special tokens.

    Raises:
        UsageError: `vocab_size` is too small.
    """
    from tokenizers import trainers

    backend = bert_backend(vocabulary_order(), do_lower_case)
    alphabet = _alphabet(map(backend.normalizer.normalize_str, lines))
    # The trainer numbers continuations in hash-table order, and merges pairs of equal frequency by
    # number. Listing them beforehand fixes their numbers.
    continuations = [CONTINUATION + character for character in alphabet if continues_word(character, backend)]
    leading = [*special_tokens, *continuations]
    if vocab_size < len(leading) + len(alphabet):
        raise _too_small(vocab_size, len(leading) + len(alphabet))
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=leading,
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    backend.train_from_iterator(lines, trainer)
    ids = backend.get_vocab()
    return sorted(ids, key=ids.__getitem__)


def _alphabet(lines: Iterable[str]) -> list[str]:
    """The most frequent characters, which make up `COVERAGE` of a text, in order of code points."""
    counts: Counter[str] = Counter()
    for line in lines:
        counts.update(line)
    del counts[" "]
    alphabet, covered, total = [], 0, counts.total()
    for character, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if covered >= COVERAGE * total:
            break
        alphabet.append(character)
        covered += count
    return sorted(alphabet)


def continues_word(character: str, backend: Any) -> bool:
    """Whether a character can be inside a word; punctuation and Chinese characters are separate words."""
    text = backend.normalizer.normalize_str(f"a{character}")
    return len(backend.pre_tokenizer.pre_tokenize_str(text)) == 1


def _too_small(vocab_size: int, minimum: int) -> UsageError:
    return UsageError(
        "too small for the special tokens and the characters of this text",
        where="vocab_size",
        found=vocab_size,
        expected=f"at least {minimum}",
    )

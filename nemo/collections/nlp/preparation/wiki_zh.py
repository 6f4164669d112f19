"""wiki2019zh and related corpora -> training data for a Chinese BERT: train.txt, valid.txt, vocab.txt.

The text is not changed; punctuation is kept. A line is a sentence and a blank line ends a document: the
layout that is easiest to detect, and the one that Google's BERT reads.
"""

import hashlib
import string
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nemo.collections.nlp.data.inputs import TextOptions, read_documents, sources_of
from nemo.collections.nlp.data.inputs.folders import some_of
from nemo.collections.nlp.data.inputs.splits import splits_of
from nemo.collections.nlp.data.text.sentences import is_cjk, split_cjk
from nemo.collections.nlp.data.tokenizers.files import CONTINUATION, VOCABULARY_FILE, write_vocabulary
from nemo.collections.nlp.data.tokenizers.plain import bert_backend
from nemo.collections.nlp.data.tokenizers.sentencepiece import MODEL_FILE
from nemo.collections.nlp.data.tokenizers.vocabulary import continues_word
from nemo.utils.errors import DataError, MissingFileError, UsageError
from nemo.utils.files import refuse_special, replacing, storage_errors
from nemo.utils.logging import logging

PATTERNS = ("*/wiki*", "wiki*", "*.json", "*.jsonl")  # wiki_zh/AA/wiki_00; news2016zh_train.json
SPECIAL_TOKENS = ("[PAD]", "[SEP]", "[CLS]", "[MASK]", "[UNK]")  # the order of NeMo 0.10's script
HELD_OUT = 20  # one document in 20 goes to valid.txt
DOCUMENTS_BETWEEN_REPORTS = 100_000


@dataclass
class PartCount:
    """Counts for train.txt or valid.txt.

    Attributes:
        characters: how often each occurs.
    """

    documents: int = 0
    sentences: int = 0
    characters: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class WikiZhCounts:
    """Counts for all files; documents with a title but no text are skipped.

    Attributes:
        vocabulary: number of entries in vocab.txt.
        unknown: share of the characters of valid.txt that are not in vocab.txt.
    """

    train: PartCount
    valid: PartCount
    vocabulary: int
    unknown: float


def process_wiki_zh(
    data_dir: Path,
    output_dir: Path,
    min_frequency: int = 0,
    max_files: int = -1,
    text_field: str = "text",
    max_bad_records: int = 0,
) -> WikiZhCounts:
    """Write train.txt, valid.txt and vocab.txt atomically, replacing earlier ones.

    Makes one pass, with one document in memory at a time; the same input gives the same bytes. vocab.txt is
    also written to `output_dir/bert`, where a run on the texts looks for it.

    Args:
        data_dir: folder of the corpus, see `corpus_files`.
        output_dir: created if missing.
        min_frequency: characters that occur less often in train.txt are not in vocab.txt.
        max_files: number of files to read, in order of their names; -1: all.
        text_field, max_bad_records: see `TextOptions`.

    Raises:
        MissingFileError: the folder does not exist, or has no corpus in it.
        DataError: a record is bad, or there are fewer than two different documents.
        UsageError: `output_dir/bert` contains a SentencePiece model, to which its vocab.txt belongs.
        StorageError: the files cannot be written.
    """
    files = corpus_files(data_dir, max_files)
    bert = output_dir / "bert"
    if (bert / MODEL_FILE).exists():
        raise UsageError(
            "already exists, with a different vocabulary", where=bert / MODEL_FILE, fix="use another folder"
        )
    with storage_errors(output_dir):
        output_dir.mkdir(parents=True, exist_ok=True)
    with replacing(output_dir / "train.txt") as train_file, replacing(output_dir / "valid.txt") as valid_file:
        options = TextOptions(format="json-lines", text_field=text_field, max_bad_records=max_bad_records)
        documents = read_documents(sources_of(files, options), options)
        train, valid = _write_texts(documents, train_file, valid_file)
        if not train.documents:
            found = f"{train.documents + valid.documents} with text"
            raise DataError("too few documents", where=data_dir, found=found, expected="two different ones")
        vocabulary = character_vocabulary(train.characters, min_frequency)
        bert.mkdir(exist_ok=True)
        for folder in (output_dir, bert):
            write_vocabulary(folder / VOCABULARY_FILE, vocabulary)
    return WikiZhCounts(train, valid, len(vocabulary), _unknown_share(valid.characters, vocabulary))


def corpus_files(data_dir: Path, max_files: int = -1) -> list[Path]:
    """The files of a corpus, sorted: `*/wiki*`, and `wiki*`, `*.json` and `*.jsonl` in the folder itself.

    Files named as validation or test files, such as news2016zh_valid.json, are skipped.

    Raises:
        MissingFileError: there are none.
        DataError: one is not a regular file.
    """
    if not data_dir.is_dir():
        raise MissingFileError("no such folder", where=data_dir)
    found = {path for pattern in PATTERNS for path in data_dir.glob(pattern) if not path.is_dir()}
    if not found:
        inside = next(data_dir.glob("*/*/wiki*"), None)
        raise MissingFileError(
            "no corpus in this folder",
            where=data_dir,
            expected=f"files of JSON lines named {' or '.join(PATTERNS)}",
            fix=f"did you mean {inside.parents[1]}?" if inside else "unpack the corpus there",
        )
    for path in found:
        refuse_special(path)
    splits = splits_of(path.relative_to(data_dir).as_posix() for path in sorted(found))
    if splits.has_training and (held_out := splits.held_out_by_name):
        logging.info("%s: skipped, by name not training text: %s", data_dir, some_of(held_out))
        found -= {data_dir / name for name in held_out}
    return sorted(found)[: max_files if max_files >= 0 else None]


def sentences_of(document: list[str]) -> list[str]:
    """The sentences of a document; paragraphs in scripts with spaces stay whole, for Punkt to split."""
    return [s for paragraph in document for s in (split_cjk(paragraph) if is_cjk(paragraph) else [paragraph])]


def character_vocabulary(counts: Counter[str], min_frequency: int = 0) -> list[str]:
    """Special tokens, then characters by code point, then `##` and each character that can continue a word.

    Any word is spelled by its characters, so there is nothing to learn, and only rare characters are missing.
    ASCII letters and digits are always included, so that one rare letter does not make a word unknown.
    """
    backend = bert_backend(SPECIAL_TOKENS, do_lower_case=False)

    def is_kept(character: str) -> bool:
        """Control characters and spaces never become tokens."""
        return backend.normalizer.normalize_str(character).strip() == character

    frequent = (character for character, count in counts.items() if count >= min_frequency)
    characters = sorted({*string.ascii_letters, *string.digits, *filter(is_kept, frequent)})
    continuations = [CONTINUATION + c for c in characters if continues_word(c, backend)]
    return [*SPECIAL_TOKENS, *characters, *continuations]


def report(counts: WikiZhCounts, output_dir: Path) -> None:
    """Log what was written, and warn if the texts would be read in another layout."""
    for name, split in (("train.txt", counts.train), ("valid.txt", counts.valid)):
        size = f"{split.characters.total() / 1e6:.2f} million characters"
        text = f"{split.documents} documents, {split.sentences} sentences, {size}"
        logging.info("%s: %s", output_dir / name, text)
    path = output_dir / VOCABULARY_FILE
    share = 100 * counts.unknown
    logging.info("%s, also in bert: %d entries; %.3f%% of valid.txt unknown", path, counts.vocabulary, share)
    layout = sources_of(output_dir / "train.txt", TextOptions(format="text"))[0].layout
    if layout != "blank":
        logging.warning("train.txt looks like layout %r: train on it with --text_layout blank", layout)


def _write_texts(
    documents: Iterable[list[str]], train_path: Path, valid_path: Path
) -> tuple[PartCount, PartCount]:
    """Write the texts, and return the counts of each."""
    train, valid = PartCount(), PartCount()
    with open(train_path, "wb") as train_file, open(valid_path, "wb") as valid_file:
        for is_held_out, sentences in _split(map(sentences_of, documents)):
            split, file = (valid, valid_file) if is_held_out else (train, train_file)
            lines = "".join(f"{sentence}\n" for sentence in sentences)
            file.write(("\n" * (split.documents > 0) + lines).encode())
            split.documents += 1
            split.sentences += len(sentences)
            split.characters.update(lines.replace("\n", ""))
            if (train.documents + valid.documents) % DOCUMENTS_BETWEEN_REPORTS == 0:
                logging.info("%d documents so far", train.documents + valid.documents)
    return train, valid


def _split(documents: Iterable[Sequence[str]]) -> Iterator[tuple[bool, Sequence[str]]]:
    """(whether it is held out, document): decided by the text's hash, so that copies are on the same side.

    The first document is always held out, so that even a small corpus has something to evaluate on.
    """
    first = b""
    for sentences in documents:
        text = hashlib.blake2b("\n".join(sentences).encode(), digest_size=8).digest()
        first = first or text
        yield text == first or int.from_bytes(text) % HELD_OUT == 0, sentences


def _unknown_share(characters: Counter[str], vocabulary: Iterable[str]) -> float:
    known = set(vocabulary)
    text = {c: n for c, n in characters.items() if not c.isspace()}
    return sum(n for c, n in text.items() if c not in known) / sum(text.values())

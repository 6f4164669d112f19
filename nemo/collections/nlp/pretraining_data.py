"""From options to batches of text: which files, which tokenizer, which data layers."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from nemo.backends.pytorch import checkpoint
from nemo.collections.nlp.data.corpus import TextOptions, files_of
from nemo.collections.nlp.data.hdf5 import holds_shards_instead_of_text
from nemo.collections.nlp.data.tokenizers import NemoBertTokenizer, TokenizerSpec
from nemo.collections.nlp.data.tokenizers.files import VOCABULARY_FILE
from nemo.collections.nlp.data.tokenizers.sentencepiece import MODEL_FILE
from nemo.collections.nlp.data.tokenizers.wordpiece import CONFIG_FILE, TOKENIZER_FILE
from nemo.collections.nlp.data.vocabulary import find_or_train_tokenizer
from nemo.collections.nlp.nm.data_layers import (
    BertPretrainingDataLayer,
    BertPretrainingPreprocessedDataLayer,
)
from nemo.collections.nlp.options import PretrainingOptions
from nemo.collections.nlp.origin import Origin, open_tokenizer_at
from nemo.utils.errors import DataError, UsageError
from nemo.utils.files import write_atomically
from nemo.utils.logging import logging
from nemo.utils.lookup import closest


@dataclass(frozen=True)
class PretrainingData:
    """What is trained on, and what is held out.

    Attributes:
        tokenizer: what makes, or made, the tokens; None for shards whose tokenizer is not at hand.
        eval: None without held-out data.
    """

    tokenizer: TokenizerSpec | None
    train: BertPretrainingDataLayer | BertPretrainingPreprocessedDataLayer
    eval: BertPretrainingDataLayer | BertPretrainingPreprocessedDataLayer | None


def data_files(options: PretrainingOptions) -> tuple[Path, Path | None]:
    """The training text and the held-out text, if there is any.

    A folder with `train.txt` gives that file, and `valid.txt` beside it as held-out text.

    Raises:
        UsageError: the held-out text is trained on.
        DataError: there are shards instead of text.
    """
    train = Path(options.train_data or options.data_dir or "")
    folder = Path(options.data_dir) if options.data_dir is not None else train
    held_out = Path(options.eval_data) if options.eval_data is not None else None
    for path in filter(None, (train, held_out)):
        if holds_shards_instead_of_text(path):
            raise DataError(
                "HDF5 shards, not text",
                where=path,
                fix="to train on shards add data_preprocessed, no data_text",
            )
    if (train / "train.txt").is_file():
        train = train / "train.txt"
        logging.info("training on %s", train)
    if held_out is None and (folder / "valid.txt").is_file():
        held_out = folder / "valid.txt"
    if held_out is None:
        logging.warning("there is no held-out text, so nothing is evaluated; give --eval_data")
    else:
        both = {f.resolve() for f in files_of(train)} & {f.resolve() for f in files_of(held_out)}
        if both:
            raise UsageError(
                "the held-out text is trained on",
                where=sorted(both)[0],
                fix="give --train_data and --eval_data that have no file in common",
            )
    return train, held_out


def text_options(options: PretrainingOptions) -> TextOptions:
    """How text is read."""
    return TextOptions(options.text_layout, options.sentences, options.invalid_bytes)


def open_tokenizer(
    options: PretrainingOptions, train: Path, folder: Path, origin: Origin | None = None
) -> TokenizerSpec:
    """The tokenizer the options name, that of the origin, one in `[data_dir]/bert`, or a new one in `folder`.

    Raises:
        UsageError: it cannot be read, or does not do what the options ask for; or there is none, although the
            origin's weights need theirs.
    """
    tokenizer = _open_tokenizer(options, train, folder, origin)
    if options.do_lower_case and tokenizer.text_to_ids("ABC") != tokenizer.text_to_ids("abc"):
        raise UsageError(
            "the tokenizer that is there keeps capital letters",
            where="--do_lower_case",
            fix="leave it out",
        )
    logging.info("the tokenizer has %d entries", tokenizer.vocab_size)
    return tokenizer


_SAYS_MORE = (MODEL_FILE, TOKENIZER_FILE, CONFIG_FILE)  # than a vocab.txt by itself


def _open_tokenizer(
    options: PretrainingOptions, train: Path, folder: Path, origin: Origin | None
) -> TokenizerSpec:
    trained = ("sentence-piece", "word-piece")
    if options.tokenizer not in trained:
        near = closest(options.tokenizer, trained)
        if near is not None and not Path(options.tokenizer).exists():
            raise UsageError(
                "unknown tokenizer",
                where="--tokenizer",
                found=repr(options.tokenizer),
                fix=f"did you mean {near!r}?",
            )
        tokenizer = open_tokenizer_at(options.tokenizer)
        if origin is not None and origin.tokenizer is not None:
            _warn_of_other_tokens(tokenizer, origin.name, open_tokenizer_at(origin.tokenizer))
        return tokenizer
    if origin is not None and origin.tokenizer is not None:
        logging.info("using the tokenizer of %s", origin.name)
        return open_tokenizer_at(origin.tokenizer)
    beside_data = (train if train.is_dir() else train.parent) / "bert"
    if origin is not None:
        logging.warning(
            "%s has no tokenizer, so one in %s is used; to any but their own its weights mean nothing",
            origin.name,
            beside_data,
        )
    has_model, has_vocabulary = ((beside_data / name).is_file() for name in (MODEL_FILE, VOCABULARY_FILE))
    if has_vocabulary and not any((beside_data / name).is_file() for name in _SAYS_MORE):
        logging.info("using the vocabulary in %s", beside_data)
        vocabulary = beside_data / VOCABULARY_FILE
        return NemoBertTokenizer(vocab_file=vocabulary, do_lower_case=options.do_lower_case)
    # A vocab.txt beside a SentencePiece model only lists that model.
    if (has_vocabulary and not has_model) or (has_model and options.tokenizer == "sentence-piece"):
        folder = beside_data
    elif origin is not None:
        raise UsageError(
            "its weights need the tokenizer they were trained with",
            where=origin.name,
            fix=f"name its folder with --tokenizer, or put tokenizer.model or vocab.txt into {beside_data}",
        )
    else:
        forget_other_tokenizer(options, files_of(train), folder)
    return find_or_train_tokenizer(
        options.tokenizer,
        files_of(train),
        folder,
        options.vocab_size,
        sample_size=options.sample_size,
        do_lower_case=options.do_lower_case,
        text=text_options(options),
    )


def _warn_of_other_tokens(tokenizer: TokenizerSpec, source: str, of_source: TokenizerSpec) -> None:
    """Say so if the ids of a tokenizer mean other tokens than those of the source of the weights."""
    ours, theirs = tokenizer.vocabulary(), of_source.vocabulary()
    if ours != theirs:
        same = sum(a == b for a, b in zip(ours, theirs, strict=False))
        logging.warning("of the %d tokens of --tokenizer, %d are those of %s", len(ours), same, source)


def forget_other_tokenizer(options: PretrainingOptions, files: list[Path], folder: Path) -> None:
    """Remove a tokenizer that an earlier run in this work folder trained with other options or on other text.

    Raises:
        UsageError: that run has checkpoints, which need it.
    """
    made_for = {
        "tokenizer": options.tokenizer,
        "vocab_size": options.vocab_size,
        "sample_size": options.sample_size,
        "do_lower_case": options.do_lower_case,
        "text": [[file.name, file.stat().st_size] for file in files],
    }
    note = folder / "made-for.json"
    earlier = json.loads(note.read_text(encoding="utf-8")) if note.is_file() else {}
    for name, value in made_for.items():
        if earlier and earlier[name] != value:
            if checkpoint.list_checkpoints(folder.parent / "checkpoints"):
                raise UsageError(
                    f"the tokenizer of this run was trained with another {name}",
                    where=folder,
                    found=value,
                    expected=earlier[name],
                    fix="use the same options, or another --work_dir",
                )
            logging.info("%s was trained with another %s, so it is trained again", folder, name)
            shutil.rmtree(folder)
            break
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(note, json.dumps(made_for).encode())


def open_data(options: PretrainingOptions, work_dir: Path, origin: Origin | None = None) -> PretrainingData:
    """The tokenizer (trained if need be) and the data layers of the training and the held-out text.

    Args:
        origin: what the run starts from, whose tokenizer is used unless the options name one.
    """
    train, held_out = data_files(options)
    tokenizer = open_tokenizer(options, train, work_dir / "tokenizer", origin)

    def layer(path: Path, shuffle: bool) -> BertPretrainingDataLayer:
        return BertPretrainingDataLayer(
            tokenizer,
            path,
            options.max_seq_length,
            mask_probability=options.mask_probability,
            short_seq_prob=options.short_seq_prob,
            batch_size=options.batch_size,
            shuffle=shuffle,
            seed=options.seed,
            text=text_options(options),
        )

    return PretrainingData(
        tokenizer, layer(train, True), layer(held_out, False) if held_out is not None else None
    )

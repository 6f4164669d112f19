"""From options to batches: which files, which tokenizer, which data layers."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from nemo.backends.pytorch import checkpoint
from nemo.collections.nlp.data.corpus import TextOptions, files_of
from nemo.collections.nlp.data.tokenizers import NemoBertTokenizer, TokenizerSpec
from nemo.collections.nlp.data.tokenizers.files import VOCABULARY_FILE
from nemo.collections.nlp.data.tokenizers.sentencepiece import MODEL_FILE
from nemo.collections.nlp.data.vocabulary import find_or_train_tokenizer
from nemo.collections.nlp.nm.data_layers import BertPretrainingDataLayer
from nemo.collections.nlp.options import PretrainingOptions
from nemo.utils.errors import UsageError
from nemo.utils.files import write_atomically
from nemo.utils.logging import logging
from nemo.utils.lookup import closest


@dataclass(frozen=True)
class PretrainingData:
    """A tokenizer and the batches it makes of the texts; `eval` is None without held-out text."""

    tokenizer: TokenizerSpec
    train: BertPretrainingDataLayer
    eval: BertPretrainingDataLayer | None


def data_files(options: PretrainingOptions) -> tuple[Path, Path | None]:
    """The training text and the held-out text, if there is any.

    A folder with `train.txt` gives that file, and `valid.txt` beside it as held-out text.

    Raises:
        UsageError: the held-out text is trained on.
    """
    train = Path(options.train_data or options.data_dir or "")
    folder = Path(options.data_dir) if options.data_dir is not None else train
    held_out = Path(options.eval_data) if options.eval_data is not None else None
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


def open_tokenizer(options: PretrainingOptions, train: Path, folder: Path) -> TokenizerSpec:
    """The tokenizer the options name: Hugging Face's, one in `[data_dir]/bert`, or a new one in `folder`."""
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
        return NemoBertTokenizer(pretrained_model=options.tokenizer, do_lower_case=options.do_lower_case)
    beside_data = (train if train.is_dir() else train.parent) / "bert"
    has_model, has_vocabulary = ((beside_data / name).is_file() for name in (MODEL_FILE, VOCABULARY_FILE))
    # A vocab.txt beside a SentencePiece model only lists that model.
    if (has_vocabulary and not has_model) or (has_model and options.tokenizer == "sentence-piece"):
        folder = beside_data
    else:
        forget_other_tokenizer(options, files_of(train), folder)
    tokenizer = find_or_train_tokenizer(
        options.tokenizer,
        files_of(train),
        folder,
        options.vocab_size,
        sample_size=options.sample_size,
        do_lower_case=options.do_lower_case,
        text=text_options(options),
    )
    logging.info("the tokenizer in %s has %d entries", folder, tokenizer.vocab_size)
    return tokenizer


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


def open_data(options: PretrainingOptions, work_dir: Path) -> PretrainingData:
    """The tokenizer (trained if need be) and the data layers of the training and the held-out text."""
    train, held_out = data_files(options)
    tokenizer = open_tokenizer(options, train, work_dir / "tokenizer")

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

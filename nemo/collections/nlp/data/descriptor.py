"""Which text to pretrain on, and with which vocabulary."""

import os
from pathlib import Path

from nemo.collections.nlp.data.corpus import AUTO, TextOptions, files_of
from nemo.collections.nlp.data.tokenizers.files import VOCABULARY_FILE
from nemo.collections.nlp.data.tokenizers.sentencepiece import MODEL_FILE
from nemo.collections.nlp.data.tokenizers.special_tokens import SpecialTokens
from nemo.collections.nlp.data.vocabulary import SAMPLE_SIZE, find_or_train_tokenizer
from nemo.utils.errors import MissingFileError, UsageError

Path_ = str | os.PathLike[str]


class BERTPretrainingDataDesc:
    """The files of a corpus, and a tokenizer for them.

    The tokenizer is looked for in `[data_dir]/bert`: `tokenizer.model` first, then `vocab.txt`. If neither
    is there, one is trained on the training text and put there; nothing that is there is overwritten.

    Args:
        dataset_name: any; only for the reader.
        vocab_size: entries of a tokenizer that has to be trained, special tokens included.
        sample_size: lines to train it on.
        special_tokens: kind -> token, or tokens, first in the vocabulary. Default: BERT's.
        train_data: a file; a folder with train.txt, and valid.txt and test.txt if there are any; or a folder
            of `*.txt` files.
        eval_data: held-out text, if not beside train.txt.
        test_data: likewise.
        tokenizer: what to train: "sentence-piece" or "word-piece".
        tokenizer_folder: where the tokenizer is, in place of `[data_dir]/bert`.
        text: how files are read.

    Attributes:
        data_dir: the folder of the training text.
        train_file, eval_file, test_file: the files, or `train_data` itself if it is a folder of files; None
            for what there is not.
        tokenizer_model: the SentencePiece model, or None where a `vocab.txt` does without.
        vocab_file: `vocab.txt`, line i for id i; or None if a SentencePiece model has none beside it.
        tokenizer: the tokenizer itself, with the special tokens added.

    Raises:
        MissingFileError: a file or folder is not there.
        UsageError: `train_data` is not given; or as `find_or_train_tokenizer`.
        DataError: the text cannot be read.
        StorageError: `[data_dir]/bert` cannot be written to.
    """

    def __init__(
        self,
        dataset_name: str,
        vocab_size: int,
        sample_size: int = SAMPLE_SIZE,
        special_tokens: SpecialTokens | None = None,
        train_data: Path_ | None = None,
        eval_data: Path_ | None = None,
        test_data: Path_ | None = None,
        tokenizer: str = "sentence-piece",
        tokenizer_folder: Path_ | None = None,
        text: TextOptions = AUTO,
    ):
        if train_data is None:
            raise UsageError("train_data is not given", expected="a text file, or a folder of them")
        train = _existing(train_data)
        is_split = (train / "train.txt").is_file()

        def held_out(given: Path_ | None, name: str) -> str | None:
            if given is not None:
                return _part(_existing(given), name)
            return str(train / name) if is_split and (train / name).is_file() else None

        self.dataset_name = dataset_name
        self.data_dir = str(train if train.is_dir() else train.parent)
        self.train_file = _part(train, "train.txt")
        self.eval_file = held_out(eval_data, "valid.txt")
        self.test_file = held_out(test_data, "test.txt")

        folder = Path(tokenizer_folder or Path(self.data_dir) / "bert")
        self.tokenizer = find_or_train_tokenizer(
            tokenizer,
            files_of(self.train_file),
            folder,
            vocab_size,
            sample_size,
            special_tokens,
            text=text,
        )
        self.tokenizer_model = _if_there(folder / MODEL_FILE)
        self.vocab_file = _if_there(folder / VOCABULARY_FILE)


def _existing(path: Path_) -> Path:
    path = Path(path)
    if not path.exists():
        raise MissingFileError("no such file or folder", where=path)
    return path


def _part(path: Path, name: str) -> str:
    """The file of that name in a folder that has one, else the path itself."""
    return str(path / name if (path / name).is_file() else path)


def _if_there(path: Path) -> str | None:
    return str(path) if path.is_file() else None

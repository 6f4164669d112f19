"""The text to pretrain on, and its tokenizer."""

import os
from pathlib import Path

from nemo.collections.nlp.data.inputs import AUTO, TextOptions
from nemo.collections.nlp.data.inputs.folders import listing_at
from nemo.collections.nlp.data.inputs.places import is_url, local_path, shown
from nemo.collections.nlp.data.inputs.splits import KEYWORDS, Splits
from nemo.collections.nlp.data.tokenizers.files import VOCABULARY_FILE
from nemo.collections.nlp.data.tokenizers.sentencepiece import MODEL_FILE
from nemo.collections.nlp.data.tokenizers.special_tokens import SpecialTokens
from nemo.collections.nlp.data.tokenizers.vocabulary import SAMPLE_SIZE, find_or_train_tokenizer
from nemo.utils.errors import MissingFileError, UsageError

Path_ = str | os.PathLike[str]


class BERTPretrainingDataDesc:
    """The files of a corpus, and their tokenizer.

    The tokenizer in `[data_dir]/bert` is used: `tokenizer.model`, else `vocab.txt`. If neither exists, one is
    trained on the training text and saved there; existing files are never overwritten.

    Args:
        dataset_name: any name, for information only.
        vocab_size: number of entries, including special tokens, if a tokenizer is trained.
        sample_size: maximum number of lines to train it on.
        special_tokens: kind -> token, or tokens, first in the vocabulary. Default: BERT's.
        train_data: a file; a folder with train.txt and optionally valid.txt and test.txt, or other files
            named so, see `inputs.splits`; or a folder of other text, see `inputs.sources_of`.
        eval_data: held-out text, if not beside train.txt.
        test_data: test text, if not beside train.txt.
        tokenizer: the kind to train: "sentence-piece" or "word-piece".
        tokenizer_folder: folder of the tokenizer, instead of `[data_dir]/bert`.
        text: how files are read.

    Attributes:
        data_dir: the folder of the training text.
        train_file: the file, or `train_data` itself if there are several.
        eval_file, test_file: the file, or a list if there are several; None if there is none.
        tokenizer_model: the SentencePiece model; None for a `vocab.txt` alone.
        vocab_file: `vocab.txt`, line i for id i; None if a SentencePiece model has none beside it.
        tokenizer: the tokenizer, with the special tokens added.

    Raises:
        MissingFileError: a file or folder does not exist.
        UsageError: `train_data` is not given. Also as `find_or_train_tokenizer`.
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
        beside = _splits(train, text)

        def held_out(given: Path_ | None, split: str) -> str | list[str] | None:
            if given is None:
                return _one_or_more(beside[split])
            given = _existing(given)
            return _one_or_more(_splits(given, text)[split]) or str(given)

        self.dataset_name = dataset_name
        self.data_dir = str(train if train.is_dir() else train.parent)
        self.train_file = beside["train"][0] if len(beside["train"]) == 1 else str(train)
        self.eval_file = held_out(eval_data, "validation")
        self.test_file = held_out(test_data, "test")

        folder = Path(tokenizer_folder or Path(self.data_dir) / "bert")
        self.tokenizer = find_or_train_tokenizer(
            tokenizer,
            [self.train_file],
            folder,
            vocab_size,
            sample_size,
            special_tokens,
            text=text,
        )
        self.tokenizer_model = _if_there(folder / MODEL_FILE)
        self.vocab_file = _if_there(folder / VOCABULARY_FILE)


def _existing(path: Path_) -> Path:
    if is_url(path):
        raise UsageError(
            "a remote address, but the tokenizer is stored beside the text",
            where=shown(path),
            fix="download it, or train with nemo-bert pretrain",
        )
    path = local_path(path)
    if not path.exists():
        raise MissingFileError("no such file or folder", where=path)
    return path


def _splits(path: Path, text: TextOptions) -> dict[str, list[str]]:
    """The files in a folder that are named as training, validation or test files."""
    listing = listing_at(path, text.format)
    splits = listing.splits if listing is not None else Splits()
    files = {} if listing is None else listing.files
    return {split: [str(files[name]) for name in getattr(splits, split)] for split in KEYWORDS}


def _one_or_more(files: list[str]) -> str | list[str] | None:
    return files[0] if len(files) == 1 else files or None


def _if_there(path: Path) -> str | None:
    return str(path) if path.is_file() else None

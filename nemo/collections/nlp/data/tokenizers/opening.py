"""Opens any tokenizer: a path or name -> a `TokenizerSpec`."""

import os
from pathlib import Path

from nemo.collections.nlp.data.tokenizers.base import TokenizerSpec
from nemo.collections.nlp.data.tokenizers.files import VOCABULARY_FILE, read_file
from nemo.collections.nlp.data.tokenizers.huggingface import TOKENIZER_FILE
from nemo.collections.nlp.data.tokenizers.sentencepiece import MODEL_FILE, SentencePieceTokenizer, is_model
from nemo.collections.nlp.data.tokenizers.wordpiece import NemoBertTokenizer
from nemo.utils.errors import MissingFileError, UsageError

_FILES = (TOKENIZER_FILE, MODEL_FILE, VOCABULARY_FILE)
_FILES_OF_RELATIVES = ("spiece.model", "sentencepiece.bpe.model", "vocab.json")  # names in transformers


def load_tokenizer(source: str | os.PathLike[str], do_lower_case: bool | None = None) -> TokenizerSpec:
    """The tokenizer in a folder or file, or with a name on the hub.

    A folder is opened as `AutoTokenizer` opens it (see `huggingface.open_pretrained`), unless it has a
    SentencePiece model and no `tokenizer.json`. A file (`tokenizer.json`, SentencePiece model or `vocab.txt`)
    is read without those beside it.

    Args:
        do_lower_case: lower-case text. A lone `vocab.txt` does not record it (None: cased); other files do,
            and must agree.

    Raises:
        MissingFileError: the folder has no tokenizer.
        UsageError: there is neither a file nor a model of that name; the tokenizer cannot be read or does not
            suit a BERT; or its case contradicts `do_lower_case`.
    """
    tokenizer = _open(Path(source), os.fspath(source), bool(do_lower_case))
    if do_lower_case is not None and do_lower_case == keeps_capitals(tokenizer):
        raise UsageError(
            f"the existing tokenizer is {'cased' if do_lower_case else 'uncased'}",
            where="--do_lower_case" if do_lower_case else "--no-do_lower_case",
            found=source,
            fix="leave it out, or use another tokenizer",
        )
    return tokenizer


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder contains a tokenizer."""
    return any((folder / name).is_file() for name in (*_FILES, *_FILES_OF_RELATIVES))


def keeps_capitals(tokenizer: TokenizerSpec) -> bool:
    """Whether the tokenizer is cased."""
    return "A" in tokenizer.normalized("A")


def is_sentencepiece(folder: Path) -> bool:
    """Whether the tokenizer in a folder is a SentencePiece model."""
    return (folder / MODEL_FILE).is_file() and not (folder / TOKENIZER_FILE).is_file()


def _open(path: Path, name: str, do_lower_case: bool) -> TokenizerSpec:
    if path.is_file():
        content = read_file(path)
        if path.suffix == ".model" or is_model(content):
            return SentencePieceTokenizer.from_file(path)
        if path.suffix == ".json" or content.lstrip().startswith(b"{"):
            return NemoBertTokenizer(pretrained_model=path)
        return NemoBertTokenizer(vocab_file=path, do_lower_case=do_lower_case)
    if is_sentencepiece(path):
        return SentencePieceTokenizer.from_file(path / MODEL_FILE)
    if path.is_dir() and not has_tokenizer(path):
        raise MissingFileError(
            "no tokenizer in this folder", where=path, expected=", ".join(_FILES[:-1]) + f" or {_FILES[-1]}"
        )
    return NemoBertTokenizer(pretrained_model=name, do_lower_case=do_lower_case)

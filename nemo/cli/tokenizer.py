"""`nemo-bert tokenizer FILE_OR_FOLDER`: train a vocabulary."""

from collections.abc import Sequence
from dataclasses import dataclass

from nemo.utils.arguments import check, option, parse
from nemo.utils.errors import UsageError
from nemo.utils.logging import logging


@dataclass(frozen=True)
class TokenizerOptions:
    """What to train a vocabulary on."""

    train_data: str = option("", "text: a file, or a folder of *.txt files")
    kind: str = option("word-piece", "kind of tokenizer", choices=("word-piece", "sentence-piece"))
    vocab_size: int = option(8000, "entries, special tokens included", at_least=1)
    sample_size: int = option(10_000_000, "sentences to learn from", at_least=1)
    do_lower_case: bool = option(False, "lower-case the text (WordPiece)")
    out: str = option("outputs/tokenizer", "folder to write")

    def __post_init__(self) -> None:
        check(self)
        if not self.train_data:
            raise UsageError("no text", expected="nemo-bert tokenizer FILE_OR_FOLDER")


def run(argv: Sequence[str]) -> None:
    """Train and say what the tokenizer does to a line of the text."""
    options = parse(
        TokenizerOptions,
        "nemo-bert tokenizer",
        "Train a SentencePiece or WordPiece vocabulary.",
        argv,
        positional=("train_data",),
    )
    from pathlib import Path

    from nemo.collections.nlp.data.corpus import files_of
    from nemo.collections.nlp.data.sentences import is_cjk
    from nemo.collections.nlp.data.tokenizers import load_tokenizer
    from nemo.collections.nlp.data.vocabulary import train_tokenizer

    files = files_of(Path(options.train_data))
    train_tokenizer(
        options.kind,
        files,
        Path(options.out),
        vocab_size=options.vocab_size,
        sample_size=options.sample_size,
        do_lower_case=options.do_lower_case,
    )
    tokenizer = load_tokenizer(Path(options.out))
    with files[0].open(encoding="utf-8", errors="replace") as file:
        line = next((text.strip() for text in file if len(text.split()) > 5 or is_cjk(text)), "")
    logging.info("%s: %d entries in %s", options.kind, tokenizer.vocab_size, options.out)
    logging.info("for example: %s", " ".join(tokenizer.text_to_tokens(line[:200])))

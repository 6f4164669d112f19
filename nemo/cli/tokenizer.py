"""`nemo-bert tokenizer FILE_OR_FOLDER`: train a vocabulary."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from nemo.collections.nlp.options.choices import TRAINED
from nemo.collections.nlp.options.limits import LARGEST_VOCABULARY
from nemo.collections.nlp.options.text_reading import TextReading
from nemo.utils.arguments import CommandLine, check, option
from nemo.utils.errors import UsageError
from nemo.utils.logging import logging
from nemo.utils.progress import working

LOOKED_AT = 100  # documents searched for an example line


@dataclass(frozen=True)
class TrainTokenizerOptions(TextReading):
    """The text, the kind of tokenizer and its size."""

    train_data: str = option(
        "",
        "text: a file, folder or address of .txt, .jsonl, .parquet or .csv; also .gz, .zst, .bz2, .xz",
        is_path=True,
    )
    kind: str = option("word-piece", "kind of tokenizer", choices=TRAINED)
    vocab_size: int = option(
        8000,
        "size of the vocabulary, including special tokens",
        at_least=1,
        at_most=LARGEST_VOCABULARY,
        metavar="ENTRIES",
    )
    sample_size: int = option(
        10_000_000,
        "maximum number of lines to learn from",
        default_text="10 million",
        at_least=1,
        metavar="LINES",
    )
    do_lower_case: bool = option(False, "lower-case the text (WordPiece)", default_text="off")
    out: str = option("outputs/tokenizer", "folder to write", metavar="FOLDER", is_path=True)

    def __post_init__(self) -> None:
        check(self)
        if not self.train_data:
            raise UsageError("no text", expected="nemo-bert tokenizer FILE_OR_FOLDER")


COMMAND_LINE = CommandLine(
    TrainTokenizerOptions,
    "nemo-bert tokenizer",
    "Train a SentencePiece or WordPiece vocabulary.",
    positional=("train_data",),
    examples="nemo-bert tokenizer corpus/ --kind word-piece --vocab_size 8000 --out my_tokenizer",
)


def run(argv: Sequence[str]) -> None:
    """Train the tokenizer, and show how it splits a line of the text."""
    options = COMMAND_LINE.parse(argv)
    from pathlib import Path

    with working("loading the libraries"):
        from nemo.collections.nlp.data.inputs import TextOptions, read_documents, sections_of, sources_of
        from nemo.collections.nlp.data.store.store_builder import excerpt_of
        from nemo.collections.nlp.data.text.sentences import is_cjk
        from nemo.collections.nlp.data.tokenizers import load_tokenizer
        from nemo.collections.nlp.data.tokenizers.suitability import warning_of_lost_marks_in
        from nemo.collections.nlp.data.tokenizers.vocabulary import train_tokenizer

    text = TextOptions.of(options)
    sources = sources_of(options.train_data, text)
    train_tokenizer(
        options.kind,
        sources,
        Path(options.out),
        vocab_size=options.vocab_size,
        sample_size=options.sample_size,
        do_lower_case=options.do_lower_case,
        text=text,
    )
    tokenizer = load_tokenizer(Path(options.out))
    with working("trying the tokenizer"):
        excerpt = excerpt_of(sections_of(sources), text)
    if lost := warning_of_lost_marks_in(excerpt, tokenizer):
        logging.warning("%s", lost)
    lines = (line for document in islice(read_documents(sources, text), LOOKED_AT) for line in document)
    line = next((line for line in lines if len(line.split()) > 5 or is_cjk(line)), "")
    logging.info("%s: %d entries in %s", options.kind, tokenizer.vocab_size, options.out)
    logging.info("for example: %s", " ".join(tokenizer.text_to_tokens(line[:200])))

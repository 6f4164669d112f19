"""Options for data, tokenizer and masking."""

from dataclasses import dataclass

from nemo.collections.nlp.options.choices import MASKINGS, STORED, TRAINED
from nemo.collections.nlp.options.limits import LARGEST_VOCABULARY, LONGEST_SEQUENCE
from nemo.collections.nlp.options.mask_rate import FALLING_MASK_RATE, parse_mask_rate
from nemo.collections.nlp.options.text_reading import ANY_TOKENIZER
from nemo.utils.arguments import option

MODES = ("data_text", "data_preprocessed")


@dataclass(frozen=True)
class DataOptions:
    """Data and sequences."""

    mode: str = option(
        "data_preprocessed", "data_text: raw text; data_preprocessed: HDF5 shards", decides="samples"
    )
    train_data: str | None = option(
        None,
        "training data: a file, folder or address of text (.txt, .jsonl, .parquet, .csv; also .gz, .zst, "
        ".bz2, .xz), the output of nemo-bert prepare, a shard, or a folder of *.hdf5",
        metavar="PATH",
        is_path=True,
        decides="machine",
    )
    eval_data: str | None = option(
        None,
        "held-out data, in any form that --train_data takes",
        default_text="the validation data found in the training folder",
        metavar="PATH",
        is_path=True,
        decides="machine",
    )
    data_dir: str | None = option(
        None,
        "folder with training and held-out data, instead of --train_data and --eval_data: train.txt and "
        "valid.txt (or other common names of splits), or shards with training or test in their names (or "
        "those of their folders)",
        metavar="FOLDER",
        is_path=True,
        decides="machine",
    )
    dataset_name: str = option(
        "wikitext-2",
        "name of the data; accepted for old command lines, and only recorded in config.yaml",
        metavar="NAME",
    )
    max_seq_length: int = option(
        128,
        "maximum tokens in a sequence, including special tokens; shards fix their own length",
        at_least=8,
        at_most=LONGEST_SEQUENCE,
        metavar="TOKENS",
        decides="samples",
    )
    short_seq_prob: float = option(
        0.1,
        "text only: share of documents cut into shorter sequences",
        at_least=0,
        at_most=1,
        metavar="SHARE",
        decides="samples",
        only_for="data_text",
    )


@dataclass(frozen=True)
class TokenizerOptions:
    """Tokenizer of the text."""

    tokenizer: str = option(
        "sentence-piece",
        f"an existing tokenizer: {ANY_TOKENIZER}; or the kind to train: sentence-piece or word-piece, unless "
        "the initial checkpoint or [data_dir]/bert has a tokenizer. For shards: the tokenizer that made them",
        metavar="NAME_OR_PATH",
        is_path=True,
        not_paths=TRAINED,
        decides="machine",
    )
    vocab_size: int = option(
        3200,
        "size of the vocabulary to train; for shards without --tokenizer: the size of their vocabulary",
        at_least=1,
        at_most=LARGEST_VOCABULARY,
        metavar="ENTRIES",
    )
    sample_size: int = option(
        10_000_000,
        "text only: train the tokenizer on at most this many lines",
        default_text="10 million",
        at_least=1,
        metavar="LINES",
        only_for="data_text",
    )
    do_lower_case: bool | None = option(
        None, "lower-case the text (WordPiece)", default_text="as the tokenizer records it, else off"
    )


@dataclass(frozen=True)
class FixedMasking:
    """Masking of tokens."""

    masking: str | None = option(
        None,
        "unit of masking; stored: the masks in the shards",
        choices=(STORED, *MASKINGS),
        default_text="whole_word for text, stored for shards",
    )
    mask_probability: float | None = option(
        None,
        "share of tokens to predict; not for stored masks",
        default_text="0.15",
        above=0,
        below=1,
        metavar="SHARE",
    )


@dataclass(frozen=True)
class MaskingOptions:
    """Masking of tokens."""

    masking: str | None = option(
        None,
        "unit of masking, with new masks in every epoch; stored: use the masks in the shards",
        choices=(STORED, *MASKINGS),
        default_text="whole_word for text, stored for shards",
        decides="samples",
    )
    mask_probability: float | str = option(
        0.15,
        f"share of tokens to predict; FIRST:LAST, such as {FALLING_MASK_RATE}, changes it linearly from the "
        "first step to the last; not for stored masks",
        metavar="SHARE",
        decides="samples",
        parse=parse_mask_rate,
    )
    max_predictions_per_seq: int | None = option(
        None,
        "shards only: maximum number of targets per row; stored masks are checked against it",
        at_least=1,
        metavar="TOKENS",
        only_for="data_preprocessed",
    )

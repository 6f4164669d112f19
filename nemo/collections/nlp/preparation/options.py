"""Options of `nemo-bert prepare`. Imports nothing heavy, to keep `--help` fast."""

import re
from dataclasses import dataclass
from pathlib import Path

from nemo.collections.nlp.options.choices import MASKINGS, TRAINED
from nemo.collections.nlp.options.limits import LARGEST_VOCABULARY, LONGEST_SEQUENCE
from nemo.collections.nlp.options.text_reading import ANY_TOKENIZER, TextReading
from nemo.utils.arguments import check, option
from nemo.utils.errors import UsageError

ENGINES = ("local", "slurm", "ray")


@dataclass(frozen=True)
class VocabularyOptions:
    """Tokenizer of the text."""

    tokenizer: str = option(
        "word-piece",
        f"an existing tokenizer: {ANY_TOKENIZER}; or word-piece or sentence-piece: train one on the text",
        metavar="NAME_OR_PATH",
        is_path=True,
        not_paths=TRAINED,
        decides="machine",
    )
    vocab_size: int = option(
        8000,
        "size of the vocabulary to train, including special tokens",
        at_least=1,
        at_most=LARGEST_VOCABULARY,
        metavar="ENTRIES",
    )
    sample_size: int = option(
        10_000_000,
        "train the tokenizer on at most this many lines",
        default_text="10 million",
        at_least=1,
        metavar="LINES",
    )
    do_lower_case: bool | None = option(
        None,
        "lower-case the text (for a tokenizer to train, or a vocab.txt)",
        default_text="as the tokenizer records it, else off",
    )


@dataclass(frozen=True)
class DocumentOptions:
    """Held-out documents and duplicates."""

    test_fraction: float = option(
        0.1, "share of the documents held out for evaluation", at_least=0, at_most=0.5, metavar="SHARE"
    )
    near_duplicates: bool = option(False, "also find near-duplicates; exact duplicates are always counted")
    remove_duplicates: bool = option(False, "drop duplicates, except the first of each")


@dataclass(frozen=True)
class ShardOptions:
    """HDF5 shards."""

    phases: str | None = option(
        None,
        "also write HDF5 shards with these tokens/targets per row, such as 128/20 or 128/20,512/80",
        metavar="TOKENS/TARGETS,...",
    )
    dataset_name: str | None = option(
        None,
        "prefix of the shard names",
        default_text="the name of the input that sorts first",
        metavar="NAME",
    )
    masked_lm_prob: float = option(0.15, "share of tokens to predict", above=0, below=1, metavar="SHARE")
    masking: str = option("whole_word", "unit of masking", choices=MASKINGS)
    random_seed: int = option(12345, "seed of masks and pairs", at_least=0, below=2**63, metavar="INTEGER")
    dupe_factor: int = option(
        5, "passes over the text, each with its own pairs and masks", at_least=1, metavar="PASSES"
    )
    short_seq_prob: float = option(
        0.1, "share of documents cut into shorter sequences", at_least=0, at_most=1, metavar="SHARE"
    )
    num_shards: int | None = option(
        None,
        "number of training shards per phase",
        default_text="depends on the size of the text",
        at_least=1,
        metavar="SHARDS",
    )


@dataclass(frozen=True)
class WorkerOptions:
    """Engine and workers."""

    engine: str = option("local", "what runs the tasks", choices=ENGINES, decides="machine")
    workers: int | None = option(
        None,
        "number of worker processes; 1: run in this process",
        default_text="1 up to 64 MB of text, where each pass of each --phases entry counts the text again; "
        "above that, one for each core",
        at_least=1,
        metavar="PROCESSES",
        decides="machine",
    )
    part_mb: int = option(
        32,
        "MB of text per task, in whole files or sections of 32 MB",
        at_least=1,
        metavar="MB",
        decides="machine",
    )
    slurm_partition: str = option("", "slurm: partition of the jobs", metavar="NAME", decides="machine")
    slurm_time: str = option("24:00:00", "slurm: time limit of a job", metavar="HH:MM:SS", decides="machine")
    slurm_qos: str = option("", "slurm: quality of service of the jobs", metavar="NAME", decides="machine")


@dataclass(frozen=True)
class PrepareOptions(VocabularyOptions, DocumentOptions, ShardOptions, WorkerOptions, TextReading):
    """The text to prepare, the folder to write, and the engine.

    Raises:
        UsageError: a value is out of range, or options contradict each other.
    """

    inputs: tuple[str, ...] = option(
        (),
        "text: files, folders or addresses of .txt, .jsonl, .parquet or .csv; also .gz, .zst, .bz2, .xz",
        is_path=True,
        decides="machine",
    )
    out: str = option(
        "outputs/prepared",
        "folder to write; the same command resumes after a stop",
        metavar="FOLDER",
        is_path=True,
        decides="machine",
    )

    def __post_init__(self) -> None:
        check(self)
        if not self.inputs:
            raise UsageError("no text", expected="nemo-bert prepare FILE_OR_FOLDER [FILE_OR_FOLDER ...]")
        self.shapes  # noqa: B018 - raises where it cannot be read
        if self.engine == "slurm" and not self.slurm_partition:
            raise UsageError(
                "the jobs need a partition",
                where="--slurm_partition",
                fix="name a partition; sinfo lists them",
            )

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Tokens and targets of a row of each phase.

        Raises:
            UsageError: `--phases` cannot be read, repeats a pair, or has a length that is out of range.
        """
        phases = [] if self.phases is None else self.phases.split(",")
        matches = [re.fullmatch(r"\s*(\d+)/(\d+)\s*", phase) for phase in phases]
        shapes = [(int(match[1]), int(match[2])) for match in matches if match]
        if len(shapes) < len(phases) or len(set(shapes)) < len(shapes):
            raise UsageError(
                "not a list of tokens/targets, each once",
                where="--phases",
                found=repr(self.phases),
                expected="such as 128/20,512/80",
            )
        for tokens, _ in shapes:
            if not 8 <= tokens <= LONGEST_SEQUENCE:
                expected = f"8 to {LONGEST_SEQUENCE:,} tokens"
                raise UsageError("out of range", where="--phases", found=tokens, expected=expected)
        return shapes

    @property
    def name(self) -> str:
        """The prefix of the shard names."""
        names = sorted(Path(path.rstrip("/")).name.partition(".")[0] for path in self.inputs)
        name = self.dataset_name or names[0]
        return re.sub(r"[^\w.-]+", "_", name).strip("._") or "text"

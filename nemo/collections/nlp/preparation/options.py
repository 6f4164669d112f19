"""Every option of `nemo-bert prepare`. Imports nothing heavy, so that `--help` is quick."""

import re
from dataclasses import dataclass
from pathlib import Path

from nemo.collections.nlp.options.limits import LARGEST_VOCABULARY, LONGEST_SEQUENCE
from nemo.collections.nlp.options.text_reading import TextReading
from nemo.utils.arguments import check, option
from nemo.utils.errors import UsageError

ENGINES = ("local", "slurm", "ray")
# Where and by whom it is done: nothing of it is in what is written.
UNDECISIVE = frozenset(
    {
        *("inputs", "out", "tokenizer", "part_mb"),
        *("engine", "workers", "slurm_partition", "slurm_time", "slurm_qos"),
    }
)


@dataclass(frozen=True)
class PrepareOptions(TextReading):
    """What to prepare, into what, and who does it.

    Raises:
        UsageError: a value out of its range, or options that contradict each other.
    """

    inputs: tuple[str, ...] = option(
        (),
        "text: files, folders or addresses of .txt, .jsonl, .parquet or .csv; also .gz, .zst, .bz2, .xz",
        is_path=True,
    )
    out: str = option(
        "outputs/prepared", "folder to write; the same command goes on after a stop", is_path=True
    )

    tokenizer: str = option(
        "word-piece",
        "word-piece or sentence-piece (trained on the text), or the folder, vocab.txt or Hugging Face name "
        "of one that is there",
        is_path=True,
        not_paths=("word-piece", "sentence-piece"),
    )
    vocab_size: int = option(
        8000,
        "entries of a vocabulary to train, special tokens included",
        at_least=1,
        at_most=LARGEST_VOCABULARY,
    )
    sample_size: int = option(10_000_000, "sentences to train it on", at_least=1)
    do_lower_case: bool = option(False, "lower-case the text (a vocabulary to train, or a vocab.txt)")

    test_fraction: float = option(
        0.1, "share of the documents held out for evaluation", at_least=0, at_most=0.5
    )
    near_duplicates: bool = option(
        False, "look for documents nearly alike, too; exact duplicates are always counted"
    )
    remove_duplicates: bool = option(False, "leave out the duplicates that are found, all but the first")

    phases: str | None = option(
        None, "also write HDF5 shards: tokens/predictions of a row, such as 128/20 or 128/20,512/80"
    )
    dataset_name: str | None = option(
        None, "begins the names of shards; default: the name of the input, by name the first"
    )
    masked_lm_prob: float = option(0.15, "shards: share of tokens to predict", above=0, below=1)
    masking: str = option(
        "whole_word", "shards: what is hidden at once", choices=("whole_word", "token", "span")
    )
    random_seed: int = option(12345, "shards: masks and pairs follow from it", at_least=0, below=2**63)
    dupe_factor: int = option(5, "shards: passes over the text, each with other pairs and masks", at_least=1)
    short_seq_prob: float = option(
        0.1, "shards: share of documents cut into short sequences", at_least=0, at_most=1
    )
    num_shards: int | None = option(
        None, "training shards of each phase; by the size of the text when not given", at_least=1
    )

    engine: str = option("local", "who does the work", choices=ENGINES)
    workers: int | None = option(
        None,
        "processes that do tasks at the same time; 1: this one does them all. Default: 1 for text of up to "
        "64 MB, counted once and again for each pass of each phase; else one for each core",
        at_least=1,
    )
    part_mb: int = option(32, "MB of text that one task takes, in whole files or pieces of 32 MB", at_least=1)
    slurm_partition: str = option("", "slurm: partition of the jobs")
    slurm_time: str = option("24:00:00", "slurm: time limit of a job")
    slurm_qos: str = option("", "slurm: quality of service of the jobs")

    def __post_init__(self) -> None:
        check(self)
        if not self.inputs:
            raise UsageError("no text", expected="nemo-bert prepare FILE_OR_FOLDER [FILE_OR_FOLDER ...]")
        self.shapes  # noqa: B018 - raises where it cannot be read
        if self.engine == "slurm" and not self.slurm_partition:
            raise UsageError(
                "the jobs need one", where="--slurm_partition", fix="name a partition; sinfo lists them"
            )

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Tokens and predictions of a row of each phase."""
        phases = [] if self.phases is None else self.phases.split(",")
        matches = [re.fullmatch(r"\s*(\d+)/(\d+)\s*", phase) for phase in phases]
        shapes = [(int(match[1]), int(match[2])) for match in matches if match]
        if len(shapes) < len(phases) or len(set(shapes)) < len(shapes):
            raise UsageError(
                "not tokens/predictions, each once",
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
        """What the names of shards begin with."""
        names = sorted(Path(path.rstrip("/")).name.partition(".")[0] for path in self.inputs)
        name = self.dataset_name or names[0]
        return re.sub(r"[^\w.-]+", "_", name).strip("._") or "text"

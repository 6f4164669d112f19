"""Options of `nemo-bert adapt`."""

from dataclasses import dataclass, fields

from nemo.collections.nlp.options.conflicts import conflict
from nemo.collections.nlp.options.finetuning import ComputingOptions, TaskOptions
from nemo.collections.nlp.options.limits import LARGEST_VOCABULARY
from nemo.collections.nlp.options.mask_rate import FALLING_MASK_RATE, mask_rates, parse_mask_rate
from nemo.collections.nlp.options.text_reading import TextReading
from nemo.utils.arguments import check, option
from nemo.utils.errors import UsageError

LEVELS = ("vocabulary", "continue")
MINUTES = 30.0


@dataclass(frozen=True)
class DomainOptions:
    """Continued pretraining and new vocabulary."""

    level: str = option(
        "continue",
        "vocabulary: only add entries; continue: also continue pretraining on the text",
        choices=LEVELS,
    )
    pieces: int | None = option(
        None,
        "maximum number of new vocabulary entries; 0: none",
        default_text="as many as reduce the number of tokens enough; none if the gain is small",
        at_least=0,
        at_most=LARGEST_VOCABULARY,
        metavar="ENTRIES",
    )
    minutes: float | None = option(
        None,
        "duration of continued pretraining",
        default_text=f"{MINUTES:g}, unless --num_iters is given",
        above=0,
        metavar="MINUTES",
    )
    num_iters: int | None = option(
        None,
        "steps of continued pretraining, instead of --minutes; reproducible on any machine",
        at_least=1,
        metavar="STEPS",
    )
    mask_probability: float | str = option(
        FALLING_MASK_RATE,
        "share of tokens to predict in pretraining; FIRST:LAST changes it linearly during pretraining",
        metavar="SHARE",
        parse=parse_mask_rate,
    )
    replay: str | None = option(
        None,
        "general text: part of it is mixed into training, the rest is used to measure forgetting",
        metavar="PATH",
        is_path=True,
    )
    replay_share: float = option(
        0.1,
        "share of --replay in the training text, by characters",
        at_least=0,
        below=1,
        metavar="SHARE",
    )
    pretraining_lr: float = option(
        1e-4,
        "peak learning rate of pretraining; it warms up again, then decays to zero",
        above=0,
        below=1,
        metavar="RATE",
    )
    pretraining_batch_size: int = option(32, "samples in a pretraining batch", at_least=1, metavar="SAMPLES")


@dataclass(frozen=True)
class AdaptationRunOptions:
    """Runs and output.

    They may change when the command is repeated.
    """

    seeds: int = option(
        5, "fine-tuning runs of each model with the selected learning rate", at_least=1, metavar="RUNS"
    )
    compare_stages: bool = option(
        False, "also measure the gain of new entries alone and of pretraining alone; takes twice as long"
    )
    work_dir: str = option(
        "outputs/adapt",
        "output folder; the same command with the same folder resumes",
        metavar="FOLDER",
        is_path=True,
    )


@dataclass(frozen=True)
class AdaptationOptions(DomainOptions, TaskOptions, ComputingOptions, AdaptationRunOptions, TextReading):
    """The model to adapt, the text of the field, and the task that measures the gain.

    Raises:
        UsageError: a value is out of range, or the model or the text is missing.
    """

    model: str = option(
        "", "a BERT: a run's work folder, an export, a Hugging Face folder or name", is_path=True
    )
    text: tuple[str, ...] = option(
        (), "text of the field: files, folders or addresses of .txt, .jsonl, .parquet or .csv", is_path=True
    )

    def __post_init__(self) -> None:
        check(self)
        if not (self.model and self.text):
            raise UsageError(
                "a model and a text are needed",
                expected="nemo-bert adapt MODEL TEXT... [--task ner --train FILE]",
            )
        mask_rates(self.mask_probability)
        self._check_stages()
        if self.minutes is not None and self.num_iters is not None:
            raise conflict("--num_iters", "--minutes")
        if self.replay in self.text:
            raise UsageError(
                "the same text as that of the field",
                where="--replay",
                found=self.replay,
                fix="give general text",
            )
        given = [f"--{f.name}" for f in fields(TaskOptions) if getattr(self, f.name) != f.default]
        if given and not self.train:
            raise UsageError("needs --train", where=given[0], fix="give the labeled training file as well")
        self.check_task()

    def _check_stages(self) -> None:
        """Refuse options of stages that are left out."""
        if self.replay is None and self.replay_share != type(self).replay_share:
            raise UsageError("needs --replay", where="--replay_share", fix="give general text as well")
        if self.level == "continue":
            return
        for name in ("minutes", "num_iters", "compare_stages"):
            if getattr(self, name):
                raise conflict("--level vocabulary", f"--{name}", "there is no pretraining")
        if self.pieces == 0:
            raise conflict("--level vocabulary", "--pieces 0", "nothing would be left to do")

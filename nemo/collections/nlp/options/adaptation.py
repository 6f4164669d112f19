"""The options of an adaptation to a field."""

from dataclasses import dataclass

from nemo.collections.nlp.options.finetuning import TaskOptions
from nemo.collections.nlp.options.limits import LARGEST_VOCABULARY
from nemo.collections.nlp.options.text_reading import TextReading
from nemo.utils.arguments import check, option
from nemo.utils.errors import UsageError

LEVELS = ("vocabulary", "continue")


@dataclass(frozen=True)
class AdaptationOptions(TaskOptions, TextReading):
    """Which BERT to adapt, to which text, and what shows whether it was worth it.

    Raises:
        UsageError: a value out of its range, or a model or a text that is missing.
    """

    model: str = option(
        "", "a BERT: a run's work folder, an export, a Hugging Face folder or name", is_path=True
    )
    text: tuple[str, ...] = option(
        (), "text of the field: files, folders or addresses of .txt, .jsonl, .parquet or .csv", is_path=True
    )
    level: str = option(
        "continue",
        "vocabulary: new entries only; continue: also continue pretraining on the text",
        choices=LEVELS,
    )
    minutes: float = option(30.0, "duration of continued pretraining", above=0)
    replay: str | None = option(
        None,
        "general text: some of it is mixed in, and what is forgotten is measured on the rest",
        is_path=True,
    )
    replay_share: float = option(0.1, "share of --replay in the text, by characters", at_least=0, below=1)
    pretraining_lr: float = option(
        1e-4, "highest learning rate of pretraining, warmed up anew and down to zero", above=0, below=1
    )
    pretraining_batch_size: int = option(32, "sequences in a batch of pretraining", at_least=1)
    pieces: int | None = option(
        None,
        "new entries at most; 0: none; None: as many as are worth it",
        at_least=0,
        at_most=LARGEST_VOCABULARY,
    )
    seeds: int = option(5, "fine-tuning runs of each model", at_least=1)
    work_dir: str = option("outputs/adapt", "output folder; a rerun with the same one resumes", is_path=True)

    def __post_init__(self) -> None:
        check(self)
        if not (self.model and self.text):
            raise UsageError(
                "a model and a text are needed",
                expected="nemo-bert adapt MODEL TEXT... [--task ner --train FILE]",
            )
        self.check_task()

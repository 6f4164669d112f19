"""Options of `nemo-bert finetune`, with the same names on the command line, in YAML and in Python."""

from dataclasses import dataclass

from nemo.collections.nlp.options.limits import LONGEST_SEQUENCE
from nemo.collections.nlp.options.text_reading import ModelTokenizer
from nemo.collections.nlp.options.training import cpu_threads
from nemo.utils.arguments import check, option
from nemo.utils.errors import UsageError

TASKS = ("ner", "classify", "pairs")
LEARNING_RATES = "3e-5,1e-4,3e-4"


@dataclass(frozen=True)
class TaskDataOptions:
    """Task and labeled data."""

    task: str = option(
        "ner",
        "ner: one label per word; classify: one label per text; pairs: one label per pair of texts",
        choices=TASKS,
        decides="model",
    )
    train: str = option(
        "",
        "labeled file: words in columns, PubTator, JSON lines, CSV or TSV",
        metavar="FILE",
        is_path=True,
    )
    valid: str | None = option(
        None,
        "labeled file that selects the learning rate and the checkpoint",
        default_text="a tenth of --train, selected by a hash",
        metavar="FILE",
        is_path=True,
    )
    test: str | None = option(None, "labeled file for the final score", metavar="FILE", is_path=True)
    text_column: str | None = option(
        None, "column or JSON key of the text", default_text="found by name", metavar="NAME"
    )
    pair_column: str | None = option(
        None, "pairs: column or JSON key of the second text", default_text="found by name", metavar="NAME"
    )
    label_column: str | None = option(
        None, "column or JSON key of the label", default_text="found by name", metavar="NAME"
    )
    max_seq_length: int | None = option(
        None,
        "maximum tokens in a sequence of labeled text; longer ones are split into overlapping windows",
        default_text="the model's maximum",
        at_least=16,
        at_most=LONGEST_SEQUENCE,
        metavar="TOKENS",
        decides="model",
    )


@dataclass(frozen=True)
class TaskTrainingOptions:
    """Fine-tuning."""

    lr: str = option(
        LEARNING_RATES,
        "learning rate, or several separated by commas, of which --valid selects the best",
        metavar="RATES",
    )
    num_epochs: int = option(
        3, "passes over the training data", at_least=1, metavar="EPOCHS", decides="model"
    )
    batch_size: int = option(16, "samples in a batch", at_least=1, metavar="SAMPLES", decides="model")
    lr_warmup_proportion: float = option(
        0.1,
        "fraction of the steps spent on warm-up; the learning rate then falls to zero",
        at_least=0,
        below=1,
        metavar="SHARE",
        decides="model",
    )
    weight_decay: float = option(
        0.01,
        "decoupled weight decay, not applied to biases and LayerNorm",
        at_least=0,
        metavar="RATE",
        decides="model",
    )
    grad_norm_clip: float = option(
        1.0, "clip the gradient to this norm; 0: no clipping", at_least=0, metavar="NORM", decides="model"
    )


@dataclass(frozen=True)
class TaskOptions(TaskDataOptions, TaskTrainingOptions):
    """Labeled task, and how to train on it."""

    def check_task(self) -> None:
        """Refuse options that contradict each other.

        Raises:
            UsageError: they do, or `--lr` is not a list of learning rates.
        """
        if self.pair_column is not None and self.task != "pairs":
            raise UsageError(
                "an option of --task pairs",
                where="--pair_column",
                found=f"--task {self.task}",
                fix="leave it out",
            )
        _ = self.learning_rates

    @property
    def learning_rates(self) -> tuple[float, ...]:
        """The learning rates in `--lr`, to select from.

        Raises:
            UsageError: one of them is not a learning rate.
        """
        try:
            rates = tuple(float(rate) for rate in self.lr.split(","))
        except ValueError:
            rates = ()
        if not rates or not all(0 < rate < 1 for rate in rates):
            raise UsageError(
                "not a learning rate", where="--lr", found=repr(self.lr), expected="a number such as 5e-5"
            )
        return rates


@dataclass(frozen=True)
class ComputingOptions:
    """Precision, seed and threads."""

    amp_opt_level: str = option(
        "O0", "precision. O0: fp32; O1: matrix products in bf16", choices=("O0", "O1"), decides="model"
    )
    seed: int = option(
        0,
        "random seed, of the first of several runs",
        at_least=0,
        below=2**32,
        metavar="INTEGER",
    )
    threads: int | None = cpu_threads()


@dataclass(frozen=True)
class FinetuningRunOptions:
    """Runs and output."""

    seeds: int = option(
        1,
        "runs with the selected learning rate; scores are their mean and standard deviation",
        at_least=1,
        metavar="RUNS",
    )
    work_dir: str = option(
        "outputs/finetune",
        "folder for the runs and the model; the same command with the same folder resumes",
        metavar="FOLDER",
        is_path=True,
    )


@dataclass(frozen=True)
class FinetuningOptions(TaskOptions, ComputingOptions, FinetuningRunOptions, ModelTokenizer):
    """The model to fine-tune, the labeled data, and how to train on it.

    Raises:
        UsageError: a value is out of range, or the model or the training file is missing.
    """

    model: str = option(
        "",
        "a BERT: a run's work folder, an export, a Hugging Face folder or name",
        is_path=True,
    )

    def __post_init__(self) -> None:
        check(self)
        if not (self.model and self.train):
            raise UsageError(
                "a model and a labeled file are needed",
                expected="nemo-bert finetune MODEL --task ner|classify|pairs --train FILE",
            )
        self.check_task()

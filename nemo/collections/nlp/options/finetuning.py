"""Every option of a fine-tuning: default, range, meaning; for command line, YAML and Python alike."""

from dataclasses import dataclass

from nemo.collections.nlp.options.limits import LONGEST_SEQUENCE
from nemo.collections.nlp.options.text_reading import ANY_TOKENIZER
from nemo.utils.arguments import check, option
from nemo.utils.errors import UsageError

TASKS = ("ner", "classify", "pairs")
LEARNING_RATES = "3e-5,1e-4,3e-4"


@dataclass(frozen=True)
class TaskOptions:
    """A task with labels, and how it is learned."""

    task: str = option(
        "ner",
        "ner: a label for each word; classify: one for each text; pairs: one for two texts",
        choices=TASKS,
        decides="model",
    )

    # Data
    train: str = option("", "labelled file: words in columns, PubTator, JSON lines, CSV or TSV", is_path=True)
    valid: str | None = option(
        None,
        "labelled file that chooses the learning rate and the model; default: a tenth of --train, by a hash",
        is_path=True,
    )
    test: str | None = option(None, "labelled file for the final figure", is_path=True)
    text_column: str | None = option(None, "field or column of the text; found by its name unless given")
    pair_column: str | None = option(None, "pairs: field or column of the second text")
    label_column: str | None = option(None, "field or column of the label")
    max_seq_length: int | None = option(
        None,
        "tokens in a sequence; what is longer is cut with overlap. None: the model's positions",
        at_least=16,
        at_most=LONGEST_SEQUENCE,
        decides="model",
    )

    # Training
    lr: str = option(LEARNING_RATES, "learning rate; --valid chooses among several, separated by commas")
    num_epochs: int = option(3, "passes over the training part", at_least=1, decides="model")
    batch_size: int = option(16, "sequences in a batch", at_least=1, decides="model")
    lr_warmup_proportion: float = option(
        0.1,
        "fraction of the steps spent on warm-up; the learning rate then falls to zero",
        at_least=0,
        below=1,
        decides="model",
    )
    weight_decay: float = option(
        0.01, "decoupled decay, never of biases and LayerNorm", at_least=0, decides="model"
    )
    grad_norm_clip: float = option(
        1.0, "largest norm of the gradient; 0: no clipping", at_least=0, decides="model"
    )
    amp_opt_level: str = option(
        "O0", "precision: O0 fp32, O1 bf16 products", choices=("O0", "O1"), decides="model"
    )
    seed: int = option(0, "seed of the first run: new weights, order and dropout", at_least=0, below=2**32)
    threads: int | None = option(None, "CPU threads; None: all cores", at_least=1, at_most=1024)

    def check_task(self) -> None:
        """Refuse options that contradict each other.

        Raises:
            UsageError: they do, or something is no learning rate.
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
        """The rates to choose from, as `--lr` gives them.

        Raises:
            UsageError: something that is no rate.
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
class FinetuningOptions(TaskOptions):
    """Which BERT to fine-tune, on which labels, and how.

    Raises:
        UsageError: a value out of its range, or a model or a file that is missing.
    """

    model: str = option(
        "",
        "a BERT: a run's work folder, what nemo-bert export wrote, a Hugging Face folder or name",
        is_path=True,
    )
    seeds: int = option(
        1, "runs with the chosen learning rate; figures are their mean and deviation", at_least=1
    )
    tokenizer: str | None = option(None, f"for a model without one: {ANY_TOKENIZER}", is_path=True)
    do_lower_case: bool | None = option(None, "with --tokenizer: lower-case text for a vocab.txt")
    work_dir: str = option(
        "outputs/finetune",
        "folder of the runs and the model; a rerun with the same one resumes",
        is_path=True,
    )

    def __post_init__(self) -> None:
        check(self)
        if not (self.model and self.train):
            raise UsageError(
                "a model and a labelled file are needed",
                expected="nemo-bert finetune MODEL --task ner|classify|pairs --train FILE",
            )
        self.check_task()

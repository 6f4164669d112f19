"""Every option of a pretraining run: default, range, meaning; for command line, YAML and Python alike.

The names and defaults are those of NeMo 0.10's script. Imports no torch, so that `--help` is quick.
"""

from dataclasses import dataclass

from nemo.utils.arguments import check, option
from nemo.utils.errors import UsageError
from nemo.utils.lr_policies import LR_POLICIES

MODES = ("data_text", "data_preprocessed")
OPTIMIZERS = (
    "novograd",
    "adam",
    "sgd",
    "adam_w",
    "lamb",
    "muon",
    "fused_novograd",
    "fused_adam",
    "fused_lamb",
)


@dataclass(frozen=True)
class PretrainingOptions:
    """What to pretrain, on what, and how.

    Raises:
        UsageError: a value out of its range, or options that contradict each other.
    """

    mode: str = option("data_preprocessed", "kind of training data: data_text or data_preprocessed")

    # Data
    train_data: str | None = option(None, "training text: a file, or a folder of *.txt files")
    eval_data: str | None = option(None, "held-out text, for evaluation")
    data_dir: str | None = option(
        None, "folder with train.txt and valid.txt, instead of --train_data and --eval_data"
    )
    dataset_name: str = option("wikitext-2", "name of the data, for logs only")
    text_layout: str = option(
        "auto",
        "where documents end: at WikiText headings, blank lines, every line, or nowhere (running text)",
        choices=("auto", "headings", "blank", "lines", "running"),
    )
    sentences: str = option(
        "auto", "how lines are cut into sentences", choices=("auto", "punkt", "cjk", "line")
    )
    invalid_bytes: str = option(
        "error", "what to do with bytes that are not UTF-8", choices=("error", "replace")
    )
    tokenizer: str = option(
        "sentence-piece",
        "sentence-piece or word-piece (trained on the text unless [data_dir]/bert has tokenizer.model or "
        "vocab.txt), or a Hugging Face BERT: a folder or a name",
    )
    vocab_size: int = option(3200, "entries of the vocabulary to train", at_least=1)
    sample_size: int = option(10_000_000, "sentences the tokenizer is trained on", at_least=1)
    do_lower_case: bool = option(False, "lower-case text for WordPiece")
    max_seq_length: int = option(128, "tokens in a sequence, specials included", at_least=8)
    mask_probability: float = option(0.15, "share of tokens to predict", above=0, below=1)
    short_seq_prob: float = option(0.1, "share of documents cut into short sequences", at_least=0, at_most=1)
    max_predictions_per_seq: int = option(20, "predictions in a row of prepared data", at_least=1)

    # Model
    config_file: str | None = option(None, "bert-config.json with the model's sizes; wins over the flags")
    hidden_size: int = option(768, "width", at_least=1)
    num_hidden_layers: int = option(12, "depth", at_least=1)
    num_attention_heads: int = option(12, "attention heads; must divide hidden_size", at_least=1)
    intermediate_size: int = option(3072, "width of the feed-forward layers", at_least=1)
    hidden_act: str = option("gelu", "activation of the feed-forward layers and of the MLM head")
    hidden_dropout_prob: float = option(0.1, "dropout of embeddings and residuals", at_least=0, below=1)
    attention_probs_dropout_prob: float = option(0.1, "dropout of attention", at_least=0, below=1)
    initializer_range: float = option(0.02, "standard deviation of initial weights", above=0)
    initialization: str = option(
        "normal",
        "initial weights: normal (BERT's) or counts (of neighbouring words in the text, learns far faster)",
        choices=("normal", "counts"),
    )
    only_mlm_loss: bool = option(False, "train without next-sentence prediction")

    # Training
    batch_size: int = option(64, "sequences in a batch", at_least=1)
    batches_per_step: int = option(1, "batches whose gradients make one update", at_least=1)
    num_epochs: int | None = option(None, "passes over the text (10 when no other end is given)", at_least=1)
    num_iters: int = option(-1, "updates to make instead of epochs; -1: not given")
    minutes: float | None = option(
        None, "train for about so long: --num_iters is found by timing a few updates", above=0
    )
    optimizer: str = option("novograd", "optimizer", choices=OPTIMIZERS)
    lr: float = option(0.01, "highest learning rate", above=0)
    lr_policy: str | None = option(None, "schedule; constant when not given", choices=tuple(LR_POLICIES))
    lr_warmup_proportion: float = option(0.05, "share of the updates that warm up", at_least=0, at_most=1)
    beta1: float = option(0.95, "first moment's decay", at_least=0, below=1)
    beta2: float = option(0.25, "second moment's decay", at_least=0, below=1)
    weight_decay: float = option(0.0, "decoupled decay, never of biases and LayerNorm", at_least=0)
    grad_norm_clip: float = option(-1.0, "largest norm of the gradient; -1: no clipping")
    amp_opt_level: str = option("O0", "precision: O0 fp32, O1 bf16 products", choices=("O0", "O1", "O2"))
    seed: int = option(0, "everything random follows from it", at_least=0)
    threads: int | None = option(None, "CPU threads; None takes all cores", at_least=1)

    # Continuing
    load_dir: str | None = option(None, "continue from the newest checkpoint in this folder")
    bert_checkpoint: str | None = option(None, "take the encoder's weights from this file")

    # Output
    work_dir: str = option("outputs/bert_lm", "folder of the run; a rerun with the same one resumes")
    train_step_freq: int = option(25, "updates between two lines of the log", at_least=1)
    eval_step_freq: int = option(25, "updates between two evaluations; -1: at the end only")
    save_step_freq: int = option(100, "updates between two checkpoints; -1: never")
    save_epoch_freq: int = option(1, "epochs between two checkpoints; -1: never")
    checkpoints_to_keep: int = option(4, "newest checkpoints that stay", at_least=1)

    # Several processes
    num_gpus: int = option(1, "processes that train together", at_least=1)
    local_rank: int | None = option(None, "set by the launcher", aliases=("--local-rank",))
    gradient_predivide: bool = option(False, "kept for old command lines; has no effect")

    def __post_init__(self) -> None:
        check(self)
        if self.mode not in MODES:
            raise UsageError("unknown kind of data", found=repr(self.mode), expected=" or ".join(MODES))
        if self.num_epochs is not None and (self.num_iters != -1 or self.minutes is not None):
            raise UsageError("--num_epochs excludes --num_iters and --minutes", fix="give one of them")
        if self.amp_opt_level == "O2":
            raise UsageError(
                "this precision is not available yet",
                where="--amp_opt_level",
                found="O2",
                expected="O0 or O1",
            )
        if self.initialization == "counts" and self.bert_checkpoint is not None:
            raise UsageError(
                "--initialization counts would overwrite the weights of --bert_checkpoint",
                fix="leave one of them out",
            )
        if self.num_iters != -1 and self.num_iters < 1:
            raise UsageError("out of range", where="--num_iters", found=self.num_iters, expected="1 or more")
        for name in ("eval_step_freq", "save_step_freq", "save_epoch_freq"):
            value = getattr(self, name)
            if value != -1 and value < 1:
                raise UsageError(
                    "out of range", where=f"--{name}", found=value, expected="1 or more, or -1 for never"
                )
        if self.hidden_size % self.num_attention_heads:
            raise UsageError(
                "the heads do not divide the width",
                where="--num_attention_heads",
                found=f"{self.num_attention_heads} heads for --hidden_size {self.hidden_size}",
                expected=f"one of {', '.join(str(d) for d in _divisors(self.hidden_size))}",
            )
        if self.train_data is None and self.data_dir is None:
            raise UsageError("no training data", expected="--train_data FILE_OR_FOLDER, or --data_dir FOLDER")

    @property
    def epochs(self) -> int | None:
        """How many epochs end the run; None when updates or minutes do."""
        without_end = self.num_epochs is None and self.num_iters == -1 and self.minutes is None
        return 10 if without_end else self.num_epochs


def _divisors(number: int) -> list[int]:
    return [d for d in range(1, number + 1) if number % d == 0]

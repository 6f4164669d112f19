"""Every option of a pretraining run: default, range, meaning; for command line, YAML and Python alike.

The names and defaults are those of NeMo 0.10's script. Imports no torch, so that `--help` is quick.
"""

from dataclasses import dataclass
from typing import ClassVar

from nemo.collections.nlp.options.limits import DEEPEST, LARGEST_VOCABULARY, LONGEST_SEQUENCE, WIDEST
from nemo.collections.nlp.options.text_reading import TextReading
from nemo.utils.arguments import check, option
from nemo.utils.errors import UsageError
from nemo.utils.lr_policies import LR_POLICIES
from nemo.utils.step_plan import StepPlan

MODES = ("data_text", "data_preprocessed")
# Options that mean nothing to the other kind of data.
OPTIONS_OF_MODE = {
    "data_text": (
        "text_format",
        "text_layout",
        "text_field",
        "sentences",
        "invalid_bytes",
        "max_bad_records",
        "sample_size",
        "short_seq_prob",
    ),
    "data_preprocessed": ("max_predictions_per_seq",),
}
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
class PretrainingOptions(TextReading):
    """What to pretrain, on what, and how.

    Raises:
        UsageError: a value out of its range, or options that contradict each other.
    """

    # Names of the options that were on the command line, and in a configuration file.
    given: ClassVar[frozenset[str]] = frozenset()
    given_in_file: ClassVar[frozenset[str]] = frozenset()

    mode: str = option("data_preprocessed", "data_text: raw text; data_preprocessed: prepared HDF5 shards")

    # Data
    train_data: str | None = option(
        None,
        "training data: a file, folder or address of text (.txt, .jsonl, .parquet, .csv; also .gz, .zst, "
        ".bz2, .xz), or what nemo-bert prepare wrote; or a shard or a folder of *.hdf5",
        is_path=True,
    )
    eval_data: str | None = option(
        None, "the same, held out for evaluation; default: what the training folder has of it", is_path=True
    )
    data_dir: str | None = option(
        None,
        "folder with both, instead of --train_data and --eval_data: train.txt and valid.txt or other "
        "names of splits, or shards named training and test (or in folders of these names)",
        is_path=True,
    )
    dataset_name: str = option("wikitext-2", "name of the data, for logs only")
    tokenizer: str = option(
        "sentence-piece",
        "sentence-piece or word-piece (trained on the text unless the model to start from has one, or "
        "[data_dir]/bert has tokenizer.model or vocab.txt), or the folder or Hugging Face name of another; "
        "for shards: what they were made with, or its vocab.txt",
        is_path=True,
        not_paths=("sentence-piece", "word-piece"),
    )
    vocab_size: int = option(
        3200,
        "entries of the vocabulary to train, or of that of shards without --tokenizer",
        at_least=1,
        at_most=LARGEST_VOCABULARY,
    )
    sample_size: int = option(10_000_000, "data_text: sentences the tokenizer is trained on", at_least=1)
    do_lower_case: bool = option(False, "lower-case text for WordPiece")
    max_seq_length: int = option(
        128,
        "tokens in a sequence, specials included; shards have theirs",
        at_least=8,
        at_most=LONGEST_SEQUENCE,
    )
    masking: str | None = option(
        None,
        "what is hidden at once: whole_word (default for text), token or span (of words); for shards these "
        "draw new masks in every epoch, and stored, the default, takes those that they have",
        choices=("stored", "token", "whole_word", "span"),
    )
    mask_probability: float = option(
        0.15, "share of tokens to predict; stored masks have their own", above=0, below=1
    )
    short_seq_prob: float = option(
        0.1, "data_text: share of documents cut into short sequences", at_least=0, at_most=1
    )
    max_predictions_per_seq: int | None = option(
        None,
        "data_preprocessed: predictions in a row, to be held to; the most to predict where masks are drawn",
        at_least=1,
    )

    # Model
    config_file: str | None = option(
        None, "bert-config.json with the model's sizes; wins over the flags", is_path=True
    )
    hidden_size: int = option(768, "width", at_least=1, at_most=WIDEST)
    num_hidden_layers: int = option(12, "depth", at_least=1, at_most=DEEPEST)
    num_attention_heads: int = option(12, "attention heads; must divide hidden_size", at_least=1)
    intermediate_size: int = option(3072, "width of the feed-forward layers", at_least=1)
    max_position_embeddings: int | None = option(
        None,
        "positions of the model; None: max_seq_length. With more, a second run can train on longer sequences "
        "(--bert_checkpoint with a larger --max_seq_length)",
        at_least=8,
        at_most=LONGEST_SEQUENCE,
    )
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
    tokens_per_batch: int | None = option(
        None,
        "tokens in a batch at most, instead of --batch_size: it takes sequences until the next would be too "
        "much; padding does not count",
        at_least=8,
    )
    batches_per_step: int = option(1, "batches whose gradients make one update", at_least=1)
    num_epochs: int | None = option(
        None, "passes over the data (10 over text when no other end is given)", at_least=1
    )
    num_iters: int = option(
        -1, "updates to make instead of epochs (100 over shards when no other end is given)"
    )
    minutes: float | None = option(
        None,
        "instead: how long the run takes, its start, evaluations and checkpoints included; --num_iters "
        "follows from how fast it goes",
        above=0,
    )
    step_plan: str | None = option(
        None,
        "what --minutes has settled, as FINISHED_STEPS:STEPS_IN_ALL,...; written to a run's config.yaml, so "
        "that it repeats the learning rates",
    )
    optimizer: str = option("novograd", "optimizer", choices=OPTIMIZERS)
    lr: float = option(0.01, "highest learning rate", above=0)
    lr_policy: str | None = option(None, "schedule; constant when not given", choices=tuple(LR_POLICIES))
    lr_warmup_proportion: float = option(0.05, "share of the updates that warm up", at_least=0, at_most=1)
    beta1: float | None = option(
        None, "first moment's decay; None: 0.95 for novograd, 0.9 for the others", at_least=0, below=1
    )
    beta2: float | None = option(
        None, "second moment's decay; None: 0.25 for novograd, 0.999 for the others", at_least=0, below=1
    )
    weight_decay: float = option(0.0, "decoupled decay, never of biases and LayerNorm", at_least=0)
    grad_norm_clip: float = option(-1.0, "largest norm of the gradient; -1: no clipping")
    amp_opt_level: str = option(
        "O0",
        "precision: O0 fp32, O1 bf16 products, O2 bf16 weights and activations as well",
        choices=("O0", "O1", "O2"),
    )
    when_not_finite: str = option(
        "stop",
        "after a loss or gradient that is not finite, whose update is never made: stop, skip (go on with the "
        "next batches) or rewind (go on with them from the newest checkpoint); 3 times in a row at most",
        choices=("stop", "skip", "rewind"),
    )
    seed: int = option(0, "everything random follows from it", at_least=0, below=2**63)
    threads: int | None = option(None, "CPU threads; None takes all cores", at_least=1, at_most=1024)

    # Continuing
    load_dir: str | None = option(
        None,
        "go on with another run, optimizer and step included: its work folder, or one STEP-<n>",
        is_path=True,
    )
    bert_checkpoint: str | None = option(
        None,
        "start from weights: of an encoder (a .safetensors or .pt file), or of a BERT and its heads (a run's "
        "folder, a Hugging Face folder or name); sizes that are not given are the model's",
        is_path=True,
    )

    # Output
    work_dir: str = option(
        "outputs/bert_lm", "folder of the run; a rerun with the same one resumes", is_path=True
    )
    train_step_freq: int = option(25, "updates between two lines of the log", at_least=1)
    eval_step_freq: int = option(25, "updates between two evaluations; -1: at the end only")
    save_step_freq: int = option(100, "updates between two checkpoints; -1: never")
    save_epoch_freq: int = option(1, "epochs between two checkpoints; -1: never")
    checkpoints_to_keep: int = option(4, "newest checkpoints that stay", at_least=1)

    # Several processes
    num_gpus: int = option(
        1, "processes that train together, as torchrun starts them; for a check only", at_least=1
    )
    local_rank: int | None = option(None, "set by the launcher", aliases=("--local-rank",))
    compress_gradients: bool = option(False, "several processes send each other gradients as bf16")
    shard: bool = option(
        False,
        "several processes share out weights, gradients and optimizer state, for a model too large for one "
        "device; with one process it has no effect",
    )
    hang_timeout: float = option(
        600.0, "seconds after which a process that does not get on ends all of them", above=0
    )
    gradient_predivide: bool = option(False, "kept for old command lines; has no effect")

    def __post_init__(self) -> None:
        check(self)
        if self.mode not in MODES:
            raise UsageError("unknown kind of data", found=repr(self.mode), expected=" or ".join(MODES))
        self._check_options_of_mode()
        if self.num_epochs is not None and (self.num_iters != -1 or self.minutes is not None):
            raise UsageError("--num_epochs excludes --num_iters and --minutes", fix="give one of them")
        if self.tokens_per_batch is not None and self.batch_size != PretrainingOptions.batch_size:
            raise UsageError("--tokens_per_batch excludes --batch_size", fix="give one of them")
        if self.load_dir is not None and self.bert_checkpoint is not None:
            raise UsageError("--load_dir excludes --bert_checkpoint", fix="leave one of them out")
        if self.initialization == "counts" and self.bert_checkpoint is not None:
            raise UsageError(
                "--initialization counts would overwrite the weights of --bert_checkpoint",
                fix="leave one of them out",
            )
        for name, value in (("amp_opt_level", "O2"), ("optimizer", "muon")):
            if self.shard and getattr(self, name) == value:
                raise UsageError(f"--shard excludes --{name} {value}", fix="leave one of them out")
        if self.step_plan is not None:
            StepPlan.parse(self.step_plan)
        if self.num_iters != -1 and self.num_iters < 1:
            raise UsageError("out of range", where="--num_iters", found=self.num_iters, expected="1 or more")
        for name in ("eval_step_freq", "save_step_freq", "save_epoch_freq"):
            value = getattr(self, name)
            if value != -1 and value < 1:
                raise UsageError(
                    "out of range", where=f"--{name}", found=value, expected="1 or more, or -1 for never"
                )
        # Where sizes come from elsewhere, those that are not given here do not count yet.
        has_sizes = not (self.config_file or self.load_dir or self.bert_checkpoint)
        if has_sizes and self.hidden_size % self.num_attention_heads:
            raise UsageError(
                "the heads do not divide the width",
                where="--num_attention_heads",
                found=f"{self.num_attention_heads} heads for --hidden_size {self.hidden_size}",
                expected=f"one of {', '.join(str(d) for d in _divisors(self.hidden_size))}",
            )
        positions = self.max_position_embeddings or self.max_seq_length
        if has_sizes and self.mode == "data_text" and positions < self.max_seq_length:
            raise UsageError(
                "fewer positions than a sequence has tokens",
                where="--max_position_embeddings",
                found=positions,
                expected=f"{self.max_seq_length} or more, as --max_seq_length",
            )
        if self.train_data is None and self.data_dir is None:
            raise UsageError("no training data", expected="--train_data FILE_OR_FOLDER, or --data_dir FOLDER")

    def _check_options_of_mode(self) -> None:
        """Refuse what the other kind of data needs, and this one would not heed."""
        (other,) = (mode for mode in MODES if mode != self.mode)
        for name in OPTIONS_OF_MODE[other]:
            if getattr(self, name) != getattr(PretrainingOptions, name):
                raise UsageError(
                    f"an option of {other}, and the data is {self.mode}",
                    where=f"--{name}",
                    fix=f"leave it out, or say {other} after the options",
                )
        if self.mode == "data_text" and self.masking == "stored":
            raise UsageError(
                "no masks are stored in text",
                where="--masking stored",
                expected="whole_word, token or span",
            )
        if self.draws_no_masks and self.mask_probability != PretrainingOptions.mask_probability:
            raise UsageError(
                "the masks are those of the shards",
                where="--mask_probability",
                found=self.mask_probability,
                fix="leave it out, or let other masks be drawn: --masking whole_word",
            )
        if self.mode == "data_preprocessed" and self.initialization == "counts":
            raise UsageError(
                "words are counted in text, and the data is data_preprocessed",
                where="--initialization counts",
                fix="leave it out, or say data_text after the options",
            )
        if self.mode == "data_preprocessed" and self.tokenizer == "word-piece":
            raise UsageError(
                "no tokenizer is trained on shards",
                where="--tokenizer word-piece",
                expected="the folder, name or vocab.txt of the one that made them, or nothing",
                fix="if the data is text, say data_text after the options",
            )

    @property
    def draws_no_masks(self) -> bool:
        """Is trained on shards with the masks that they have?"""
        return self.mode == "data_preprocessed" and self.masking in (None, "stored")

    @property
    def updates(self) -> int | None:
        """How many updates end the run; None when epochs or minutes do."""
        if self.num_iters != -1:
            return self.num_iters
        return 100 if self._has_no_end and self.mode == "data_preprocessed" else None

    @property
    def epochs(self) -> int | None:
        """How many epochs end the run; None when updates or minutes do."""
        return 10 if self._has_no_end and self.mode == "data_text" else self.num_epochs

    @property
    def _has_no_end(self) -> bool:
        return self.num_epochs is None and self.num_iters == -1 and self.minutes is None


def _divisors(number: int) -> list[int]:
    return [d for d in range(1, number + 1) if number % d == 0]

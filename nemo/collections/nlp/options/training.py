"""Options for steps, optimizer, precision, output and processes of a run."""

from dataclasses import dataclass
from typing import Any

from nemo.utils.arguments import option
from nemo.utils.lr_policies import LR_POLICIES

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


def cpu_threads() -> Any:
    """Declares `--threads`, which pretraining and fine-tuning have."""
    return option(
        None,
        "CPU threads",
        default_text="one for each core",
        at_least=1,
        at_most=1024,
        metavar="THREADS",
        decides="machine",
    )


@dataclass(frozen=True)
class LengthOptions:
    """Length of the run and size of a step."""

    batch_size: int = option(64, "samples in a micro-batch", at_least=1, metavar="SAMPLES")
    tokens_per_batch: int | None = option(
        None,
        "maximum number of real tokens in a micro-batch, instead of --batch_size; padding does not count",
        at_least=8,
        metavar="TOKENS",
        decides="samples",
    )
    batches_per_step: int = option(1, "micro-batches in a step", at_least=1, metavar="BATCHES")
    num_epochs: int | None = option(
        None,
        "passes over the training data",
        default_text="10 over text if nothing else ends the run",
        at_least=1,
        metavar="EPOCHS",
        decides="rate",
    )
    num_iters: int = option(
        -1,
        "number of steps, instead of epochs",
        default_text="100 over shards if nothing else ends the run",
        metavar="STEPS",
        decides="rate",
    )
    minutes: float | None = option(
        None,
        "duration of the whole run, with startup, evaluations and checkpoints; with --num_epochs, whichever "
        "comes first ends the run",
        above=0,
        metavar="MINUTES",
        decides="rate",
    )
    step_plan: str | None = option(
        None,
        "step counts planned for --minutes; written by a run so that it can be repeated",
        metavar="FINISHED:TOTAL,...",
    )


@dataclass(frozen=True)
class OptimizerOptions:
    """Optimizer and learning rate."""

    optimizer: str = option("novograd", "optimizer", choices=OPTIMIZERS, decides="model")
    lr: float = option(0.01, "peak learning rate", above=0, metavar="RATE", decides="rate")
    lr_embeddings: float | None = option(
        None,
        "peak learning rate of the embeddings",
        default_text="--lr",
        above=0,
        metavar="RATE",
        decides="rate",
    )
    lr_head: float | None = option(
        None,
        "peak learning rate of the heads: everything outside embeddings and encoder",
        default_text="--lr",
        above=0,
        metavar="RATE",
        decides="rate",
    )
    lr_policy: str | None = option(
        None, "learning-rate schedule", choices=tuple(LR_POLICIES), default_text="constant", decides="rate"
    )
    lr_warmup_proportion: float = option(
        0.05, "fraction of the steps spent on warm-up", at_least=0, at_most=1, metavar="SHARE", decides="rate"
    )
    lr_min: float | None = option(
        None,
        "learning rate at the end of the schedule",
        default_text="0; 1e-5 for SquareAnnealing",
        at_least=0,
        metavar="RATE",
        decides="rate",
    )
    lr_power: float | None = option(
        None,
        "power of the polynomial schedules",
        default_text="1, a straight line",
        at_least=0,
        metavar="POWER",
        decides="rate",
    )
    lr_hold: float | None = option(
        None,
        "fraction of the steps held at the peak learning rate after warm-up",
        default_text="0",
        at_least=0,
        at_most=1,
        metavar="SHARE",
        decides="rate",
    )
    beta1: float | None = option(
        None,
        "decay of the first moment",
        default_text="0.95 for novograd, 0.9 for the others",
        at_least=0,
        below=1,
        metavar="RATE",
    )
    beta2: float | None = option(
        None,
        "decay of the second moment",
        default_text="0.25 for novograd, 0.999 for the others",
        at_least=0,
        below=1,
        metavar="RATE",
    )
    weight_decay: float = option(
        0.0,
        "weight decay, not applied to biases and LayerNorm; decoupled, but for adam and sgd an L2 penalty",
        at_least=0,
        metavar="RATE",
    )
    grad_norm_clip: float = option(
        -1.0, "clip the gradient to this norm; -1: no clipping", default_text="no clipping", metavar="NORM"
    )
    when_not_finite: str = option(
        "stop",
        "when a loss or gradient is not finite, the step is dropped. stop: end the run; skip: continue with "
        "the next batches; rewind: return to the newest checkpoint, then skip. At most 3 times in a row",
        choices=("stop", "skip", "rewind"),
    )


@dataclass(frozen=True)
class MachineOptions:
    """Precision, seed and threads."""

    amp_opt_level: str = option(
        "O0",
        "precision. O0: fp32; O1: matrix products in bf16; O2: weights and activations in bf16 as well",
        choices=("O0", "O1", "O2"),
    )
    seed: int = option(0, "random seed", at_least=0, below=2**63, metavar="INTEGER", decides="samples")
    threads: int | None = cpu_threads()


@dataclass(frozen=True)
class OutputOptions:
    """Output, logs and checkpoints."""

    work_dir: str = option(
        "outputs/bert_lm",
        "folder of the run; the same command with the same folder resumes it",
        metavar="FOLDER",
        is_path=True,
        decides="machine",
    )
    tracker: tuple[str, ...] = option(
        ("tensorboard",),
        "where to log metrics besides the work folder; may be given several times",
        choices=("tensorboard", "wandb", "trackio", "none"),
        default_text="tensorboard",
        decides="machine",
    )
    report: bool = option(True, "write report.html, a page about the run, when it ends")
    train_step_freq: int = option(25, "log every this many steps", at_least=1, metavar="STEPS")
    eval_step_freq: int = option(25, "evaluate every this many steps; -1: only at the end", metavar="STEPS")
    save_step_freq: int = option(100, "save a checkpoint every this many steps; -1: never", metavar="STEPS")
    save_epoch_freq: int = option(1, "save a checkpoint every this many epochs; -1: never", metavar="EPOCHS")
    checkpoints_to_keep: int = option(
        4, "number of newest checkpoints to keep", at_least=1, metavar="CHECKPOINTS"
    )
    keep_best: bool = option(False, "also keep the checkpoint with the lowest held-out MLM loss")
    patience: int | None = option(
        None,
        "stop after this many evaluations in a row without a lower held-out MLM loss",
        at_least=1,
        metavar="EVALUATIONS",
    )


@dataclass(frozen=True)
class ProcessOptions:
    """Distributed training."""

    num_gpus: int = option(
        1,
        "number of processes, to check what torchrun started",
        default_text="as many as torchrun started",
        at_least=1,
        metavar="PROCESSES",
    )
    local_rank: int | None = option(
        None, "set by the launcher", aliases=("--local-rank",), metavar="RANK", decides="machine"
    )
    compress_gradients: bool = option(False, "exchange gradients as bf16")
    shard: bool = option(
        False,
        "shard weights, gradients and optimizer state over the processes, for a model too large for "
        "one device; no effect with one process",
    )
    hang_timeout: float = option(
        600.0,
        "abort all processes if one makes no progress for this long",
        above=0,
        metavar="SECONDS",
    )
    gradient_predivide: bool = option(False, "accepted for old command lines; has no effect")

"""`nemo-bert demo`: from nothing to a trained, measured, exported BERT, offline, in a few minutes."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nemo.collections.nlp.options import PretrainingOptions
from nemo.utils.arguments import CommandLine, check, option
from nemo.utils.logging import logging

SENTENCES = (
    "If the file does not [MASK], an error is raised.",
    "Return a new [MASK] of the same length.",
    "The default value is [MASK].",
    "This is the [MASK] of the object.",
    "The first argument is the [MASK] of the function.",
)


@dataclass(frozen=True)
class DemoOptions:
    """How long, how large, and where to."""

    minutes: float = option(3.0, "how long training takes, its start included", above=0)
    out: str = option("outputs/demo", "folder to write; a rerun goes on from what is there", is_path=True)
    vocab_size: int = option(8000, "entries of the vocabulary", at_least=100)
    hidden_size: int = option(256, "width", at_least=1)
    num_hidden_layers: int = option(4, "depth", at_least=1)
    num_attention_heads: int = option(4, "attention heads; must divide hidden_size", at_least=1)
    max_seq_length: int = option(128, "tokens in a sequence", at_least=8)
    batch_size: int = option(16, "sequences in a batch", at_least=1)
    lr: float = option(1e-3, "highest learning rate", above=0)
    seed: int = option(0, "everything random follows from it", at_least=0)
    threads: int | None = option(None, "CPU threads; None takes all cores", at_least=1)

    def __post_init__(self) -> None:
        check(self)


def recipe(options: DemoOptions, train: Path, valid: Path) -> PretrainingOptions:
    """What learns fastest in a few minutes; benchmarks/records/2026-11-22_demo_recipe has what was tried."""
    import torch

    from nemo.backends.pytorch.ops.hardware import has_bf16_units

    return PretrainingOptions(
        mode="data_text",
        train_data=str(train),
        eval_data=str(valid),
        work_dir=options.out,
        tokenizer="word-piece",
        do_lower_case=True,
        vocab_size=options.vocab_size,
        hidden_size=options.hidden_size,
        num_hidden_layers=options.num_hidden_layers,
        num_attention_heads=options.num_attention_heads,
        intermediate_size=4 * options.hidden_size,
        max_seq_length=options.max_seq_length,
        # A pass over the text is not even finished, so there is nothing to overfit.
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initialization="counts",
        minutes=options.minutes,
        batch_size=options.batch_size,
        optimizer="adam_w",
        lr=options.lr,
        lr_policy="PolynomialDecayAnnealing",
        lr_warmup_proportion=0.1,
        beta1=0.9,
        beta2=0.98,
        weight_decay=0.01,
        grad_norm_clip=1.0,
        amp_opt_level="O2" if has_bf16_units(torch.device("cpu")) else "O0",
        eval_step_freq=100_000,
        seed=options.seed,
        threads=options.threads,
    )


COMMAND_LINE = CommandLine(
    DemoOptions,
    "nemo-bert demo",
    "Train a small BERT on the documentation that is installed on this machine.",
    examples="nemo-bert demo --minutes 10",
)


def run(argv: Sequence[str]) -> None:
    """Collect, train, measure, guess, export."""
    options = COMMAND_LINE.parse(argv)
    from nemo.cli.demo_corpus import collect
    from nemo.collections.nlp.checkpoints.loading import export, load_pretrained
    from nemo.collections.nlp.evaluation import fill_mask, table
    from nemo.collections.nlp.pretraining import pretrain

    out = Path(options.out)
    train, valid = out / "corpus" / "train.txt", out / "corpus" / "valid.txt"
    if train.is_file() and valid.is_file():
        logging.info("1/4 using the text that is in %s", train.parent)
    else:
        logging.info("1/4 collecting English prose from the installed packages")
        collect(train.parent)
    logging.info("2/4 training for %g minutes", options.minutes)
    result = pretrain(recipe(options, train, valid))

    sys.stdout.write(f"\n3/4 on held-out documents after {result.tokens:,} tokens of training:\n\n")
    sys.stdout.write(table(result.figures) + "\n")
    before = result.figures_before
    if before:
        gain = before["unigram_entropy"] - before["mlm_loss"]
        sys.stdout.write(f"(before the first update, from counting neighbours alone: {gain:.4f} nat)\n")
    sys.stdout.write("\n")
    pretrained = load_pretrained(out)
    for sentence in SENTENCES:
        (guesses,) = fill_mask(pretrained, sentence, top=5)
        sys.stdout.write(f"{sentence}\n    {', '.join(guess.token for guess in guesses)}\n")

    export(pretrained, out / "export", force=True)
    sys.stdout.write(
        f"\n4/4 exported to {out / 'export'}; in Python:\n\n"
        f"    from transformers import pipeline\n"
        f'    pipeline("fill-mask", "{out / "export"}")("{SENTENCES[0]}")\n\n'
        f"Curves: tensorboard --logdir {out / 'tensorboard'}\n"
    )

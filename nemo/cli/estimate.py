"""`nemo-bert estimate`: what a run will cost, before you start it; takes the arguments of `pretrain`."""

import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nemo.cli.pretrain import parse_words
from nemo.collections.nlp.options import PretrainingOptions
from nemo.collections.nlp.options.recipe_options import RecipeOptions, defaults_with_text
from nemo.utils.arguments import CommandLine, as_config, option
from nemo.utils.errors import MemoryShortageError, NemoError
from nemo.utils.logging import logging
from nemo.utils.progress import working

if TYPE_CHECKING:
    from nemo.collections.nlp.recipe.estimate import Estimate
    from nemo.collections.nlp.recipe.trial import Trial

TRIAL_SECONDS = 8.0  # duration of the timed steps
_NO_MEMORY = "error[MEMORY]"


@dataclass(frozen=True)
class EstimateOptions(RecipeOptions):
    """The run to estimate, and the format of the answer."""

    json: bool = option(False, "print one JSON object instead of a table")


COMMAND_LINE = CommandLine(
    EstimateOptions,
    "nemo-bert estimate",
    "Time a few real steps, and estimate what the run will take: memory, time, steps, disk. "
    "Takes the arguments of nemo-bert pretrain, which reuses the prepared data.",
    positional=("texts",),
    required=(),
    defaults=defaults_with_text(),
    helps={"dry_run": ""},  # it is one
    examples="nemo-bert estimate my_text.txt --minutes 60\n"
    "nemo-bert estimate my_text.txt --size base --tokens_per_batch 16384",
)


def run(argv: Sequence[str]) -> None:
    """Prepare the data, time a trial, and print the estimate."""
    options = parse_words(argv, COMMAND_LINE)
    verbosity = "WARNING" if options.json else "INFO"
    with logging.temp_verbosity(verbosity), working("estimating"):
        from nemo.collections.nlp.recipe.estimate import estimate

        settled, seconds = _prepared(options)
        trial = fitting_trial(settled)
    found = estimate(settled, trial, seconds)
    if options.json:
        figures = dataclasses.asdict(trial) | dataclasses.asdict(found)
        sys.stdout.write(json.dumps(figures) + "\n")
    else:
        _print(trial, found)


def _prepared(options: EstimateOptions) -> tuple[PretrainingOptions, float]:
    """The options of the run, and the seconds that choosing them took; prints the choices.

    The text is prepared as well, so that the run need not do it.
    """
    if not options.texts:
        return options.as_pretraining_options(), 0.0
    from nemo.cli.recipe_run import print_table
    from nemo.collections.nlp.recipe.from_text import choose_recipe, prepare_text, settle

    began = time.monotonic()
    recipe = choose_recipe(options)
    seconds = time.monotonic() - began
    settled = settle(options, recipe)
    if not options.json:
        print_table(recipe.table())
    prepare_text(options, recipe)
    return settled, seconds


def fitting_trial(options: PretrainingOptions) -> "Trial":
    """Run a trial of the run.

    Raises:
        MemoryShortageError: there is too little memory; the message names a batch size that fits.
    """
    from nemo.backends.pytorch import device_for
    from nemo.backends.pytorch.machine import free_memory

    memory = free_memory(device_for(None))
    trial = try_in_process(options, memory)
    if trial is not None:
        return trial
    smaller = _half_the_batch(options)
    while smaller is not None and (trial := try_in_process(smaller, memory)) is None:
        smaller = _half_the_batch(smaller)
    fix = "use a smaller model (--size): no batch is small enough"
    if smaller is not None and trial is not None:
        name = "batch_size" if smaller.tokens_per_batch is None else "tokens_per_batch"
        fix = (
            f"--{name} {getattr(smaller, name)} --batches_per_step {smaller.batches_per_step} gives the same "
            f"steps in {trial.peak_bytes / 1e9:.1f} GB"
        )
    raise MemoryShortageError("too little memory for this run", found=f"{memory / 1e9:.1f} GB free", fix=fix)


def _half_the_batch(options: PretrainingOptions) -> PretrainingOptions | None:
    """The same steps in twice as many micro-batches of half the size; None if they cannot be smaller."""
    twice = 2 * options.batches_per_step
    if options.tokens_per_batch is None:
        if options.batch_size < 2:
            return None
        return dataclasses.replace(options, batch_size=options.batch_size // 2, batches_per_step=twice)
    half = options.tokens_per_batch // 2
    if half < options.max_seq_length:
        return None
    return dataclasses.replace(options, tokens_per_batch=half, batches_per_step=twice)


def try_in_process(options: PretrainingOptions, memory: int | None) -> "Trial | None":
    """Run a trial in a separate process; return None if there is too little memory.

    Args:
        memory: limit in bytes; None means no limit.

    Raises:
        NemoError: the error that the run would raise.
    """
    from nemo.collections.nlp.recipe.trial import Trial

    with tempfile.TemporaryDirectory() as folder:
        request = {
            "options": as_config(dataclasses.replace(options, work_dir=folder)),
            "began": time.monotonic(),
            "memory": memory,
            "seconds": TRIAL_SECONDS,
        }
        done = subprocess.run(
            [sys.executable, "-m", "nemo.cli.trial_process"],
            input=json.dumps(request),
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode == 0:
        return Trial(**json.loads(done.stdout.splitlines()[-1]))
    if done.returncode < 0 or _NO_MEMORY in done.stderr:  # killed, probably by the kernel's OOM killer
        return None
    last = done.stderr.splitlines()[-1] if done.stderr else f"error[INTERNAL] exit code {done.returncode}"
    kind, _, what = last.removeprefix("error[").partition("] ")
    kinds = {error.kind: error for error in NemoError.__subclasses__()}
    raise kinds.get(kind, NemoError)(f"the trial failed: {what or last}")


def _print(trial: "Trial", found: "Estimate") -> None:
    from nemo.cli.terminal import make_console, print_labeled
    from nemo.utils.stopwatch import duration

    loss = "unknown: no record of a similar run"
    if found.expected_loss is not None:
        loss = f"about {found.expected_loss:.2f}; the unigram entropy is {trial.unigram_entropy:.2f}"
    evaluations = f"{found.evaluations} evaluations of {trial.evaluation_seconds:.1f} s"
    passes = f"{found.tokens:,} tokens, {found.passes:.1f} passes over the text"
    checkpoints = f"{found.disk_bytes / 1e6:,.0f} MB of checkpoints, {trial.checkpoint_bytes / 1e6:,.0f} each"
    rows = {
        "weights": f"{trial.weights:,}; {trial.vocabulary:,} vocabulary entries",
        "memory": f"{trial.peak_bytes / 1e9:.2f} GB peak",
        "time": f"{duration(found.seconds)}: {trial.step_seconds:.3g} s per step, {evaluations}",
        "steps": f"{found.steps:,}, each of {trial.step_tokens:,.0f} tokens: {passes}",
        "padding": f"{trial.padding_share:.0%} of each batch, which is not computed",
        "disk": checkpoints,
        "held-out loss": loss,
    }
    console = make_console()
    console.print()
    for label, value in rows.items():
        print_labeled(console, label, value)

"""`nemo-bert COMMAND`: runs a command, and turns errors into one line and an exit code.

Heavy imports wait until a command runs, so `--help` is fast.
"""

import atexit
import gc
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from types import ModuleType
from typing import NoReturn

from nemo import __version__
from nemo.cli.streams import open_standard_descriptors, tolerant_streams, use_utf8
from nemo.utils.errors import Preempted, UsageError
from nemo.utils.failures import as_error
from nemo.utils.logging import logging
from nemo.utils.lookup import closest
from nemo.utils.progress import shown_to_people
from nemo.utils.stopping import Stop, stops_are_errors

COMMANDS = {
    "demo": "train, evaluate and export a small BERT, offline, in a few minutes",
    "prepare": "turn text of any size into a token store and HDF5 shards for pretraining",
    "pretrain": "train a BERT on your text, or resume a run",
    "estimate": "estimate memory, time, steps and disk of a run before you start it",
    "inspect": "show statistics of text or prepared data before you train on it",
    "show-batch": "show a few samples as the model sees them, with their masks",
    "tokenizer": "train a SentencePiece or WordPiece vocabulary",
    "evaluate": "compute loss, accuracy and perplexity of a checkpoint on held-out data",
    "adapt": "adapt a BERT to your field, and measure the gain on a task",
    "extend-vocab": "add the words of your field to the vocabulary of a BERT",
    "finetune": "fine-tune a BERT to label words, texts or pairs of texts",
    "fill-mask": "predict the [MASK] in a sentence",
    "report": "write an HTML page on a run, or on several side by side",
    "export": "write a checkpoint as a Hugging Face folder",
    "cache": "list or clear the user's cache folder",
    "completion": "print a completion script for bash, zsh or fish",
}
SPINS = "1000"
"""A waiting thread checks this many times for work, which takes some microseconds, before it sleeps; see
benchmarks/records/2026-11-30_waiting_threads."""


def usage() -> str:
    """The text of `nemo-bert --help`."""
    lines = [f"  {name:<12} {text}" for name, text in COMMANDS.items()]
    return "\n".join(
        [
            "usage: nemo-bert COMMAND [options]",
            "",
            "Pretrain your own BERT.",
            "",
            "commands:",
            *lines,
            "",
            "nemo-bert COMMAND --help lists the options of a command; --debug shows an error's traceback,",
            "--version the version.",
        ]
    )


def run(argv: Sequence[str]) -> None:
    """Run a command line; `argv` begins with the command.

    Raises:
        UsageError: there is no such command; the message suggests the closest one.
        NemoError: the command failed.
    """
    if not argv or argv[0] in ("-h", "--help"):
        sys.stdout.write(usage() + "\n")
        return
    if argv[0] == "--version":
        sys.stdout.write(f"nemo-bert {__version__}\n")
        return
    command, *rest = argv
    if command not in COMMANDS:
        near = closest(command, COMMANDS)
        raise UsageError(
            "unknown command",
            where="nemo-bert",
            found=repr(command),
            expected=f"one of {', '.join(COMMANDS)}",
            fix=f"did you mean {near}?" if near else "",
        )
    module_of(command).run(rest)


def module_of(command: str) -> ModuleType:
    """The module of a command, which has a `COMMAND_LINE` and a `run`."""
    return importlib.import_module(f"nemo.cli.{command.replace('-', '_')}")


def main(argv: Sequence[str] | None = None, command: Callable[[Sequence[str]], None] = run) -> int:
    """Run a command line, and return its exit code.

    Args:
        argv: the arguments; default: those of this process.
        command: the function to run; examples that are programs themselves pass their own.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    with tolerant_streams() as check_output:
        is_debugging = "--debug" in argv

        def run_to_its_end() -> None:
            with nullcontext() if is_debugging else logging.for_people(), shown_to_people():
                command([word for word in argv if word != "--debug"])
            check_output()

        return _exit_code(run_to_its_end, is_debugging)


def _exit_code(run: Callable[[], None], debug: bool) -> int:
    """Call `run` and return the exit code; print errors to stderr."""
    try:
        with stops_are_errors():
            run()
    except Exception as problem:
        if debug:
            traceback.print_exc()
        error = as_error(problem)
        if not (error.is_of_all and int(os.environ.get("RANK", "0")) > 0):  # rank 0 reports it
            sys.stderr.write(f"error[{error.kind}] {error}\n")
        return error.exit_code
    except Stop as stopped:  # it arrived while the handlers were being restored
        sys.stderr.write(f"error[{Stop.kind}] {stopped}; fix: run the same command again to resume\n")
        return Preempted.exit_code
    except SystemExit as stop:  # argparse has printed its help
        return int(stop.code or 0)
    except KeyboardInterrupt:
        sys.stderr.write("error[INTERRUPTED] stopped; run the same command again to resume\n")
        return 130
    return 0


def program(argv: Sequence[str] | None = None, command: Callable[[Sequence[str]], None] = run) -> NoReturn:
    """Run `main` and exit the process; signals are ignored while it exits."""
    use_utf8()
    open_standard_descriptors()
    _let_waiting_threads_sleep()
    code = main(argv, command)
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        _exit_at_once(code)
    gc.freeze()  # or the interpreter looks for garbage once more: with torch loaded, a second or more
    sys.exit(code)


def _exit_at_once(code: int) -> NoReturn:
    """Exit without taking the interpreter down, which aborts now and then while gloo's threads run.

    They end with the last reference to the process group, and torch's DTensor keeps some in its caches.
    """
    atexit._run_exitfuncs()
    with suppress(OSError, ValueError):  # a reader that has gone
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def _let_waiting_threads_sleep() -> None:
    """Make torch's waiting threads sleep after a short spin, unless the environment configures OpenMP itself.

    By default they spin for milliseconds on cores that other work needs, so two runs side by side stall. It
    has to be said before torch is loaded.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)


if __name__ == "__main__":
    program()

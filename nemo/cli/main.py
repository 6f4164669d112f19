"""`nemo-bert COMMAND`: finds the command, and turns errors into one line and an exit code.

Nothing heavy is imported before a command really runs, so `--help` is quick.
"""

import importlib
import sys
import traceback
from collections.abc import Callable, Sequence

from nemo.utils.errors import NemoError, UsageError
from nemo.utils.lookup import closest

COMMANDS = {
    "demo": "from nothing to a trained, measured, exported BERT, offline, in a few minutes",
    "prepare": "turn text of any size into a token store and HDF5 shards to pretrain on",
    "pretrain": "train a BERT on your text, or go on with an earlier run",
    "inspect": "what is in a text, or in what was prepared from it, before a night of training",
    "show-batch": "a few samples as a model gets them: words, masks and what they hide",
    "tokenizer": "train a SentencePiece or WordPiece vocabulary",
    "evaluate": "held-out loss, accuracy and perplexity of a checkpoint",
    "fill-mask": "let a checkpoint guess the [MASK] in a sentence",
    "export": "write a checkpoint as a Hugging Face folder",
}


def usage() -> str:
    """What `nemo-bert --help` prints."""
    lines = [f"  {name:<10} {text}" for name, text in COMMANDS.items()]
    return "\n".join(
        [
            "usage: nemo-bert COMMAND [options]",
            "",
            "Pretrain a BERT of your own.",
            "",
            "commands:",
            *lines,
            "",
            "nemo-bert COMMAND --help lists a command's options; --debug shows an error's traceback.",
        ]
    )


def run(argv: Sequence[str]) -> None:
    """Run one command line, without the command's name in front.

    Raises:
        UsageError: no such command (the closest one is named); whatever the command raises.
    """
    if not argv or argv[0] in ("-h", "--help"):
        sys.stdout.write(usage() + "\n")
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
    importlib.import_module(f"nemo.cli.{command.replace('-', '_')}").run(rest)


def main(argv: Sequence[str] | None = None, command: Callable[[Sequence[str]], None] = run) -> int:
    """Run a command line; returns its exit code.

    Args:
        argv: its words; default: those of this process.
        command: what to run with them; the examples that are programs of their own have another.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in argv
    try:
        command([word for word in argv if word != "--debug"])
    except NemoError as problem:
        if debug:
            traceback.print_exc()
        sys.stderr.write(f"error[{problem.code}] {problem}\n")
        return problem.exit_code
    except PermissionError as problem:  # of a file of the user's; what we write is a StorageError
        if debug:
            traceback.print_exc()
        sys.stderr.write(f"error[DATA] {problem.filename}: cannot be read; fix: change its permissions\n")
        return 3
    except Exception as problem:
        if debug:
            traceback.print_exc()
        told = f"{type(problem).__name__}: {str(problem).splitlines()[0] if str(problem) else ''}"
        sys.stderr.write(f"error[INTERNAL] a fault of ours: {told}; fix: report it with what --debug shows\n")
        return 1
    except SystemExit as stop:  # argparse has printed its help
        return int(stop.code or 0)
    except KeyboardInterrupt:
        sys.stderr.write("error[INTERRUPTED] stopped; run the same command again to go on\n")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

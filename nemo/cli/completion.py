"""`nemo-bert completion SHELL`: a shell script that completes commands, options and their values."""

import argparse
import dataclasses
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nemo.utils.arguments import CommandLine, check, option
from nemo.utils.errors import UsageError

SHELLS = ("bash", "zsh", "fish")


@dataclass(frozen=True)
class CompletionOptions:
    """The shell to write a completion script for."""

    shell: str = option("", "bash, zsh or fish", choices=SHELLS)

    def __post_init__(self) -> None:
        if not self.shell:
            raise UsageError("no shell given", expected=f"nemo-bert completion {' | '.join(SHELLS)}")
        check(self)


COMMAND_LINE = CommandLine(
    CompletionOptions,
    "nemo-bert completion",
    "Print a shell script that completes commands, options and their values.",
    positional=("shell",),
    examples="nemo-bert completion bash",
)


def run(argv: Sequence[str]) -> None:
    """Print the script."""
    options = COMMAND_LINE.parse(argv)
    import shtab

    sys.stdout.write(shtab.complete(_parser_of_all_commands(), options.shell) + "\n")


def _parser_of_all_commands() -> argparse.ArgumentParser:
    import shtab

    from nemo.cli.main import COMMANDS, module_of

    parser = argparse.ArgumentParser("nemo-bert")
    parser.add_argument("--version", action="store_true", help="print the version")
    commands = parser.add_subparsers()
    for name, text in COMMANDS.items():
        line: CommandLine[Any] = module_of(name).COMMAND_LINE
        of_command = line.parser()
        fields: dict[str, Mapping[str, Any]] = {
            field.name: field.metadata for field in dataclasses.fields(line.options)
        }
        for action in of_command._actions:
            of_field = fields.get(action.dest, {})
            action.choices = of_field.get("choices")
            if of_field.get("is_path") or action.dest == "config":
                action.complete = shtab.FILE  # type: ignore[attr-defined]
        commands.add_parser(name, help=text, parents=[of_command], add_help=False)
    return parser

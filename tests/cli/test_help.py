"""What `--help` promises."""

import importlib
import shlex

import pytest

from nemo.cli.main import COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_the_examples_of_a_command_are_command_lines_it_takes(command):
    line = importlib.import_module(f"nemo.cli.{command.replace('-', '_')}").COMMAND_LINE

    examples = line.examples.splitlines()

    assert examples
    for example in examples:
        words = shlex.split(example)
        assert words[:2] == ["nemo-bert", command]
        line.parse(words[2:])


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_explained(command):
    line = importlib.import_module(f"nemo.cli.{command.replace('-', '_')}").COMMAND_LINE

    assert all(action.help for action in line.parser()._actions)

"""What `--help` promises."""

import importlib
import re
import shlex

import pytest

from nemo.cli.main import COMMANDS, main, module_of


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


@pytest.mark.parametrize("command", COMMANDS)
def test_the_value_of_an_option_has_a_name_that_says_what_it_is(command):
    line = importlib.import_module(f"nemo.cli.{command.replace('-', '_')}").COMMAND_LINE

    unnamed = [a.option_strings for a in line.parser()._actions if a.metavar in ("N", "TEXT")]

    assert unnamed == []


@pytest.mark.parametrize("command", COMMANDS)
def test_a_default_is_in_brackets_at_the_end(command):
    line = importlib.import_module(f"nemo.cli.{command.replace('-', '_')}").COMMAND_LINE

    helps = [action.help for action in line.parser()._actions if "default:" in action.help]

    assert [text for text in helps if not re.search(r" \((one of [^;]*; )?default: .*\)$", text)] == []


def test_a_required_option_is_in_the_usage():
    usage = {name: module_of(name).COMMAND_LINE.parser().format_usage() for name in ("evaluate", "finetune")}

    assert usage["evaluate"] == "usage: nemo-bert evaluate [options] --eval_data PATH model\n"
    assert usage["finetune"] == "usage: nemo-bert finetune [options] --train FILE model\n"


@pytest.mark.parametrize("option", ["--train_data", "--data_dir", "--max_predictions_per_seq"])
def test_the_demo_has_no_option_for_other_data(option, capsys):
    assert main(["demo", option, "1"]) == 2
    assert f"unknown option; found '{option}'" in capsys.readouterr().err


@pytest.mark.parametrize(("command", "default"), [("demo", ""), ("pretrain", "; with data_text: 768")])
def test_a_default_that_the_recipe_replaces_is_said_so(command, default):
    helps = {action.dest: action.help for action in module_of(command).COMMAND_LINE.parser()._actions}

    assert helps["hidden_size"] == f"width of the model (default: chosen for the text{default})"

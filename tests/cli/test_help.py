"""What `--help` promises."""

import dataclasses
import importlib
import re
import shlex

import pytest

from nemo.cli.main import COMMANDS, main, module_of
from nemo.collections.nlp.data.text.sentences import SPLITTERS


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


@pytest.mark.parametrize(
    "option",
    ["--train_data", "--eval_data", "--max_predictions_per_seq", "--text_format", "--gradient_predivide"],
)
def test_the_demo_has_no_option_for_other_data(option, capsys):
    assert main(["demo", option, "1"]) == 2
    assert f"unknown option; found '{option}'" in capsys.readouterr().err


@pytest.mark.parametrize(("command", "default"), [("demo", ""), ("pretrain", "; with data_text: 768")])
def test_a_default_that_the_recipe_replaces_is_said_so(command, default):
    helps = {action.dest: action.help for action in module_of(command).COMMAND_LINE.parser()._actions}

    assert helps["hidden_size"] == f"width of the model (default: chosen for the text{default})"


def test_the_help_of_the_demo_speaks_of_no_other_data():
    helps = " ".join(action.help for action in module_of("demo").COMMAND_LINE.parser()._actions)

    for words in (
        "shards",
        "--train_data",
        "data_dir",
        "data_text",
        "text only",
        "stored",
        "old command lines",
    ):
        assert words not in helps


@pytest.mark.parametrize(
    ("command", "options"),
    [("pretrain", ["size", "dry_run"]), ("estimate", ["size"]), ("demo", ["size", "dry_run"])],
)
def test_the_options_of_the_recipe_have_a_heading_of_their_own(command, options):
    sections = module_of(command).COMMAND_LINE.parser().format_help().split("\n\n")

    (recipe,) = [section for section in sections if "  --size NAME" in section]

    assert recipe.startswith("Recipe:\n")
    assert re.findall(r"^  --(\w+)", recipe, re.MULTILINE) == options


@pytest.mark.parametrize(("command", "name"), [("pretrain", "size"), ("completion", "shell")])
def test_the_values_of_an_option_are_listed_once(command, name):
    line = module_of(command).COMMAND_LINE
    (field,) = [field for field in dataclasses.fields(line.options) if field.name == name]
    (text,) = [action.help for action in line.parser()._actions if action.dest == name]

    assert {choice: len(re.findall(rf"\b{choice}\b", text)) for choice in field.metadata["choices"]} == (
        dict.fromkeys(field.metadata["choices"], 1)
    )


def test_the_ways_to_split_sentences_are_explained():
    helps = {action.dest: action.help for action in module_of("pretrain").COMMAND_LINE.parser()._actions}

    assert all(f"{way}: " in helps["sentences"] for way in (*SPLITTERS, "auto"))

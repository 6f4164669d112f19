"""Options: from a dataclass to a command line and a file."""

from dataclasses import dataclass

import pytest

from nemo.utils.arguments import CommandLine, check, option
from nemo.utils.errors import MissingFileError, UsageError


@dataclass(frozen=True)
class Options:
    mode: str = option("slow", "how")
    size: int = option(3, "how many", at_least=1, at_most=10_000_000)
    rate: float = option(0.5, "how fast", above=0, below=1)
    name: str | None = option(None, "what", choices=("cat", "dog"))
    loud: bool = option(False, "say so")
    rank: int | None = option(None, "who", aliases=("--the-rank",))
    animals: tuple[str, ...] = option((), "which")

    def __post_init__(self):
        check(self)


def parsed(*words):
    return CommandLine(Options, "prog", "Does things.", positional=("mode",)).parse(words)


def test_defaults_stand_until_given():
    assert parsed() == Options()
    assert parsed("--size", "7", "--loud", "--name", "dog") == Options(size=7, loud=True, name="dog")


def test_a_positional_may_stand_anywhere():
    assert parsed("--size", "7", "fast", "--loud") == Options(mode="fast", size=7, loud=True)
    assert parsed("fast").mode == "fast"


def test_a_positional_that_is_a_tuple_takes_any_number(tmp_path):
    def animals(*words):
        return CommandLine(Options, "prog", "Does things.", positional=("animals",)).parse(words).animals

    assert animals() == animals("--size", "7") == ()
    assert animals("cat", "--size", "7", "dog", "--loud", "bird") == ("cat", "dog", "bird")
    (tmp_path / "options.yaml").write_text("animals: [cat, dog]")
    assert animals("--config", str(tmp_path / "options.yaml")) == ("cat", "dog")


def test_scientific_notation_is_an_integer_too():
    assert parsed("--size", "1e6").size == 1_000_000


def test_aliases_and_negations():
    assert parsed("--the-rank", "1").rank == 1
    assert parsed("--loud", "--no-loud").loud is False


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--sise", "3"), r"unknown option; found '--sise'.*did you mean --size"),
        (("--size", "0"), "--size: out of range; found 0, expected 1 or more and 10000000 or less"),
        (("--size", "2.5"), "invalid integer value: '2.5'"),
        (("--rate", "1"), "--rate: out of range; found 1.0, expected more than 0 and less than 1"),
        (("--rate", "nan"), "--rate: out of range; found nan, expected a finite number"),
        (("--name", "dgo"), "not one of the choices; found 'dgo', expected cat, dog; fix: did.*'dog'"),
        (("--siz", "3"), "unknown option"),
        (("fast", "faster"), "not an option; found 'faster'"),
        (("--size",), "expected one argument"),
    ],
)
def test_invalid_command_lines_are_refused(words, message):
    with pytest.raises(UsageError, match=message):
        parsed(*words)


def test_a_file_gives_values_and_the_command_line_wins(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("size: 5\nrate: 0.25\nname: null\n")
    assert parsed("--config", str(path), "--size", "6") == Options(size=6, rate=0.25)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("siez: 5", "unknown name; found 'siez'; fix: did you mean 'size'"),
        ("size: many", "size: wrong type of value; found 'many', expected int"),
        ("size: true", "size: wrong type of value; found True, expected int"),
        ("size: null", "size: wrong type of value; found None, expected int"),
        ("size: [", "not YAML"),
        ("- size", "not a configuration"),
        ("size: 0", r"config\.yaml size: out of range; found 0, expected 1 or more"),
        ("name: cow", r"config\.yaml name: not one of the choices; found 'cow', expected cat, dog"),
        ("rate: .nan", r"config\.yaml rate: out of range; found nan, expected a finite number"),
        ("rate: 1e-3", "rate: wrong type of value; found '1e-3', expected float; fix: write 1e-3 as 1.0e-3"),
        ("animals: cat", "animals: wrong type of value; found 'cat', expected list"),
        ("animals: [cat, 3]", r"animals\[1\]: wrong type of value; found 3, expected str"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path, text, message):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        parsed("--config", str(path))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(MissingFileError, match=r"nowhere\.yaml: no such configuration file"):
        parsed("--config", str(tmp_path / "nowhere.yaml"))


def test_help_groups_inherited_options_under_the_docstring_of_their_class():
    @dataclass(frozen=True)
    class Colors:
        """Colors of the thing.

        More words.
        """

        color: str = option("red", "its color", choices=("red", "blue"))
        edge: int | None = option(None, "its edge", default_text="as wide as it is", metavar="MM")
        zero: int = option(0, "its zero")

    @dataclass(frozen=True)
    class Thing(Colors):
        name: str = option("", "its name")

    text = CommandLine(Thing, "prog", "Makes a thing.", examples="prog --color red").parser().format_help()

    own, inherited = text.split("Colors of the thing:\n")
    assert "--name TEXT" in own
    assert "--color NAME" in inherited
    assert "(one of red, blue; default: red)" in inherited
    assert "--edge MM      its edge (default: as wide as it is)" in inherited
    assert "--zero N       its zero (default: 0)" in inherited
    assert text.endswith("examples:\n  prog --color red\n")


def test_help_shows_what_is_required_and_other_defaults():
    line = CommandLine(
        Options, "prog", "", ("mode", "animals"), required=("mode", "name"), defaults={"size": "the usual"}
    )

    text = line.parser().format_help()

    assert text.startswith("usage: prog [options] --name NAME mode [animals ...]\n")
    assert "(one of cat, dog) (required)" in text
    assert "how many (default: the usual)" in text
    assert "how fast (default: 0.5)" in text


@pytest.mark.parametrize("word", ["--rate=--", "--name=--"])
def test_two_dashes_are_not_a_value(word):
    with pytest.raises(UsageError, match=r"^--\w+: missing value; found '--'"):
        parsed(word)

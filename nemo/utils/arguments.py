"""Command line options and a configuration file from one dataclass, in which each option is declared once.

@dataclass(frozen=True)
class Options:
    batch_size: int = option(64, "samples in a batch", at_least=1)

options = CommandLine(Options, "nemo-bert pretrain", "Train a BERT.").parse(["--batch_size", "32"])
"""

import argparse
import dataclasses
import os
import re
import reprlib
import textwrap
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, NoReturn, TypeVar

from nemo.utils.errors import UsageError
from nemo.utils.files import missing
from nemo.utils.lookup import closest
from nemo.utils.option_values import check_value, integer, plain_type, value_in_file
from nemo.utils.strict import read_yaml

T = TypeVar("T")


def option(
    default: Any,
    help: str,
    *,
    choices: Sequence[str] | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    above: float | None = None,
    below: float | None = None,
    aliases: Sequence[str] = (),
    is_path: bool = False,
    not_paths: Sequence[str] = (),
    metavar: str | None = None,
    default_text: str | None = None,
    decides: Literal["model", "samples", "rate", "machine"] | None = None,
    only_for: str | None = None,
    parse: Callable[[str, str], Any] | None = None,
) -> Any:
    """Declare a dataclass field as a command line option.

    Args:
        default: value if the option is not given.
        help: one line; "" for a field that only a configuration file may set.
        choices: the allowed values.
        at_least, at_most, above, below: the range of a number.
        aliases: other spellings, dashes included.
        is_path: the value is a file, folder or address; `~` means the home folder.
        not_paths: values of a path option that are not paths.
        metavar: name of the value in `--help`; default: N for a number, TEXT or PATH.
        default_text: the default in words, if the value does not speak for itself.
        decides: what the option determines. "model": the model; a resumed run must keep it. "samples": the
            samples that the model sees; a resumed run must keep it too. "rate": the learning rate of a step;
            a resumed run may change it, and is warned if the rate jumps. "machine": where the run takes
            place; the result is the same. Default: how the model is trained; a resumed run may change it.
        only_for: the kind of data that the option is for; the dataclass refuses it for other kinds.
        parse: turns the text on the command line or in a configuration file into the value. Its second
            argument is where the text stands, for its UsageError. Default: the constructor of the type.
    """
    metadata = {
        "help": help,
        "choices": choices,
        "bounds": {"at_least": at_least, "at_most": at_most, "above": above, "below": below},
        "aliases": tuple(aliases),
        "is_path": is_path,
        "not_paths": not_paths,
        "metavar": metavar,
        "default_text": default_text,
        "decides": decides,
        "only_for": only_for,
        "parse": parse,
    }
    return dataclasses.field(default=default, metadata=metadata)


def names_of(cls: type) -> list[str]:
    """The options of a dataclass, or of a group of options."""
    return [field.name for field in dataclasses.fields(cls)]


def names_deciding(cls: type, what: str) -> list[str]:
    """The options of a dataclass that were declared with `decides=what`."""
    return [field.name for field in dataclasses.fields(cls) if field.metadata["decides"] == what]


def fields_by_class(cls: type) -> Iterator[tuple[type, list[dataclasses.Field[Any]]]]:
    """Each class that declares fields of `cls`, with these fields: `cls` itself first, then its bases."""
    fields = {field.name: field for field in dataclasses.fields(cls)}
    for base in cls.__mro__:
        names = [name for name in vars(base).get("__annotations__", {}) if name in fields]
        own = [fields.pop(name) for name in names]
        if own:
            yield base, own


def check(options: Any) -> None:
    """Check every option of a dataclass against its choices and range; call it in `__post_init__`.

    Raises:
        UsageError: a value is empty, not one of the choices, or out of range.
    """
    for field in dataclasses.fields(options):
        check_value(field, getattr(options, field.name), f"--{field.name}")


def _on_paths(cls: type, values: Mapping[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
    """`values`, with `change` applied to the options of `cls` that are paths."""
    changed = dict(values)
    for field in dataclasses.fields(cls):
        value = values.get(field.name)
        if not value or not field.metadata.get("is_path") or value in field.metadata["not_paths"]:
            continue
        several = isinstance(value, tuple)
        changed[field.name] = tuple(map(change, value)) if several else change(value)
    return changed


def as_config(options: Any) -> dict[str, Any]:
    """The options by name, for a configuration file that is valid from any folder.

    Existing paths become absolute; others stay, as they may be names or addresses.
    """
    values = {
        field.name: getattr(options, field.name)
        for _, fields in fields_by_class(type(options))
        for field in fields
    }
    return _on_paths(type(options), values, absolute)


def _usable_path(path: str) -> str:
    """Expand `~`. Raises a UsageError for a name that is not valid UTF-8."""
    try:
        path.encode()
    except UnicodeEncodeError:
        raise UsageError("the name is not valid UTF-8", where=path, fix="rename it") from None
    return os.path.expanduser(path)


def absolute(path: str) -> str:
    """`path` as an absolute path if it exists, else unchanged."""
    return os.path.abspath(path) if os.path.exists(path) else path


class _Parser(argparse.ArgumentParser):
    """Raises a UsageError on wrong arguments instead of exiting."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, where=self.prog, fix=f"see {self.prog} --help")


def default_in_words(field: dataclasses.Field[Any]) -> str:
    """The default for `--help`; "" if there is none."""
    if field.metadata["default_text"]:
        return field.metadata["default_text"]
    if isinstance(field.default, bool):
        return "on" if field.default else ""
    if isinstance(field.default, float):
        return f"{field.default:g}"
    return "" if field.default in (None, "", (), dataclasses.MISSING) else str(field.default)


def _help_of(field: dataclasses.Field[Any], text: str, default: str) -> str:
    """The help text, followed by the choices, unless it names all of them, and the default."""
    choices = field.metadata["choices"] or ()
    is_named = [re.search(rf"(?<!\w){re.escape(choice)}(?!\w)", text) for choice in choices]
    notes = [] if all(is_named) else [f"one of {', '.join(choices)}"]
    if default:
        notes.append(f"default: {default}")
    return (text + (f" ({'; '.join(notes)})" if notes else "")).replace("%", "%%")


def _metavar(field: dataclasses.Field[Any], kind: type) -> str:
    usual = "PATH" if field.metadata["is_path"] else _METAVARS[kind]
    return field.metadata["metavar"] or ("NAME" if field.metadata["choices"] else usual)


def _add_option(group: Any, field: dataclasses.Field[Any], kind: type, help: str) -> None:
    metadata = field.metadata
    more: dict[str, Any] = {"dest": field.name, "default": argparse.SUPPRESS, "help": help}
    if kind is bool:
        more |= {"action": argparse.BooleanOptionalAction}
    elif kind is tuple:
        more |= {"action": "append", "metavar": _metavar(field, kind)}
    else:
        from_text = integer if kind is int else str if metadata["parse"] else kind
        more |= {"type": from_text, "metavar": _metavar(field, kind)}
    group.add_argument(f"--{field.name}", *metadata["aliases"], **more)


_METAVARS = {int: "N", float: "N", str: "TEXT", tuple: "NAME"}


@dataclass(frozen=True)
class CommandLine(Generic[T]):
    """Parses the arguments of a command into a dataclass of options.

    Args:
        options: a dataclass of `option`s. If it has an attribute `given`, this is set to the names given on
            the command line, and `given_in_file` to those in the configuration file; a default that is given
            explicitly counts.
        prog, description: for `--help`.
        examples: command lines for the end of `--help`, one per line.
        positional: fields given without `--name`, anywhere among the options; a tuple takes any number of
            arguments.
        required: fields that must be given, for `--help`; None means the positional ones.
        defaults: name -> the default in words, for `--help`, where it differs from the field's.
        helps: name -> the help text, where it differs from the field's; "" for an option that the command
            does not have.
    """

    options: type[T]
    prog: str
    description: str
    positional: Sequence[str] = ()
    examples: str = ""
    required: Sequence[str] | None = None
    defaults: Mapping[str, str] = dataclasses.field(default_factory=dict)
    helps: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def parser(self) -> argparse.ArgumentParser:
        cls, hints = self.options, typing.get_type_hints(self.options)
        kinds = {name: plain_type(hint) for name, hint in hints.items()}
        required = self.positional if self.required is None else self.required
        parser = _Parser(
            prog=self.prog,
            usage=self._usage(kinds, required),
            description=textwrap.fill(self.description, 78),
            epilog=f"examples:\n{textwrap.indent(self.examples, '  ')}" if self.examples else None,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        for declared_in, fields in fields_by_class(cls):
            helps = {field.name: self.helps.get(field.name, field.metadata["help"]) for field in fields}
            shown = [field for field in fields if helps[field.name]]
            # Each base class is a group of options; its docstring is the heading.
            heading = (declared_in.__doc__ or "").strip().split("\n")[0].rstrip(".")
            group = parser if declared_in is cls or not shown else parser.add_argument_group(heading)
            for field in shown:
                name, kind = field.name, kinds[field.name]
                help = _help_of(field, helps[name], self.defaults.get(name, default_in_words(field)))
                if name in self.positional:
                    nargs = "*" if kind is tuple else "?"  # it may also be in a configuration file
                    parser.add_argument(name, nargs=nargs, default=argparse.SUPPRESS, help=help)
                else:
                    _add_option(group, field, kind, help + " (required)" * (name in required))
        parser.add_argument(
            "--config",
            metavar="FILE",
            help="YAML file with values for these options; options on the command line win",
        )
        return parser

    def _usage(self, kinds: Mapping[str, type], required: Sequence[str]) -> str:
        """The first line of `--help`; in brackets what may be left out."""
        words = [self.prog, "[options]"]
        for field in dataclasses.fields(self.options):  # type: ignore[arg-type]
            if field.name in required and field.name not in self.positional:
                words.append(f"--{field.name} {_metavar(field, kinds[field.name])}")
        for name in self.positional:
            word = f"{name} ..." if kinds[name] is tuple else name
            words.append(word if name in required else f"[{word}]")
        return " ".join(words)

    def parse(self, argv: Sequence[str]) -> T:
        """The options that `argv` describes.

        Raises:
            UsageError: an unknown option (the closest one is suggested), or an invalid value.
        """
        parser = self.parser()
        for word in argv:
            if word.startswith("--") and word.endswith("=--"):  # argparse would return an empty list
                raise UsageError("missing value", where=word.removesuffix("=--"), found="'--'")
        given, rest = parser.parse_known_intermixed_args(list(argv))
        if rest:
            known = [name for action in parser._actions for name in action.option_strings]
            word = next((w for w in rest if w.startswith("-")), rest[0]).partition("=")[0]
            near = closest(word, known)
            raise UsageError(
                "unknown option" if word.startswith("-") else "not an option",
                where=self.prog,
                found=repr(word),
                expected=f"an option of {self.prog} --help",
                fix=f"did you mean {near}?" if near else "",
            )
        config = vars(given).pop("config", None)
        parsers = {field.name: field.metadata["parse"] for field in dataclasses.fields(self.options)}  # type: ignore[arg-type]
        values = {name: tuple(v) if isinstance(v, list) else v for name, v in vars(given).items()}
        values |= {name: parsers[name](text, f"--{name}") for name, text in values.items() if parsers[name]}
        in_file = read_options(self.options, os.path.expanduser(config)) if config else {}
        options = self.options(**_on_paths(self.options, {**in_file, **values}, _usable_path))
        if hasattr(options, "given"):
            object.__setattr__(options, "given", frozenset(values))  # options are frozen
            object.__setattr__(options, "given_in_file", frozenset(in_file))
        return options


def read_options(cls: type, path: str | Path) -> dict[str, Any]:
    """Read values for the fields of `cls` from a YAML file.

    Raises:
        MissingFileError: there is no such file.
        UsageError: not YAML, an unknown name, or a value of the wrong type or out of range.
    """
    path = Path(path)
    if not path.is_file():
        raise missing(path, "options, a `name: value` per line", problem="no such configuration file")
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise UsageError("not a configuration", where=path, expected="one `name: value` per line")
    all_hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}
    hints = {name: all_hints[name] for name in fields}
    for name, value in values.items():
        if name not in hints:
            near = closest(str(name), hints)
            raise UsageError(
                "unknown name",
                where=path,
                found=reprlib.repr(name),
                fix=f"did you mean {near!r}?" if near else "",
            )
        values[name] = value_in_file(fields[name], hints[name], value, f"{path} {name}")
    return values

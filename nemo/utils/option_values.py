"""The value of one option: from the command line or a configuration file, and whether it is allowed."""

import dataclasses
import math
import reprlib
import types
import typing
from typing import Any

from nemo.utils.errors import UsageError
from nemo.utils.lookup import closest

_IN_RANGE = {
    "at_least": (lambda value, bound: value >= bound, "{} or more"),
    "at_most": (lambda value, bound: value <= bound, "{} or less"),
    "above": (lambda value, bound: value > bound, "more than {}"),
    "below": (lambda value, bound: value < bound, "less than {}"),
}


def integer(text: str) -> int:
    """Parse an int, also in the form "1e7". Raises ValueError."""
    number = float(text)  # int() rejects "1e7"
    if not number.is_integer():
        raise ValueError(text)
    return int(text) if text.lstrip("+-").isdigit() else int(number)


def plain_type(annotation: Any) -> type:
    """The type of an annotation, without `| None` and type arguments."""
    origin = typing.get_origin(annotation)
    if origin in (types.UnionType, typing.Union):
        return next(arg for arg in typing.get_args(annotation) if arg is not type(None))
    return origin or annotation


def check_value(field: dataclasses.Field[Any], value: Any, where: str) -> None:
    """Check the value of an option against its choices and range.

    Raises:
        UsageError: it is empty, not one of the choices, or out of range; `where` says where it was given.
    """
    if value is None or "help" not in field.metadata:
        return
    if value == "" and field.default != "":
        raise UsageError("empty value", where=where, fix="omit the option, or give a value")
    choices = field.metadata["choices"]
    for chosen in value if isinstance(value, tuple) else (value,):
        if choices and chosen not in choices:
            near = closest(str(chosen), choices)
            raise UsageError(
                "not one of the choices",
                where=where,
                found=repr(chosen),
                expected=", ".join(choices),
                fix=f"did you mean {near!r}?" if near else "",
            )
    if isinstance(value, float) and not math.isfinite(value):
        raise UsageError("out of range", where=where, found=value, expected="a finite number")
    limits = {n: b for n, b in field.metadata["bounds"].items() if b is not None}
    if not all(_IN_RANGE[name][0](value, bound) for name, bound in limits.items()):
        allowed = " and ".join(_IN_RANGE[name][1].format(b) for name, b in limits.items())
        raise UsageError("out of range", where=where, found=value, expected=allowed)


def value_in_file(field: dataclasses.Field[Any], hint: Any, value: Any, where: str) -> Any:
    """The value of an option in a configuration file, converted and checked.

    Args:
        hint: the type of the field.
        where: the file and the name, for the error.

    Raises:
        UsageError: a value of the wrong type, or one that is not allowed.
    """
    kind, parse = plain_type(hint), field.metadata["parse"]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if parse is not None and (is_number or isinstance(value, str)):
        return parse(str(value), where)
    if kind is float and is_number:
        value = float(value)
    elif kind is tuple and isinstance(value, list):
        for i, item in enumerate(value):
            _check_type(item, str, f"{where}[{i}]")
        value = tuple(value)
    if value is not None or type(None) not in typing.get_args(hint):
        _check_type(value, kind, where)
    check_value(field, value, where)
    return value


def _check_type(value: Any, kind: type, where: str) -> None:
    if isinstance(value, kind) and isinstance(value, bool) == (kind is bool):
        return
    raise UsageError(
        "wrong type of value",
        where=where,
        found=type(value).__name__ if isinstance(value, list | dict) else reprlib.repr(value),
        expected="list" if kind is tuple else kind.__name__,
        fix="write 1e-3 as 1.0e-3, without quotes" if kind is float and isinstance(value, str) else "",
    )

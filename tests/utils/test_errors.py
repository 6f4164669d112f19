"""Errors tell the whole story in one line."""

import pytest

from nemo.utils import errors


def test_the_text_names_place_problem_comparison_and_fix():
    error = errors.DataError(
        "not a number", where="a.txt:3", found="'x'", expected="0..9", fix="remove the letter"
    )
    assert str(error) == "a.txt:3: not a number; found 'x', expected 0..9; fix: remove the letter"
    assert str(errors.UsageError("no")) == "no"


def test_control_characters_of_a_users_text_never_reach_the_terminal():
    assert "\x1b" not in str(errors.DataError("bad", found="\x1b[31mred\n"))


@pytest.mark.parametrize(
    ("kind", "builtin", "exit_code"),
    [
        (errors.UsageError, ValueError, 2),
        (errors.DataError, ValueError, 3),
        (errors.MissingFileError, FileNotFoundError, 3),
        (errors.CheckpointError, ValueError, 4),
        (errors.StorageError, OSError, 5),
        (errors.NumericError, ArithmeticError, 6),
        (errors.DistributedError, RuntimeError, 7),
        (errors.BusyError, RuntimeError, 8),
    ],
)
def test_each_kind_has_an_exit_code_and_a_python_base_class(kind, builtin, exit_code):
    error = kind("problem", where="here")
    assert isinstance(error, builtin)
    assert (error.exit_code, str(error)) == (exit_code, "here: problem")


@pytest.mark.parametrize(
    ("told", "line"),
    [
        (
            "could not open it: one of\n(1) a file,\n(2) a folder.\n",
            "could not open it: one of (1) a file, (2) a folder",
        ),
        ("\n\nlate\n", "late"),
        ("", "RuntimeError"),
        (
            "no route to host\nException raised from connect at TCPStore.cpp:1\nframe #0: c10",
            "no route to host",
        ),
        ("long " * 200, f"{('long ' * 200)[:400]} ..."),
    ],
)
def test_the_reason_of_a_librarys_error_is_one_line(told, line):
    assert errors.reason(RuntimeError(told)) == line

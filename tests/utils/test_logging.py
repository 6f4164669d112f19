"""The logger: format, streams and levels."""

import io
import re
import sys

import pytest

from nemo.core import NeuralModuleFactory
from nemo.utils import logging, logging_mode


def test_info_goes_to_stdout_and_warnings_to_stderr(capsys):
    logging.info("all is %s", "well")
    logging.warning("look out")
    out, err = capsys.readouterr()
    assert re.fullmatch(r"\[NeMo I \d{4}-\d\d-\d\d \d\d:\d\d:\d\d test_logging:\d+\] all is well\n", out)
    assert re.fullmatch(r"\[NeMo W .* test_logging:\d+\] look out\n", err)


def test_once_is_once(capsys):
    for _ in range(3):
        logging.info("only once in a test run", mode=logging_mode.ONCE)
    assert capsys.readouterr().out.count("only once") == 1


def test_verbosity_can_change_for_a_while(capsys):
    with logging.temp_verbosity("ERROR"):
        logging.warning("hidden")
    logging.warning("shown")
    assert "hidden" not in (err := capsys.readouterr().err)
    assert "shown" in err


def test_errors_can_be_sent_elsewhere_for_a_while(capsys):
    with logging.patch_stderr_handler(io.StringIO()) as stream:
        logging.error("over here")
    assert "over here" in stream.getvalue()
    assert capsys.readouterr().err == ""


def test_a_file_can_be_logged_to(tmp_path):
    handler = logging.add_file_handler(tmp_path / "log.txt")
    logging.info("to the file")
    logging.remove_handler(handler)
    logging.info("no longer")
    text = (tmp_path / "log.txt").read_text()
    assert "to the file" in text
    assert "no longer" not in text


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("steps per epoch", 12), "steps per epoch 12"),
        (("100 % of it", 3, "x"), "100 % of it 3 x"),
        (("%d steps", "many"), "%d steps many"),
        (("%d of %d", 1), "%d of %d 1"),
        (("%(step)d steps", {"step": 5}), "5 steps"),
        (("no %(name)s", {"step": 5}), "no %(name)s {'step': 5}"),
        ((7, 8), "7 8"),
        (("100 %",), "100 %"),
    ],
)
def test_whatever_is_logged_is_one_line(capsys, words, line):
    logging.info(*words)
    out, err = capsys.readouterr()
    assert out.endswith(f"] {line}\n") and out.count("\n") == 1
    assert err == ""


def test_an_exception_can_be_logged_with_its_traceback(capsys):
    try:
        raise ValueError("a bad number")
    except ValueError:
        logging.error("it failed", exc_info=True)
    err = capsys.readouterr().err
    assert "] it failed\nTraceback" in err and err.endswith("ValueError: a bad number\n")


def test_the_factory_still_has_a_logger():
    assert NeuralModuleFactory().logger is logging


def test_verbosity_has_two_names():
    before = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    assert logging.getEffectiveLevel() == logging.ERROR
    logging.set_verbosity(before)


def test_a_terminal_that_knows_ascii_alone_gets_codes(capsys, monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), "ascii")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        logging.info("Привет")
        patch.setattr(sys, "stdout", None)  # which nobody has opened
        logging.info("to nobody")
    stream.flush()
    assert stream.buffer.getvalue().endswith(rb"] \u041f\u0440\u0438\u0432\u0435\u0442" + b"\n")
    assert capsys.readouterr() == ("", "")

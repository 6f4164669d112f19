"""What goes on is shown to people: a live display on a terminal, lines in a pipe, nothing in a library."""

import io
import os
import sys
import threading
import time

import pytest

from nemo.utils import progress
from nemo.utils.logging import logging
from nemo.utils.progress import counted, shown_to_people, working
from tests.conftest import PATIENCE


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    """A terminal; the streams are it from `open` on, as between fixtures and tests pytest changes them."""
    stream = Terminal()

    def open_terminal():
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setattr(sys, "stderr", stream)

    stream.open = open_terminal
    monkeypatch.setenv("TERM", "xterm")
    return stream


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    """No test waits for what people wait for."""
    monkeypatch.setattr(progress, "TICK", 0.01)
    monkeypatch.setattr(progress, "SHOWN_AFTER", 0.0)


def wait_for(stream, text):
    """Until it is written; a test that fails waits for long."""
    for _ in range(3000):
        if text in stream.getvalue():
            return
        time.sleep(0.01)
    raise AssertionError(stream.getvalue())


def test_without_a_command_nothing_is_shown(terminal):
    terminal.open()
    with working("thinking"):
        time.sleep(0.05)
    assert terminal.getvalue() == ""


def test_a_terminal_shows_what_is_done_and_how_much_of_it(terminal):
    terminal.open()
    with shown_to_people(), working("reading", 2, "pages") as work:
        for _ in counted("ab", work):
            wait_for(terminal, f"reading, {work.done:.0f} of 2 pages")


def test_lines_of_the_log_stay_above_the_display(terminal):
    terminal.open()
    with shown_to_people(), working("reading"):
        wait_for(terminal, "reading")
        sys.stdout.write("a line\n")
        after = len(terminal.getvalue())
        for _ in range(3000):
            if "reading" in terminal.getvalue()[after:]:  # it is drawn again below
                break
            time.sleep(0.01)
    assert "a line\n" in terminal.getvalue()
    assert "reading" in terminal.getvalue()[after:]


def test_the_streams_are_given_back_when_nothing_goes_on(terminal):
    terminal.open()
    with shown_to_people():
        with working("reading"):
            wait_for(terminal, "reading")
            assert sys.stdout is not terminal
        assert sys.stdout is terminal
        assert "\x1b[?25h" in terminal.getvalue()  # the cursor, too


def test_a_pipe_gets_a_line_after_a_silence_and_then_fewer(capsys):
    with shown_to_people(), working("reading", silence=0.02) as work:
        for _ in range(3000):
            if work.silence > 0.1:
                break
            time.sleep(0.01)
    lines = [line for line in capsys.readouterr().out.splitlines() if "reading, " in line]
    assert len(lines) == 3  # 0.02, 0.04, 0.08


def test_recent_log_lines_postpone_the_progress_line(capsys):
    with shown_to_people(), working("reading", silence=3600):
        logging.info("something")
        time.sleep(0.1)
    assert "reading" not in capsys.readouterr().out


def test_the_progress_of_nested_work_is_logged(capsys):
    with shown_to_people(), working("training", silence=3600), working("evaluating", silence=0.02) as part:
        for _ in range(3000):
            if part.silence > 0.02:
                break
            time.sleep(0.01)
    assert "evaluating, " in capsys.readouterr().out


@pytest.mark.parametrize("term", ["dumb", "unknown", None])
def test_a_terminal_that_cannot_move_its_cursor_gets_lines(terminal, monkeypatch, term):
    terminal.open()
    if term is None:
        monkeypatch.delenv("TERM")
    else:
        monkeypatch.setenv("TERM", term)
    with shown_to_people(), working("reading", silence=0.02):
        wait_for(terminal, "reading, 0 s")
    assert "\x1b" not in terminal.getvalue()


def test_no_color_turns_off_colors(terminal, monkeypatch):
    terminal.open()
    monkeypatch.setenv("NO_COLOR", "1")
    with shown_to_people(), working("reading", 3, "pages"):
        wait_for(terminal, "reading")
    assert "\x1b[36m" not in terminal.getvalue() and "\x1b[38" not in terminal.getvalue()


def test_a_child_writes_to_the_terminal_and_not_to_the_display(terminal):
    terminal.open()
    with shown_to_people(), working("reading"):
        wait_for(terminal, "reading")
        reading, writing = os.pipe()
        if (child := os.fork()) == 0:
            is_free = sys.stdout is terminal and progress._display.works == []
            os.write(writing, b"1" if is_free else b"0")
            os._exit(0)
        os.waitpid(child, 0)
        assert os.read(reading, 1) == b"1"
        before = len(terminal.getvalue())
        for _ in range(3000):
            if len(terminal.getvalue()) > before:  # and the display goes on
                break
            time.sleep(0.01)
        assert len(terminal.getvalue()) > before
    os.close(reading)
    os.close(writing)


def test_only_the_first_process_shows_anything(terminal, monkeypatch):
    terminal.open()
    monkeypatch.setenv("RANK", "1")
    with shown_to_people(), working("reading"):
        time.sleep(0.05)
    assert terminal.getvalue() == ""


def test_failed_work_is_removed_from_the_display(terminal):
    terminal.open()
    with pytest.raises(ZeroDivisionError), shown_to_people(), working("dividing"):
        raise ZeroDivisionError
    assert progress._display.works == []


def test_a_command_ends_without_waiting_for_the_next_tick(monkeypatch):
    monkeypatch.setattr(progress, "TICK", 3600)

    def command():
        with shown_to_people(), working("working"):
            pass

    thread = threading.Thread(target=command, daemon=True)
    thread.start()
    thread.join(PATIENCE / 10)
    assert not thread.is_alive()

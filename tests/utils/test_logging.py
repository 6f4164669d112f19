"""The logger: format, streams and levels."""

import io
import re

from nemo.utils.logging import LogMode, logging


def test_info_goes_to_stdout_and_warnings_to_stderr(capsys):
    logging.info("all is %s", "well")
    logging.warning("look out")
    out, err = capsys.readouterr()
    assert re.fullmatch(r"\[NeMo I \d{4}-\d\d-\d\d \d\d:\d\d:\d\d test_logging:\d+\] all is well\n", out)
    assert re.fullmatch(r"\[NeMo W .* test_logging:\d+\] look out\n", err)


def test_once_is_once(capsys):
    for _ in range(3):
        logging.info("only once in a test run", mode=LogMode.ONCE)
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

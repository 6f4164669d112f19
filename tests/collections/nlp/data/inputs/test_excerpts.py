"""The layout of a text is detected from excerpts; a file that fits two layouts is reported."""

import bz2
import gzip
import random

import pytest

from nemo.collections.nlp.data.inputs import TextOptions, read_documents, sources_of
from nemo.collections.nlp.data.inputs.excerpts import EXCERPT_BYTES, HEAD_BYTES
from nemo.collections.nlp.data.inputs.layouts import detect_layout


def paragraph(length: int) -> str:
    return ("Words of a text that goes on. " * (length // 30 + 1))[:length]


def documents(number: int, lines: int, length: int) -> list[str]:
    return ["\n".join([paragraph(length)] * lines)] * number


@pytest.fixture(scope="module")
def mixed() -> bytes:
    """3.4 MB: 1,200 documents of a long line, then 300 of six shorter ones each, parted by blank lines."""
    rng = random.Random(0)
    first = ["x" + paragraph(rng.randrange(1100, 1500)) for _ in range(1200)]
    return "\n\n".join([*first, *documents(300, 6, 1000)]).encode()


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["", ".gz", ".bz2"])
def test_the_beginning_of_a_file_does_not_decide_for_all_of_it(tmp_path, mixed, ending):
    compress = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress}[ending]
    (tmp_path / f"a.txt{ending}").write_bytes(compress(mixed))
    assert mixed.index(b"\n" + b"Words") > HEAD_BYTES
    (source,) = sources_of(tmp_path)
    assert source.layout == "blank"
    assert len(list(read_documents(source))) == 1500


@pytest.mark.parametrize(
    ("lines", "layout"),
    [
        ([*[paragraph(90), ""] * 60, *[paragraph(90), paragraph(80), paragraph(80), ""] * 40], "blank"),
        ([*[paragraph(90), ""] * 60, *[paragraph(90), paragraph(80), ""] * 10], "running"),
        ([paragraph(1500), paragraph(1500), paragraph(1500), ""] * 20, "blank"),  # long paragraphs
        ([*[paragraph(1500)] * 50, ""] * 4, "lines"),  # a blank line now and then is a slip
        ([paragraph(1500)] * 50, "lines"),
        ([paragraph(1500), ""] * 50, "lines"),
    ],
)
def test_blank_lines_part_documents_where_most_lines_are_in_blocks(lines, layout):
    assert detect_layout(lines) == layout


def test_files_of_different_layouts_cause_a_warning(tmp_path, capsys):
    articles = "\n".join([paragraph(2000)] * 1000)
    paragraphs = "\n\n".join(documents(1500, 6, 200))
    (tmp_path / "a.txt").write_text(f"{paragraphs}\n\n{articles}\n")
    assert sources_of(tmp_path)[0].layout == "blank"
    told = capsys.readouterr().err
    assert "read as layout 'blank'" in told and "parts of it look like 'lines'" in told
    assert "--text_layout" in told


def test_files_of_one_layout_are_not(tmp_path, mixed, capsys, shared_data):
    (tmp_path / "a.txt").write_bytes(mixed)
    sources_of([tmp_path, shared_data / "abc_news", shared_data / "wikitext-2"], TextOptions(format="text"))
    assert "parts of it look like" not in capsys.readouterr().err


def test_lines_longer_than_an_excerpt_are_documents(tmp_path):
    (tmp_path / "a.txt").write_bytes((b"x" * (3 * EXCERPT_BYTES) + b"\n") * 20)
    assert sources_of(tmp_path)[0].layout == "lines"


@pytest.mark.parametrize("end", ["\r", "\r\n", "\n"])
@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_lines_may_end_in_carriage_returns(tmp_path, end, name):
    text = f"{end}{end}".join(f"Line {i}.{end}More.{end}Most." for i in range(60)).encode()
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    found = list(read_documents(tmp_path))
    assert found == [[f"Line {i}.", "More.", "Most."] for i in range(60)]


def test_files_of_both_line_ends_that_were_joined_are_read_as_one(tmp_path):
    lines = "\n\n".join(f"Line {i}.\nMore." for i in range(30))
    text = f"{lines}\n\n" + f"{lines}\n\n".replace("\n", "\r") + lines.replace("\n", "\r\n")
    (tmp_path / "a.txt").write_bytes(text.encode())
    assert len(list(read_documents(tmp_path))) == 90


def test_tables_and_records_may_end_lines_in_carriage_returns(tmp_path):
    (tmp_path / "a.csv").write_bytes(b'text,n\rOne.,1\r"Two, too.",2\r')
    (tmp_path / "b.jsonl").write_bytes(b'{"text": "Three."}\r{"text": "Four."}\r')
    assert list(read_documents(tmp_path)) == [["One."], ["Two, too."], ["Three."], ["Four."]]


@pytest.mark.parametrize("end", ["\u2028", "\u0085", "\x0c"])
def test_unusual_line_ends_cause_a_warning(tmp_path, capsys, end):
    (tmp_path / "a.txt").write_text(f"Some words.{end}" * 20)
    assert len(list(read_documents(tmp_path))) == 1
    assert f"U+{ord(end):04X} seems to end lines" in capsys.readouterr().err

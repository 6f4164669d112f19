"""Section by section or all at once: the same documents, each of them once."""

import gzip
import json
import random
import subprocess
import sys
from itertools import chain

import pyarrow
import pytest
from pyarrow import parquet

from nemo.collections.nlp.data.inputs import (
    SectionReader,
    TextOptions,
    lines,
    read_documents,
    sections_of,
    sources_of,
)
from nemo.collections.nlp.data.inputs import text as text_reader
from nemo.utils.errors import DataError
from tests.conftest import PATIENCE


def texts(layout: str, seed: int) -> bytes:
    """Lines of all kinds, those of a layout among them."""
    rng = random.Random(seed)
    kinds = ["", " ", "a", "b c", "ü" * 9, "一二三。", "word " * 20, "x\r"]
    kinds += ["= Title =", "= = Part = ="] * (layout == "headings")
    kinds += ['<doc id="1" title="a">', "\ufeff<doc id='2' title='b c'>", "</doc>"] * (
        layout == "wikiextractor"
    )
    end = rng.choice(["", "\n", "\n\n"])
    return ("\n".join(rng.choices(kinds, k=rng.randrange(1, 60))) + end).encode()


@pytest.mark.parametrize("layout", ["blank", "headings", "lines", "wikiextractor"])
def test_sections_of_plain_text_give_each_document_once(tmp_path, in_sections, layout):
    for seed in range(25):
        (tmp_path / "a.txt").write_bytes(texts(layout, seed))
        whole = list(read_documents(tmp_path, TextOptions(layout=layout)))
        for size in (1, 2, 7, 50, 333):
            assert in_sections(tmp_path, size, layout=layout) == whole, (seed, size)


def test_lines_that_end_in_carriage_returns_give_each_document_once(tmp_path, in_sections):
    for seed in range(25):
        text = texts("blank", seed).replace(b"\r", b"")
        (tmp_path / "a.txt").write_bytes(text)
        whole = list(read_documents(tmp_path, TextOptions(layout="blank")))
        ends = [b"\r", b"\r\n"] if text.count(b"\n") > 3 * lines.MANY_ENDS else [b"\r"]
        parts = text.split(b"\n")
        mixed = b"".join(part + ends[i % len(ends)] for i, part in enumerate(parts[:-1])) + parts[-1]
        (tmp_path / "a.txt").write_bytes(mixed)
        for size in (1, 2, 7, 50, 333):
            assert in_sections(tmp_path, size, layout="blank") == whole, (seed, size)


def test_sections_of_running_text_give_each_line_once(tmp_path, in_sections):
    for seed in range(25):
        (tmp_path / "a.txt").write_bytes(texts("running", seed))
        whole = list(read_documents(tmp_path, TextOptions(layout="running")))
        for size in (1, 7, 50, 333):
            sections = in_sections(tmp_path, size, layout="running")
            assert list(chain(*sections)) == list(chain(*whole)), (seed, size)


def test_how_much_is_read_at_once_makes_no_difference(tmp_path, in_sections, monkeypatch):
    monkeypatch.setattr(text_reader, "MAX_LINE_BYTES", 40)
    (tmp_path / "a.txt").write_bytes(texts("blank", 1) + "ü".encode() * 99 + b"\n\n" + texts("blank", 2))
    found = set()
    for read_bytes in (1, 3, 16, 40):  # never more than a line may have
        monkeypatch.setattr(lines, "READ_BYTES", read_bytes)
        for size in (20, 111, 1 << 20):
            found.add(json.dumps(in_sections(tmp_path, size, layout="blank")))
    assert len(found) == 1 and "\\u00fc" * 20 in found.pop()


def test_sections_of_json_lines_give_each_document_once(tmp_path, in_sections):
    records = [json.dumps({"text": f"{i}" * (i % 50 + 1)}) + "\n" * (i % 3) for i in range(100)]
    (tmp_path / "a.jsonl").write_text("\n".join(records))
    whole = list(read_documents(tmp_path))
    assert len(whole) == 100
    for size in (1, 10, 100, 1000):
        assert in_sections(tmp_path, size) == whole


def test_sections_of_parquet_are_row_groups(tmp_path):
    table = pyarrow.table({"text": [f"text {i}" for i in range(100)]})
    parquet.write_table(table, tmp_path / "a.parquet", row_group_size=10)
    sections = sections_of(sources_of(tmp_path), section_bytes=1)
    assert [(section.start, section.stop) for section in sections] == [(i, i + 1) for i in range(10)]
    documents = [document for section in sections for document in SectionReader(section).documents()]
    assert documents == list(read_documents(tmp_path)) == [[f"text {i}"] for i in range(100)]
    assert len(sections_of(sources_of(tmp_path), section_bytes=1 << 20)) == 1


def test_a_file_without_random_access_is_one_section(tmp_path):
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"One.\n" * 100))
    (tmp_path / "b.csv").write_bytes(b"text\n" + b"One.\n" * 100)
    (tmp_path / "c.txt").write_bytes(b"One.\n" * 100)
    sections = sections_of(sources_of(tmp_path), 100)
    assert [(section.source.name, section.start, section.stop) for section in sections] == [
        ("a.txt.gz", 0, None),
        ("b.csv", 0, None),
        *(("c.txt", start, start + 100) for start in range(0, 500, 100)),
    ]
    assert sum(section.num_bytes for section in sections) == sum(s.num_bytes for s in sources_of(tmp_path))


def test_a_reader_reports_its_progress(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"One.\n\n" * 100)
    (section,) = sections_of(sources_of(tmp_path))
    reader = SectionReader(section)
    assert reader.bytes_read == 0
    list(reader.documents())
    assert reader.bytes_read == 600


def test_an_error_in_a_late_section_names_the_line_of_the_file(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"One.\nTwo.\n\n" * 50 + b"\xff\n")
    last = sections_of(sources_of(tmp_path, TextOptions(layout="blank")), 100)[-1]
    with pytest.raises(DataError, match=r"a\.txt:151: .*offset 550 "):
        list(SectionReader(last).documents())
    (tmp_path / "a.txt").unlink()
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "x"}\n' * 50 + b"[]\n")
    with pytest.raises(DataError, match=r"a\.jsonl:51: "):
        list(SectionReader(sections_of(sources_of(tmp_path), 100)[-1]).documents())


def test_oddities_are_counted_in_one_section_only(tmp_path):
    options = TextOptions(layout="blank", invalid_bytes="replace")
    (tmp_path / "a.txt").write_bytes((b"wo\0rd \xff" + b" more" * 40 + b"\n") * 20)
    readers = [SectionReader(section, options) for section in sections_of(sources_of(tmp_path), 500)]
    for reader in readers:
        list(reader.documents())
    assert len(readers) > 3
    assert sum(reader.odd.nul_characters for reader in readers) == 20
    assert sum(reader.odd.replaced_bytes for reader in readers) == 20


def test_a_file_without_text_is_reported(tmp_path, capsys):
    (tmp_path / "a.txt").write_bytes(b" \n\n")
    (tmp_path / "b.txt").write_bytes(b"")
    assert list(read_documents(tmp_path)) == []
    told = capsys.readouterr().err
    assert "a.txt: no text in this file" in told and "b.txt: no text in this file" in told


PROGRAM = """
import resource, sys
limit = 1 << 30
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
from nemo.collections.nlp.data.inputs import read_documents
print(sum(len(paragraph) for document in read_documents(sys.argv[1]) for paragraph in document))
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["line.txt", "lines.txt", "bomb.txt.gz", "lines.jsonl"])
def test_memory_is_bounded_for_every_kind_of_file(tmp_path, name):
    content = {
        "line.txt": lambda: b"x" * (100 << 20),
        "lines.txt": lambda: b"x\n" * (1 << 20),
        "bomb.txt.gz": lambda: gzip.compress(b"x" * (200 << 20), 1),
        "lines.jsonl": lambda: (b'{"text": "' + b"x" * 1000 + b'"}\n') * (50 << 10),
    }[name]()
    (tmp_path / name).write_bytes(content)
    environment = {"OPENBLAS_NUM_THREADS": "1", "RANK": "1"}
    words = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    ran = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=PATIENCE)
    assert ran.returncode == 0, ran.stderr
    characters, kilobytes = map(int, ran.stdout.split()[-2:])
    expected = {"line.txt": 100 << 20, "lines.txt": 1 << 20, "bomb.txt.gz": 200 << 20}
    assert characters == expected.get(name, 1000 * (50 << 10))
    assert kilobytes < 250_000

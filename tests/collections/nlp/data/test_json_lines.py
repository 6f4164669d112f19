"""Files of JSON lines: what is read, and how a bad line is told."""

import json
import os

import pytest

from nemo.collections.nlp.data import json_lines
from nemo.collections.nlp.data.json_lines import JsonDocument, read_json_lines
from nemo.utils.errors import DataError

GOOD = '{"id": "1", "title": "数学", "text": "数学。"}'


@pytest.fixture
def read(tmp_path):
    """The documents of one file with this content."""

    def from_content(content, **options):
        file = tmp_path / "wiki_00"
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return list(read_json_lines([file], **options))

    return from_content


def test_a_document_is_the_text_and_title_of_a_line(read):
    assert read(GOOD + "\n" + '{"text": "无题"}') == [
        JsonDocument("数学", "数学。"),
        JsonDocument("", "无题"),
    ]


def test_blank_lines_crlf_and_a_byte_order_mark_do_no_harm(read):
    assert read(b"\xef\xbb\xbf" + GOOD.encode() + b"\r\n\n  \n" + GOOD.encode()) == 2 * [
        JsonDocument("数学", "数学。")
    ]


def test_characters_beyond_the_basic_plane_and_their_escapes_are_kept(read):
    assert [d.text for d in read('{"text": "𠮷野家"}\n{"text": "\\ud842\\udfb7"}')] == ["𠮷野家", "𠮷"]


def test_the_field_of_the_text_can_be_named(read):
    assert read('{"title": "新闻", "content": "正文"}', text_field="content") == [
        JsonDocument("新闻", "正文")
    ]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{'text': 1}", ["not JSON", "one JSON object per line"]),
        ('{"text": "半', ["not JSON"]),
        ("[" * 100_000, ["not JSON"]),
        ('["数学"]', ["not a JSON object", "found list"]),
        ('{"text": null}', ["no text in 'text'", "found NoneType"]),
        ('{"text": ["数学"]}', ["found list", "expected a string"]),
        (
            '{"id": 1, "title": "新闻", "content": "正文很长"}',
            ["no field 'text'", "'id', 'title', 'content'"],
        ),
        ('{"title": "新闻", "content": "正文很长"}', ["fix: ", "'content'"]),
        ("{}", ["no field 'text'", "an empty object"]),
        ('{"text": "\\ud83d"}', ["half a surrogate pair", "\\ud83d"]),
        (b'{"text": "\xca\xfd"}', ["not UTF-8", "byte 0xca at offset 10"]),
    ],
)
def test_a_bad_line_is_told_with_its_file_and_number(line, told, read, tmp_path):
    content = GOOD.encode() + b"\n\n" + (line if isinstance(line, bytes) else line.encode()) + b"\n"
    with pytest.raises(DataError) as refusal:
        read(content)
    assert str(refusal.value).startswith(f"{tmp_path / 'wiki_00'}:3: ")
    assert all(part in str(refusal.value) for part in told)


def test_some_bad_lines_may_be_left_out_and_are_told(read, capsys):
    assert len(read(f"{GOOD}\n[]\n{GOOD}\n[]\n", max_bad_records=2)) == 2
    told = capsys.readouterr().err
    assert "wiki_00:2: " in told and "wiki_00:4: " in told and "2 bad records left out" in told


def test_one_more_bad_line_is_too_much(read):
    with pytest.raises(DataError, match="wiki_00:4: "):
        read(f"{GOOD}\n[]\n{GOOD}\n[]\n", max_bad_records=1)


def test_a_file_that_is_one_endless_line_is_not_read_into_memory(read, monkeypatch):
    monkeypatch.setattr(json_lines, "MAX_LINE_BYTES", 1 << 20)
    with pytest.raises(DataError, match=r"wiki_00:1: .*a line of more than 1 MiB"):
        read(json.dumps({"text": "a" * (1 << 20)}), max_bad_records=9)


def test_a_file_that_cannot_be_read_is_told(tmp_path):
    with pytest.raises(DataError, match="gone: cannot be read"):
        list(read_json_lines([tmp_path / "gone"]))


def test_documents_come_as_they_are_read(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    descriptor = os.open(path, os.O_RDWR)  # nothing ever ends this file
    os.write(descriptor, (GOOD + "\n").encode())
    assert next(read_json_lines([path])).text == "数学。"
    os.close(descriptor)

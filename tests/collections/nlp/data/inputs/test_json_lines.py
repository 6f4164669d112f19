"""Files of JSON lines: what is read, and how a bad line is told."""

import json

import pytest

from nemo.collections.nlp.data.inputs import TextOptions, json_lines, read_documents
from nemo.utils.errors import DataError

GOOD = '{"id": "1", "title": "数学", "text": "数学\\n\\n数学是一门学科。"}'
DOCUMENT = ["数学是一门学科。"]


@pytest.fixture
def read(documents_of):
    """The documents of one file with this content."""

    def from_content(content, **options):
        return documents_of(content, "wiki_00", **{"format": "json-lines", **options})

    return from_content


def test_a_line_is_a_document_of_paragraphs_without_a_repeated_title(read):
    assert read(GOOD + "\n" + '{"text": " 无题 \\r\\n \\n二\\r三"}') == [DOCUMENT, ["无题", "二", "三"]]
    assert read('{"title": "数学", "text": "数学是一门学科。\\n数学"}') == [["数学是一门学科。", "数学"]]


def test_blank_lines_crlf_and_a_byte_order_mark_do_no_harm(read):
    assert read(b"\xef\xbb\xbf" + GOOD.encode() + b"\r\n\n  \n" + GOOD.encode()) == 2 * [DOCUMENT]


def test_characters_beyond_the_basic_plane_and_their_escapes_are_kept(read):
    assert read('{"text": "𠮷野家"}\n{"text": "\\ud842\\udfb7"}') == [["𠮷野家"], ["𠮷"]]


def test_the_field_of_the_text_can_be_named(read):
    assert read('{"title": "新闻", "content": "正文"}', text_field="content") == [["正文"]]


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
        (
            b'{"text": "\xca\xfd"}',
            ["not UTF-8", f"byte 0xca at offset {len(GOOD.encode()) + 12} of the file"],
        ),
    ],
)
def test_a_bad_line_is_reported_with_its_file_and_number(line, told, read, tmp_path):
    content = GOOD.encode() + b"\n\n" + (line if isinstance(line, bytes) else line.encode()) + b"\n"
    with pytest.raises(DataError) as refusal:
        read(content)
    assert str(refusal.value).startswith(f"{tmp_path / 'wiki_00'}:3: ")
    assert all(part in str(refusal.value) for part in told)


def test_a_few_bad_lines_may_be_skipped_and_are_reported(read, capsys):
    assert len(read(f"{GOOD}\n[]\n{GOOD}\n[]\n", max_bad_records=2)) == 2
    told = capsys.readouterr().err
    assert "wiki_00:2: " in told and "wiki_00:4: " in told and "2 bad records skipped" in told


def test_one_more_bad_line_is_too_much(read):
    with pytest.raises(DataError, match="wiki_00:4: "):
        read(f"{GOOD}\n[]\n{GOOD}\n[]\n", max_bad_records=1)


def test_bad_lines_are_counted_over_all_files(tmp_path):
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).write_text(f"{GOOD}\n[]\n")
    assert len(list(read_documents(tmp_path, TextOptions(max_bad_records=2)))) == 2
    with pytest.raises(DataError, match=r"too many bad records; .*found 2, expected at most 1"):
        list(read_documents(tmp_path, TextOptions(max_bad_records=1)))


def test_invalid_bytes_may_be_replaced(read):
    assert read(b'{"text": "a\xb0b"}', invalid_bytes="replace") == [["a\ufffdb"]]


def test_a_record_without_end_is_not_read_into_memory(read, monkeypatch):
    monkeypatch.setattr(json_lines, "MAX_RECORD_BYTES", 1 << 20)
    with pytest.raises(DataError, match=r"wiki_00:2: .*more than 1 MiB"):
        read(GOOD + "\n" + json.dumps({"text": "a" * (1 << 20)}), max_bad_records=9)


def test_a_very_long_text_is_cut_into_documents_and_nothing_is_lost(read):
    long = "一" * 600_000
    documents = read(json.dumps({"text": long + "\n二"}))
    assert len(documents) > 1
    assert "".join(paragraph for document in documents for paragraph in document) == long + "二"

"""Plain text: what a document is, and what becomes of bytes that are odd."""

import bz2

import pytest

from nemo.collections.nlp.data.inputs import (
    SectionReader,
    TextOptions,
    read_documents,
    sections_of,
    sources_of,
)
from nemo.collections.nlp.data.inputs.documents import MAX_DOCUMENT_CHARS, MAX_LINE_BYTES
from nemo.collections.nlp.data.inputs.layouts import detect_layout
from nemo.utils.errors import DataError, UsageError


def test_a_blank_line_ends_a_document(documents_of):
    assert documents_of(b"One.\nTwo.\n\nThree.\nFour.\n \n\nFive.\nSix.") == [
        ["One.", "Two."],
        ["Three.", "Four."],
        ["Five.", "Six."],
    ]


def test_a_title_starts_a_document_and_headings_are_dropped(documents_of):
    lines = " = Cats = ", " Cats purr . ", " = = Food = = ", " They eat . ", " = Dogs = ", " Dogs bark . "
    assert documents_of(" \n \n".join(lines).encode()) == [["Cats purr .", "They eat ."], ["Dogs bark ."]]


def test_an_equation_in_prose_is_not_a_heading(documents_of):
    text = b"We have\n= x + y =\nas above.\n" + b"More words.\n" * 200
    assert documents_of(text)[0][1] == "= x + y ="


def test_long_lines_are_documents(documents_of):
    first, second = "a" * 2000, "b" * 2000
    assert documents_of(f"{first}\n{second}\n".encode()) == [[first], [second]]


def test_short_lines_without_blank_lines_are_one_document(documents_of):
    assert documents_of(b"One.\nTwo.\nThree.") == [["One.", "Two.", "Three."]]


def test_blank_lines_between_single_lines_part_paragraphs(documents_of):
    assert documents_of(b"One.\n\nTwo.\n\nThree.\n") == [["One.", "Two.", "Three."]]


def test_the_layout_can_be_given(documents_of):
    assert documents_of(b"One.\nTwo.", layout="lines") == [["One."], ["Two."]]
    assert documents_of(b"One.\nTwo.\n\nThree.\nFour.", layout="running") == [
        ["One.", "Two.", "Three.", "Four."]
    ]


@pytest.mark.parametrize("option", ["format", "layout", "sentences", "invalid_bytes"])
def test_an_unknown_option_is_refused(option):
    with pytest.raises(UsageError, match="nonsense"):
        TextOptions(**{option: "nonsense"})


def test_crlf_reads_like_lf(documents_of):
    text = b"One.\nTwo.\n\nThree.\nFour."
    assert documents_of(text.replace(b"\n", b"\r\n")) == documents_of(text)


def test_only_line_feeds_end_a_line(documents_of):
    line = "a\u2028b\u0085c\x0bd\x0ce\rf"
    assert documents_of(f"{line}\nend".encode()) == [[line, "end"]]


def test_a_byte_order_mark_is_dropped_at_the_start_only(documents_of):
    assert documents_of("\ufeffa\ufeffb\n\ufeffc".encode()) == [["a\ufeffb", "\ufeffc"]]


@pytest.mark.parametrize(
    ("line", "offset"),
    [
        (b"ab\xb0c", 10),  # a lone byte
        (b"ab\xc0\xaf", 10),  # an overlong slash
        (b"ab\xe4\xb8", 10),  # a character cut short by the end of the line
        ("中文".encode("gb18030"), 8),
    ],
)
def test_invalid_utf8_is_an_error_that_says_where(documents_of, line, offset):
    with pytest.raises(DataError, match=rf"text\.txt:2: .*offset {offset} "):
        documents_of(b"One.\xc3\xa9.\n" + line + b"\nThree.")


def test_invalid_bytes_are_replaced_on_demand_and_counted(tmp_path):
    file = tmp_path / "text.txt"
    file.write_bytes(b"a\xb0b \xef\xbf\xbd c\xff\n")
    options = TextOptions(invalid_bytes="replace")
    reader = SectionReader(sections_of(sources_of(file))[0], options)
    assert list(reader.documents()) == [["a\ufffdb \ufffd c\ufffd"]]
    assert reader.odd.replaced_bytes == 2


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_utf16_is_an_error(documents_of, encoding):
    with pytest.raises(DataError, match=r"UTF-16|binary"):
        documents_of("Some words in a file.".encode(encoding))


def test_a_binary_file_is_an_error(documents_of):
    with pytest.raises(DataError, match="binary"):
        documents_of(b"\x7fELF" + bytes(1 << 20))


def test_a_nul_in_a_word_is_removed(documents_of):
    assert documents_of(b"wo\0rd" + b" and more" * 50)[0][0].startswith("word and")


def test_a_long_line_is_cut_between_characters_and_nothing_is_lost(documents_of):
    line = "x" + "é" * MAX_LINE_BYTES
    lines = [part for document in documents_of(f"{line}\nend".encode()) for part in document]
    assert lines.pop() == "end"
    assert len(lines) == 3 and "".join(lines) == line


def test_a_document_without_end_is_cut(documents_of):
    documents = documents_of(b"word word word.\n" * (MAX_DOCUMENT_CHARS // 10))
    assert len(documents) == 2
    assert sum(map(len, documents)) == MAX_DOCUMENT_CHARS // 10


def test_an_empty_file_has_no_documents(documents_of):
    for content in (b"", b"\n", b"  \n \n\t"):
        assert documents_of(content) == []


def test_wikitext_is_recognized_by_its_headings(shared_data):
    sources = sources_of(shared_data / "wikitext-2" / "valid.txt")
    assert sources[0].layout == "headings"
    assert len(list(read_documents(sources))) == 60


def test_news_with_blank_lines_are_documents_and_without_are_running_text(shared_data):
    file = shared_data / "abc_news" / "rural.txt"
    assert sources_of(file)[0].layout == "blank"
    lines = [line for line in file.read_text().split("\n") if line.strip()]
    assert detect_layout(lines) == "running"


# Characters that nobody sees.

BOM = "\ufeff"


def test_a_byte_order_mark_before_a_heading_does_not_hide_it(documents_of):
    file = BOM + " = Cats = \n\n Cats purr . \n\n = = Food = = \n They eat . \n"
    assert documents_of(file * 3) == [["Cats purr .", "They eat ."]] * 3


@pytest.mark.parametrize(
    "mark", [BOM, BOM + BOM, "\u200b", "\u200b \u2060", "\u200e", "\u00ad", "\x1a", "\u3164"]
)
def test_a_line_of_invisible_characters_is_blank(documents_of, mark):
    assert documents_of(f"One.\nTwo.\n{mark}\nThree.\nFour.\n") == [["One.", "Two."], ["Three.", "Four."]]


def test_joined_files_with_byte_order_marks_are_read_as_one(documents_of):
    file = f"{BOM}One.\nTwo.\n\nThree.\nFour.\n\n"
    assert len(documents_of(file * 5)) == 10
    record = BOM + '{"text": "One."}\n'
    assert documents_of(record * 3 + "\u200b\n" + BOM, "a.jsonl") == [["One."]] * 3


def test_a_text_of_records_reports_no_paragraphs(documents_of):
    record = '{"title": "T", "text": "\\ufeffT\\nOne.\\n\\u200b\\nTwo."}\n'
    assert documents_of(record, "a.jsonl") == [["One.", "Two."]]


# WikiExtractor.

ARTICLE = """<doc id="{0}" url="https://en.wikipedia.org/wiki?curid={0}" title="A &amp; {0}">
A & {0}

It is {0}.
It is {0} still.

History.

It was {0}.

</doc>
"""


def test_articles_of_wikiextractor_are_documents_without_tags_and_titles(tmp_path, documents_of):
    (tmp_path / "AA").mkdir()
    for number in range(2):
        text = "".join(ARTICLE.format(i) for i in range(20 * number, 20 * number + 20))
        (tmp_path / f"AA/wiki_0{number}").write_text(text)
        (tmp_path / f"AA/wiki_0{number}.bz2").write_bytes(bz2.compress(text.encode()))
    (tmp_path / "AA/notes").write_text("These are notes.\n")
    sources = sources_of(tmp_path)
    assert {source.layout for source in sources} == {"wikiextractor"}
    found = list(read_documents(sources))
    expected = [[f"It is {i}.", f"It is {i} still.", "History.", f"It was {i}."] for i in range(40)]
    assert sorted(found) == sorted(expected * 2)
    assert "notes" not in [source.name for source in sources]


@pytest.mark.parametrize(
    ("tag", "title"),
    [
        ("<doc id='7' title='Cats'>", "Cats"),
        ('<doc id="7" url="u" title="The "Cats" of A > B">', 'The "Cats" of A > B'),
        ('<doc id="7" url="u" title="Cats" nonfiltered="1" dbindex="3">', "Cats"),
    ],
)
def test_titles_of_wikiextractor_are_left_out(documents_of, tag, title):
    assert documents_of(f"\ufeff{tag}\n{title}\n\nThey purr.\n{title}\n</doc>\n") == [["They purr.", title]]
    assert documents_of(f"{tag}\nThey purr.\n</doc>\n") == [["They purr."]]


def test_tags_in_prose_are_text(documents_of):
    assert documents_of("The tag <doc id=1> begins one.\nSo it is.\n")[0][0].startswith("The tag <doc")

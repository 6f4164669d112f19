"""Parquet and CSV: what a row gives, and how a bad table is told."""

import pyarrow
import pytest
from pyarrow import parquet

from nemo.collections.nlp.data.inputs import TextOptions, read_documents, sources_of
from nemo.utils.errors import DataError


@pytest.fixture
def parquet_of(tmp_path):
    """The documents of a Parquet file with these columns."""

    def read(columns: dict, **options: object) -> list[list[str]]:
        parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet", row_group_size=2)
        return list(read_documents(tmp_path, TextOptions(**options)))

    return read


# Parquet.


def test_a_row_of_parquet_is_a_document(parquet_of):
    columns = {"id": [1, 2, 3], "title": ["A", None, "C"], "text": ["A\n\nOne.\nTwo.", "B", ""]}
    assert parquet_of(columns) == [["One.", "Two."], ["B"]]
    assert parquet_of({"content": ["One."]}, text_field="content") == [["One."]]


@pytest.mark.parametrize(
    "kind", [pyarrow.large_string(), pyarrow.dictionary(pyarrow.int32(), pyarrow.string())]
)
def test_all_kinds_of_strings_are_text(parquet_of, kind):
    assert parquet_of({"text": pyarrow.array(["a", "b", "a"]).cast(kind)}) == [["a"], ["b"], ["a"]]


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        (
            {"content": ["a"], "id": [1]},
            "no field 'text'; found 'content', 'id'; fix: .*'content'.*--text_field",
        ),
        ({"text": [1]}, "no text in 'text'; found int64, expected a column of strings"),
        ({"text": [["a"]]}, "no text in 'text'; found list"),
        ({"text": ["a", None]}, "row 2: no text in 'text'; found null"),
        (
            {"text": pyarrow.array([b"a", b"\xff"]).view(pyarrow.string())},
            "row 1 to 2: text that is not UTF-8",
        ),
    ],
)
def test_a_column_that_is_not_text_is_an_error(parquet_of, columns, told):
    with pytest.raises(DataError, match=rf"a\.parquet: {told}"):
        parquet_of(columns)


def test_some_rows_without_text_may_be_left_out(parquet_of, capsys):
    columns = {"text": ["a", None, "b", None]}
    assert parquet_of(columns, max_bad_records=2) == [["a"], ["b"]]
    assert "2 bad records skipped" in capsys.readouterr().err
    with pytest.raises(DataError, match="row 4"):
        parquet_of(columns, max_bad_records=1)


@pytest.mark.parametrize("at", [10, -10])
def test_damaged_parquet_is_an_error(tmp_path, at):
    file = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"text": [f"text {i}" for i in range(100)]}), file)
    content = bytearray(file.read_bytes())
    content[at : at + 6] = b"\xff" * 6
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.parquet: "):
        list(read_documents(file))
    file.write_bytes(b"no table")
    with pytest.raises(DataError, match="has the suffix of a Parquet file, but is not one"):
        sources_of(file)


# CSV.


def test_a_row_of_csv_is_a_document(documents_of):
    table = 'id,title,text\r\n1,A,"A\nOne, ""two"".\n\nThree."\r\n2,B,B b\r\n\r\n3,C,\r\n'
    assert documents_of("\ufeff" + table, "a.csv") == [['One, "two".', "Three."], ["B b"]]


@pytest.mark.parametrize(("name", "mark"), [("a.tsv", "\t"), ("a.csv", ";"), ("a.csv", "|")])
def test_other_marks_between_columns_are_recognized(documents_of, name, mark):
    assert documents_of(f"id{mark}text\n1{mark}One, two.\n", name) == [["One, two."]]


def test_a_table_of_one_column_works(documents_of):
    assert documents_of("text\nOne.\nTwo.", "a.csv") == [["One."], ["Two."]]


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ("id,content\n1,long text\n", ": no field 'text'; found 'id', 'content'; fix: .*'content'"),
        ("id,text\n1,a\n2,b,c\n", ":3: a row with the wrong number of columns; found 3 columns, expected 2"),
        ("id,text\n1,a\n2\n", ":3: a row with the wrong number of columns; found 1 columns"),
        (b"id,text\n1,a\n2,\xff\n", ":3: text that is not UTF-8"),
        ("text\na\rb\n", ":2: not CSV"),
    ],
)
def test_a_bad_table_is_an_error_with_its_line(documents_of, table, told):
    with pytest.raises(DataError, match=rf"a\.csv{told}"):
        documents_of(table, "a.csv")


def test_unpaired_quotes_in_a_tab_separated_table_are_text(documents_of):
    table = 'id\ttext\n1\t"Yes, he said.\n2\tNo.\n3\t"Why?\n'
    assert documents_of(table, "a.tsv") == [['"Yes, he said.'], ["No."], ['"Why?']]
    assert documents_of('id\ttext\n1\t"One, ""two""."\n', "b.tsv") == [['One, "two".']]


def test_a_table_of_tabs_with_one_column_is_not_cut_at_commas(documents_of):
    assert documents_of("text\nOne, two, three.\n", "a.tsv") == [["One, two, three."]]


def test_a_table_that_ends_inside_quotes_is_refused(documents_of):
    with pytest.raises(DataError, match=r"a\.csv:4: the file ends inside quotes"):
        documents_of('id,text\n1,"One."\n2,"Two.\n3,three\n', "a.csv")


def test_two_columns_of_text_are_one_too_many(documents_of):
    with pytest.raises(DataError, match="several columns are named 'text'"):
        documents_of("text,text\na,b\n", "a.csv")


def test_some_bad_rows_may_be_left_out(documents_of):
    assert documents_of("id,text\n1,a\n2\n3,c\n", "a.csv", max_bad_records=1) == [["a"], ["c"]]


def test_a_quote_that_never_ends_does_not_fill_the_memory(documents_of, monkeypatch):
    monkeypatch.setattr("nemo.collections.nlp.data.inputs.tables.MAX_RECORD_BYTES", 1000)
    with pytest.raises(DataError, match=r"a\.csv:\d+: not CSV; found field larger than field limit"):
        documents_of('text\n"' + "One.\n" * 1000, "a.csv")

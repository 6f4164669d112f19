"""Files of labeled texts and pairs."""

import pytest

from nemo.collections.nlp.finetuning.texts import read_texts
from nemo.utils.errors import DataError


def read(folder, text, name, pairs=False, **columns):
    path = folder / name
    path.write_text(text, encoding="utf-8", newline="")
    return [(*example.texts, example.labels[0]) for example in read_texts(path, pairs, **columns)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.jsonl", '{"text": "Good, \\"very\\"", "label": 1}\n\n{"text": "Bad", "label": 0}\n'),
        ("a.csv", 'label,text\n1,"Good, ""very"""\r\n0,Bad\r\n'),
        ("a.csv", 'sentence;class\nGood, "very";1\nBad;0\n'),
        ("a.tsv", 'text\tlabel\nGood, "very"\t1\nBad\t0\n'),
    ],
)
def test_texts_and_labels_are_read(tmp_path, name, text):
    assert read(tmp_path, text, name) == [('Good, "very"', "1"), ("Bad", "0")]


def test_a_whole_number_is_a_label_however_it_is_written(tmp_path):
    lines = '{"text": "Good", "label": 1.0}\n{"text": "Bad", "label": 0}\n'
    assert read(tmp_path, lines, "a.jsonl") == [("Good", "1"), ("Bad", "0")]


def test_pairs_and_columns_of_other_names(tmp_path):
    text = "premise\thypothesis\tlabel\nIt rains\tIt is wet\tyes\n"
    assert read(tmp_path, text, "a.tsv", pairs=True) == [("It rains", "It is wet", "yes")]
    columns = {"text_column": "x", "pair_column": "y", "label_column": "z"}
    assert read(tmp_path, "z,y,x\nno,b,a\n", "a.csv", pairs=True, **columns) == [("a", "b", "no")]


@pytest.mark.parametrize(
    ("text", "columns", "told"),
    [
        ("text,label\nGood,\n", {}, "a.csv:2: an empty column 'label'"),
        ("text,label\n ,1\n", {}, "a.csv:2: an empty column 'text'"),
        ("text,label\nGood,1,2\n", {}, "a.csv:2: a row with the wrong number of columns"),
        ('text,label\n"Good,1\nBad,0\n', {}, "not CSV"),
        ("words,label\nGood,1\n", {}, "no column for --text_column; found 'words', 'label'"),
        (
            "text,stars\nGood,1\n",
            {"label_column": "star"},
            "no column 'star'; found 'text', 'stars'; fix: did you",
        ),
        ("text,stars\nGood,1\n", {"label_column": "x"}, "'stars'; fix: give --label_column one of these"),
        ("text,label\n", {}, "no examples"),
        ('{"text": "Good"}', {}, "no column for --label_column"),
        (
            '{"text": ["Good"], "label": "a"}',
            {},
            "the column 'text' is neither text nor a whole number; found ['Good']",
        ),
        ('[\n {"text": "Good", "label": "a"}]', {}, "a JSON array; found"),
        (
            '{"text": "Good", "label": 0.5}',
            {},
            "the column 'label' is neither text nor a whole number; found 0.5",
        ),
        ('{"text": "Good", "label": null}', {}, "expected text; fix: fill it in, or remove the row"),
        ("\n", {}, "is empty; expected labeled examples; fix: "),
        ("{broken", {}, "a.csv:1: not JSON"),
    ],
)
def test_invalid_files_are_refused(tmp_path, text, columns, told):
    with pytest.raises(DataError) as refused:
        read(tmp_path, text, "a.csv", **columns)
    assert told in str(refused.value)

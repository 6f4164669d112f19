"""Files of words with labels: what is read, and what is refused with its place."""

import json

import pytest

from nemo.collections.nlp.finetuning.sentences import read_sentences
from nemo.utils.errors import DataError, MissingFileError

READ = [(("Aspirin", "helps", "."), ("B-Drug", "O", "O")), (("No", "pain"), ("O", "B-Disease"))]


def read(folder, text, name="data.txt", **columns):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return [(sentence.words, sentence.labels) for sentence in read_sentences(path, **columns)]


@pytest.mark.parametrize(
    "text",
    [
        "Aspirin B-Drug\nhelps O\n. O\n\nNo O\npain B-Disease\n",
        "-DOCSTART- -X- O\n\nAspirin N B-Drug\nhelps V O\n. P O\n\n\nNo D O\npain N B-Disease",
        "-DOCSTART- (7)\r\n\r\nAspirin\tI-Drug\r\nhelps\tO\r\n.\tO\r\n\r\nNo\tO\r\npain\tI-Disease\r\n",
        "# id = 1\n# text = Aspirin .\nAspirin\tS-Drug\nhelps\tO\n.\tO\n\n# id = 2\nNo\tO\npain\tU-Disease",
        "\ufeffAspirin   B-Drug\nhelps     O\n.         O\n \nNo        O\npain      B-Disease\n",
    ],
    ids=["spaces", "docstart", "IOB1 with tabs and CR LF", "comments", "aligned, with a byte order mark"],
)
def test_labels_are_read_from_columns(tmp_path, text):
    assert read(tmp_path, text) == READ


def test_a_number_sign_is_a_word_where_it_has_a_label(tmp_path):
    assert read(tmp_path, "# O\n1 B-Rank\n") == [(("#", "1"), ("O", "B-Rank"))]


@pytest.mark.parametrize(
    "text",
    [
        "# newdoc\nAspirin B-Drug\nhelps O\n. O\n\n# newdoc\nNo O\npain B-Disease\n",
        "# id = 5\nAspirin N x B-Drug\nhelps V x O\n. P x O\n\n# id = 6\nNo D x O\npain N x B-Disease\n",
        "Aspirin\tB-Drug\nhelps\tO\n#\tcorrected\n.\tO\n\nNo\tO\npain\tB-Disease\n",
        "# a b c\n# a b c\n# a b c\n# a b c\n# a b c\n# a b c\n"
        "Aspirin B-Drug\nhelps O\n. O\n\nNo O\npain B-Disease\n",
    ],
    ids=["two columns", "four columns", "tabs", "more comments than words"],
)
def test_a_comment_may_have_as_many_columns_as_words(tmp_path, text):
    assert read(tmp_path, text) == READ


def test_a_number_sign_that_begins_a_word_is_part_of_it(tmp_path):
    assert read(tmp_path, "#aspirin B-Drug\n#1 O\n# newdoc\nhelps O\n# O\n") == [
        (("#aspirin", "#1", "helps", "#"), ("B-Drug", "O", "O", "O"))
    ]


def test_entities_are_read_from_pubtator(tmp_path):
    text = (
        "7|t|Aspirin helps.\n7|a|No chest pain\n"
        "7\t0\t7\tAspirin\tDrug\tD1\n7\t18\t28\tchest pain\tDisease\n7\tCID\tD1\tD2\n\n"
        "8|t|Nothing\n8|a|\n"
    )
    assert read(tmp_path, text) == [
        (("Aspirin", "helps", "."), ("B-Drug", "O", "O")),
        (("No", "chest", "pain"), ("O", "B-Disease", "I-Disease")),
        (("Nothing",), ("O",)),
    ]


def test_json_lines_of_words_and_of_offsets(tmp_path):
    lines = [{"tokens": words, "ner_tags": tags} for words, tags in READ]
    assert read(tmp_path, "\n".join(map(json.dumps, lines))) == READ
    lines = [
        {"text": "Aspirin helps.", "entities": [{"start": 0, "end": 7, "label": "Drug"}]},
        {"text": "No pain", "entities": [[3, 7, "Disease"]]},
    ]
    assert read(tmp_path, "\n".join(map(json.dumps, lines))) == READ
    lines = [{"w": words, "l": tags} for words, tags in READ]
    assert read(tmp_path, "\n".join(map(json.dumps, lines)), text_column="w", label_column="l") == READ


def test_chinese_characters_are_words_of_their_own(tmp_path):
    line = json.dumps({"text": "我在北京10年", "entities": [[2, 4, "LOC"]]}, ensure_ascii=False)
    words = ("我", "在", "北", "京", "10", "年")
    assert read(tmp_path, line) == [(words, ("O", "O", "B-LOC", "I-LOC", "O", "O"))]


def test_an_entity_that_ends_within_a_word_takes_all_of_it(tmp_path, capsys):
    line = json.dumps({"text": "non-diabetics", "entities": [[4, 12, "Disease"]]})
    assert read(tmp_path, line) == [(("non", "-", "diabetics"), ("O", "O", "B-Disease"))]
    assert "1 entities end within a word" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a O\nb\nc O\n", "data.txt:2: labels do not line up with words"),
        ("a\tO\nb\t\nc\tO\n", "data.txt:2: labels do not line up with words"),
        ("a\nb\n", "no labels beside the words"),
        ("a O\nb Drug\n", "data.txt:1: not an entity label; found 'Drug'"),
        (
            '{"tokens": ["a", "b"], "tags": ["O"]}',
            "data.txt:1: labels do not line up with words; found 1 labels",
        ),
        (
            '{"tokens": ["a"], "tags": [0]}',
            "data.txt:1: numbers instead of label names; found [0], expected a list",
        ),
        ('[{"tokens": ["a"], "tags": ["O"]}]', "a JSON array; found '[' before the first object, expected"),
        ("a O\nb\n", "found 1 filled column in 'b'"),
        ('{"text": "a", "entities": [[0, 2, "X"]]}', "within the 1 characters"),
        ('{"tokens": ["a"]}', "no column for --label_column"),
        ("7|t|A pain\n7|a|x\n7\t0\t4\tpain\tDisease\n", "found 'A pa' at 0 to 4, expected 'pain'"),
        ("\n \n", "is empty"),
        ("caf\u00e9 O\n".encode() + "caf\u00e9 O\n".encode("latin-1"), "data.txt:2: text that is not UTF-8"),
    ],
)
def test_invalid_files_are_refused(tmp_path, text, told):
    with pytest.raises(DataError) as refused:
        read(tmp_path, text)
    assert told in str(refused.value)


def test_no_option_is_named_that_labeled_files_do_not_have(tmp_path):
    with pytest.raises(DataError) as refused:
        read(tmp_path, "Schw\u00e4rze O\n".encode("latin-1"))
    assert "convert the file" in str(refused.value) and "--" not in str(refused.value).replace("-t utf-8", "")


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(MissingFileError):
        read_sentences(tmp_path / "absent.txt")

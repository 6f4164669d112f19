"""What is known of a text before anything is made of it."""

import unicodedata

import pytest

from nemo.collections.nlp.data.inputs import AUTO
from nemo.collections.nlp.recipe.text_facts import facts_of
from nemo.utils.errors import DataError, UsageError
from tests.conftest import write_english


@pytest.fixture(scope="module")
def english(tmp_path_factory):
    return write_english(tmp_path_factory.mktemp("text") / "english")


def test_a_text_is_counted(english):
    facts = facts_of([str(english / "train.txt")], AUTO)
    text = (english / "train.txt").read_text()
    assert facts.documents == 120 == text.count("\n\n") + 1
    assert facts.characters == len(text) - text.count("\n")
    assert (facts.layouts, dict(facts.scripts), facts.held_out) == (("blank",), {"Latin": 1.0}, None)
    assert facts.one_sentence_share == facts.lost_marks == 0


def test_held_out_text_is_found_by_name(english):
    assert facts_of([str(english)], AUTO).held_out == str(english)


def test_a_folder_of_programs_is_text_by_its_content(tmp_path):
    (tmp_path / "training").mkdir()
    for number in range(40):
        folder = tmp_path / "training" if number % 2 else tmp_path
        (folder / f"m{number}.py").write_text(f"def f{number}(x):\n\n    return x + {number}\n" * 20)
    (tmp_path / "picture.bin").write_bytes(bytes(range(256)) * 20)
    facts = facts_of([str(tmp_path)], AUTO)
    assert facts.is_unnamed and facts.num_files == facts.documents == 40  # of `training/`, too
    assert (facts.format, facts.layout) == ("text", "running")
    assert all(name.endswith(".py") for name in facts.inputs)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_accents_that_lower_casing_strips_are_noticed(tmp_path, form):
    text = unicodedata.normalize(form, "L'été déjà passé, la forêt gèle.\n\n")
    (tmp_path / "a.txt").write_text(text * 500)
    assert 0.1 < facts_of([str(tmp_path / "a.txt")], AUTO).lost_marks < 0.3


def test_too_little_text_is_an_error_that_says_how_much_is_needed(tmp_path):
    (tmp_path / "a.txt").write_text("A short text.\n")
    with pytest.raises(DataError, match=r"too little text.*found 13 characters, expected 10,000 or more"):
        facts_of([str(tmp_path / "a.txt")], AUTO)


def test_shards_are_trained_on_alone(tmp_path, english):
    (tmp_path / "a.hdf5").write_bytes(b"\x89HDF\r\n\x1a\n")
    assert facts_of([str(tmp_path)], AUTO).kind == "shards"
    with pytest.raises(UsageError, match="cannot be combined"):
        facts_of([str(tmp_path), str(english)], AUTO)

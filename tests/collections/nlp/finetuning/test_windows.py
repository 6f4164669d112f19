"""Long examples are cut with overlap, and nothing is dropped."""

import random

import pytest

from nemo.collections.nlp.data.tokenizers import load_tokenizer
from nemo.collections.nlp.finetuning.examples import LabeledText, Sentence
from nemo.collections.nlp.finetuning.windows import Encoder, windows
from tests.huggingface_folders import write_huggingface


@pytest.mark.parametrize("room", [4, 7, 30])
def test_every_word_is_answered_for_once_and_windows_fit(room):
    rng = random.Random(room)
    for _ in range(300):
        lengths = [rng.choice([1, 1, 2, room]) for _ in range(rng.randint(0, 60))]
        found = windows(lengths, room)
        owned = [i for window in found for i in range(window.own_first, window.own_stop)]
        assert owned == list(range(len(lengths)))
        for window in found:
            assert sum(lengths[window.first : window.stop]) <= room
            assert window.first <= window.own_first <= window.own_stop <= window.stop


def test_a_word_stands_away_from_the_borders_of_its_window():
    first, second, last = windows([1] * 20, 10)
    assert (first.stop, second.first, first.own_stop) == (10, 8, 9)
    assert (second.stop, last.first, second.own_stop) == (18, 16, 17)


@pytest.fixture
def encoder(tmp_path):
    write_huggingface(tmp_path / "bert")
    return Encoder(load_tokenizer(tmp_path / "bert"), ["O", "B-X", "I-X"], 16)


def test_words_are_labeled_by_their_first_piece(encoder):
    sentence = Sentence(("the", "abc", "\u200b", "cat"), ("O", "B-X", "O", "I-X"), "")
    (row,) = encoder.rows([sentence])
    pieces = ["[CLS]", "the", "a", "##b", "##c", "[UNK]", "cat", "[SEP]"]
    assert encoder.tokenizer.ids_to_tokens(row.ids) == pieces
    assert (row.positions, row.labels) == ([1, 2, 5, 6], [0, 1, 0, 2])


def test_windows_of_a_pair_move_over_its_longer_text(encoder):
    encoder._label_ids = {"yes": 0}
    rows = encoder.rows([LabeledText(("the cat", "abcdefghijklmnopqrst the dog"), ("yes",), "")])
    shown = [encoder.tokenizer.ids_to_tokens(row.ids) for row in rows]
    assert all(row[:4] == ["[CLS]", "the", "cat", "[SEP]"] and len(row) <= 16 for row in shown)
    assert all(row.num_first == 4 for row in rows)
    assert {piece for row in shown for piece in row} >= {"a", "##t", "dog"}

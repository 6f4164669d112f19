"""Long examples are cut with overlap, and nothing is dropped."""

import random
from string import ascii_lowercase

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


@pytest.mark.parametrize(("first", "second"), [(20, 20), (14, 40), (40, 14), (7, 8), (6, 60)])
def test_of_two_long_texts_no_piece_is_dropped(encoder, first, second):
    encoder._label_ids = {"yes": 0}
    texts = tuple("".join(ascii_lowercase[i % 26] for i in range(n)) for n in (first, second))
    rows = encoder.rows([LabeledText(texts, ("yes",), "")])
    assert all(len(row.ids) <= 16 for row in rows)
    for number, text in enumerate(texts):
        pieces = [text[0], *(f"##{letter}" for letter in text[1:])]
        shown = [encoder.tokenizer.ids_to_tokens(row.ids) for row in rows]
        parts = [
            row[1 : each.num_first - 1] if number == 0 else row[each.num_first : -1]
            for row, each in zip(shown, rows, strict=True)
        ]
        assert all(parts)
        covered: list[str] = []
        for part in parts:  # each goes on where the last one ended, or before
            shared = max(n for n in range(len(part) + 1) if covered[len(covered) - n :] == part[:n])
            covered += part[shared:]
        assert covered == pieces


def test_words_longer_than_a_row_are_counted_in_a_warning(encoder, capsys):
    sentence = Sentence(("the", "abcdefghijklmnopq", "cat"), ("O", "B-X", "O"), "")
    rows = encoder.rows([sentence, sentence])
    assert sum(len(row.labels) for row in rows) == 6 and all(len(row.ids) <= 16 for row in rows)
    assert "2 words have more than 14 tokens; only their beginning is read" in capsys.readouterr().err


def test_windows_of_a_pair_move_over_its_longer_text(encoder):
    encoder._label_ids = {"yes": 0}
    rows = encoder.rows([LabeledText(("the cat", "abcdefghijklmnopqrst the dog"), ("yes",), "")])
    shown = [encoder.tokenizer.ids_to_tokens(row.ids) for row in rows]
    assert all(row[:4] == ["[CLS]", "the", "cat", "[SEP]"] and len(row) <= 16 for row in shown)
    assert all(row.num_first == 4 for row in rows)
    assert {piece for row in shown for piece in row} >= {"a", "##t", "dog"}

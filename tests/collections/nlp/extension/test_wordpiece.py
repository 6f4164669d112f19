"""Cutting words, and choosing the pieces that save most."""

import random
from string import ascii_lowercase

import pytest
from tokenizers import Tokenizer, models

from nemo.collections.nlp.extension.wordpiece import Selection, cost, split_word

LETTERS = {*ascii_lowercase, *(f"##{letter}" for letter in ascii_lowercase)}


def test_words_are_cut_as_tokenizers_does():
    rng = random.Random(0)
    for _ in range(20):
        pieces = {
            rng.choice(["", "##"]) + "".join(rng.choices("abc", k=rng.randint(1, 3))) for _ in range(15)
        }
        ids = {piece: i for i, piece in enumerate(["[UNK]", *sorted(pieces)])}
        backend = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
        for _ in range(50):
            word = "".join(rng.choices("abc", k=rng.randint(1, 8)))
            assert (split_word(word, pieces) or ["[UNK]"]) == backend.encode(word).tokens


def total(words, vocabulary):
    return sum(count * cost(word, vocabulary) for word, count in words.items())


def test_each_piece_saves_its_gain_and_the_first_one_saves_most():
    rng = random.Random(1)
    words = {"".join(rng.choices("abcd", k=rng.randint(2, 7))): rng.randint(1, 9) for _ in range(60)}
    candidates = {mark + word[i : i + 3] for word in words for i in range(3) for mark in ("", "##")} - LETTERS
    best = max(total(words, LETTERS) - total(words, LETTERS | {piece}) for piece in candidates)
    selection = Selection(words, LETTERS, candidates)
    selection.run(10, 0)
    vocabulary = set(LETTERS)
    gains = []
    for piece, gain in selection.chosen.items():
        before = total(words, vocabulary)
        vocabulary.add(piece)
        gains.append(before - total(words, vocabulary))
        assert gains[-1] == gain
    assert gains[0] == best and len(gains) == 10


def test_selection_ends_when_the_gain_is_too_small():
    selection = Selection({"abcd": 10, "xy": 3}, LETTERS, {"abcd", "ab", "xy"})
    selection.run(None, 5)
    assert selection.chosen == {"abcd": 30}


def test_a_piece_that_a_longer_one_replaced_is_taken_back():
    words = {"abc": 10, "abd": 4}
    selection = Selection(words, LETTERS, {"ab", "abc", "abd"})
    selection.run(None, 0)
    assert set(selection.chosen) == {"ab", "abc", "abd"} or "ab" not in selection.chosen
    selection.drop_unused()
    assert set(selection.chosen) == {"abc", "abd"}
    selection.run(None, 0)  # it is not added again
    assert set(selection.chosen) == {"abc", "abd"}


@pytest.mark.parametrize(("vocabulary", "expected"), [({"a"}, 3), (set(), 4)])
def test_an_unknown_word_costs_its_letters_and_those_it_lacks(vocabulary, expected):
    assert cost("ab", vocabulary) == expected


def test_of_two_missing_characters_each_gains():
    selection = Selection({"1a2": 10}, LETTERS, {"1", "##2"})
    selection.run(None, 5)
    assert selection.chosen == {"1": 10, "##2": 10}

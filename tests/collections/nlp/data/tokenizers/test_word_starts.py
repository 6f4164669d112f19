"""Where words begin: by marks, and by segmentation where a script has no spaces."""

from itertools import chain

import numpy as np
import pytest

from nemo.collections.nlp.data.tokenizers.word_starts import WordStarts


@pytest.fixture
def words_of():
    """Sentences of WordPiece tokens -> their words, each as the list of its tokens."""

    def split(*sentences: list[str]) -> list[list[str]]:
        vocabulary = ["[UNK]", *sorted({token for sentence in sentences for token in sentence} - {"[UNK]"})]
        ids = {token: i for i, token in enumerate(vocabulary)}
        marks = np.array([not token.startswith("##") for token in vocabulary])
        encoded = [np.array([ids[token] for token in sentence]) for sentence in sentences]
        starts = WordStarts(marks, vocabulary, np.array([0]))(encoded)
        words: list[list[str]] = []
        for token, is_start in zip(chain(*sentences), starts, strict=True):
            words += [[token]] if is_start else []
            if not is_start:
                words[-1].append(token)
        return words

    return split


def test_marks_decide_in_scripts_with_spaces(words_of):
    assert words_of(["the", "un", "##like", "##ly", "end"]) == [["the"], ["un", "##like", "##ly"], ["end"]]


def test_chinese_characters_are_joined_into_words(words_of):
    assert words_of(list("我爱北京天安门，")) == [["我"], ["爱"], ["北", "京"], ["天", "安", "门"], ["，"]]


def test_pieces_of_several_characters_are_aligned_by_their_offsets(words_of):
    # As SentencePiece writes Chinese: no piece but the first has a word mark.
    assert words_of(["我爱", "##北", "##京", "##天安", "##门"]) == [
        ["我爱"],
        ["##北", "##京"],
        ["##天安", "##门"],
    ]


def test_words_of_both_kinds_stand_side_by_side(words_of):
    assert words_of(["我", "爱", "py", "##thon", "good", "北", "京"]) == [
        ["我"],
        ["爱"],
        ["py", "##thon"],
        ["good"],
        ["北", "京"],
    ]


def test_latin_letters_after_a_chinese_character_start_a_word(words_of):
    assert words_of(["我爱", "##py", "##thon"]) == [["我爱"], ["##py", "##thon"]]


def test_a_word_may_be_of_both_scripts(words_of):
    assert words_of(["买", "T", "恤", "和", "B", "超", "，", "唱", "卡", "拉", "O", "##K"]) == [
        ["买"],
        ["T", "恤"],
        ["和"],
        ["B", "超"],
        ["，"],
        ["唱"],
        ["卡", "拉"],
        ["O", "##K"],
    ]


def test_tokens_separated_by_a_space_are_different_words(words_of):
    assert words_of(["A", "##A", "制"]) == [["A", "##A", "制"]]
    assert words_of(["A", "A", "制"]) == [["A"], ["A"], ["制"]]


def test_an_unknown_token_is_a_word_and_shifts_nothing(words_of):
    assert words_of(["北", "京", "[UNK]", "北", "京"]) == [["北", "京"], ["[UNK]"], ["北", "京"]]


def test_no_word_goes_from_one_sentence_into_the_next(words_of):
    assert words_of(["，", "北"], ["京", "，"]) == [["，"], ["北"], ["京"], ["，"]]

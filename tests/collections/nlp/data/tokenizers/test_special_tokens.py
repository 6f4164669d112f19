"""Special tokens: their names, their order, and their ids in a model that lacks them."""

import pytest

from nemo.collections.nlp.data.tokenizers import get_bert_special_tokens
from nemo.collections.nlp.data.tokenizers.special_tokens import vocabulary_order
from nemo.utils.errors import UsageError
from tests.collections.nlp.data.tokenizers.conftest import SPECIALS


def test_the_special_tokens_of_bert_are_five_distinct_ones_by_seven_names():
    tokens = get_bert_special_tokens("bert")
    assert list(tokens) == [
        "unk_token", "sep_token", "pad_token", "bos_token", "mask_token", "eos_token", "cls_token",
    ]  # fmt: skip
    assert list(dict.fromkeys(tokens.values())) == ["[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]"]


def test_an_unknown_family_of_special_tokens_is_refused():
    with pytest.raises(UsageError, match="bert, roberta, albert"):
        get_bert_special_tokens("brt")


@pytest.mark.parametrize(
    ("given", "order"),
    [
        (None, SPECIALS),
        (get_bert_special_tokens("bert"), SPECIALS),
        (["[MASK]", "[USER]", "[PAD]"], [*SPECIALS, "[USER]"]),
        (get_bert_special_tokens("roberta"), ["<pad>", "<unk>", "<s>", "</s>", "<mask>"]),
        ({"mask_token": "<hidden>"}, ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "<hidden>"]),
    ],
)
def test_a_vocabulary_begins_with_special_tokens_in_a_fixed_order(given, order):
    assert vocabulary_order(given) == order


def test_a_model_with_berts_special_tokens_needs_no_telling(pieces):
    assert [pieces.pad_id, pieces.unk_id, pieces.cls_id, pieces.sep_id, pieces.mask_id] == [0, 1, 2, 3, 4]
    assert (pieces.bos_id, pieces.eos_id) == (2, 3)
    before = pieces.fingerprint
    pieces.add_special_tokens(get_bert_special_tokens("bert"))
    assert pieces.vocab_size == pieces.original_vocab_size == 12
    assert pieces.fingerprint == before


def test_special_tokens_unknown_to_a_model_are_appended_in_order(without_specials):
    without_specials.add_special_tokens(get_bert_special_tokens("bert"))
    assert (without_specials.original_vocab_size, without_specials.vocab_size) == (5, 10)
    assert without_specials.special_token_to_id == {
        "[UNK]": 5,
        "[SEP]": 6,
        "[PAD]": 7,
        "[CLS]": 8,
        "[MASK]": 9,
    }
    assert without_specials.id_to_special_token[9] == "[MASK]"
    assert (without_specials.pad_token, without_specials.pad_id, without_specials.mask_id) == ("[PAD]", 7, 9)
    assert without_specials.special_ids.tolist() == [0, 1, 2, 5, 6, 7, 8, 9]


def test_a_list_of_special_tokens_does_not_name_them(without_specials):
    without_specials.add_special_tokens(["[PAD]", "[CLS]", "[PAD]"])
    assert without_specials.special_token_to_id == {"[PAD]": 5, "[CLS]": 6}
    with pytest.raises(UsageError, match=r"no pad_token; fix: call add_special_tokens"):
        _ = without_specials.pad_id


def test_a_kind_of_special_token_that_is_not_known_is_refused(pieces, words):
    for tokenizer in (pieces, words):
        with pytest.raises(UsageError, match="mask_token"):
            tokenizer.add_special_tokens({"mask_tokn": "[MASK]"})


def test_words_takes_special_tokens_as_a_list_or_by_kind(words):
    words.add_special_tokens(["[USER]", "[CLS]"])
    words.add_special_tokens({"eos_token": "[END]"})
    assert words.vocab_size == words.original_vocab_size + 2 == 14
    assert words.text_to_ids("the [USER]cat[END]") == [5, 12, 6, 13]
    assert (words.token_to_id("[END]"), words.eos_id, words.sep_id) == (13, 13, 3)
    assert words.special_ids.tolist() == [0, 1, 2, 3, 4, 12, 13]

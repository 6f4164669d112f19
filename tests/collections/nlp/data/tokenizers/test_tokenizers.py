"""From text to ids and back, one text at a time and many, and the vocabulary."""

import pickle
import random

import numpy as np
import pytest

from nemo.collections.nlp.data.tokenizers import (
    NemoBertTokenizer,
    SentencePieceTokenizer,
    get_bert_special_tokens,
    load_tokenizer,
)
from tests.collections.nlp.data.tokenizers.conftest import SPECIALS, TEXTS, write_model, write_vocabulary


def test_pieces_by_hand(pieces):
    assert pieces.text_to_tokens("the cats cat") == ["▁the", "▁cat", "s", "▁cat"]
    assert pieces.text_to_ids("the cats cat") == [5, 6, 7, 6]
    assert pieces.ids_to_tokens([5, 6, 7]) == ["▁the", "▁cat", "s"]
    assert pieces.tokens_to_ids(["▁the", "s", "nothing"]) == [5, 7, 1]
    assert pieces.token_to_id("[SEP]") == 3
    assert pieces.tokens_to_text(["▁the", "▁cat", "s"]) == "the cats"
    assert pieces.ids_to_text([2, 5, 6, 7, 3]) == "[CLS] the cats [SEP]"


def test_special_tokens_are_found_and_the_next_piece_starts_no_word(pieces):
    assert pieces.text_to_tokens("the [MASK]s cat") == ["▁the", "[MASK]", "s", "▁cat"]
    assert pieces.text_to_tokens("[CLS] the[SEP]") == ["[CLS]", "▁the", "[SEP]"]
    assert pieces.text_to_ids("the [MASK]s cat") == [5, 4, 7, 6]


def test_the_longest_of_two_special_tokens_is_found(without_specials):
    without_specials.add_special_tokens(["<x>", "<x>>"])
    assert without_specials.text_to_tokens("a<x>>b") == ["▁a", "<x>>", "b"]


def test_words_by_hand(words):
    assert words.text_to_tokens("the cats [MASK].") == ["the", "cat", "##s", "[MASK]", "."]
    assert words.text_to_ids("the cats Cat dog") == [5, 6, 7, 8, 1]
    assert words.ids_to_tokens([5, 7]) == ["the", "##s"]
    assert words.tokens_to_ids(["the", "nothing"]) == [5, 1]
    assert words.ids_to_text([2, 5, 6, 7, 3]) == "the cats"


def test_a_vocabulary_file_keeps_case_by_default(words, tmp_path):
    lower = NemoBertTokenizer(vocab_file=tmp_path / "vocab.txt", do_lower_case=True)
    assert words.text_to_tokens("The Cat") == ["[UNK]", "Cat"]
    assert lower.text_to_tokens("Thé Cat") == ["the", "cat"]


def test_a_word_is_unknown_beyond_a_hundred_characters_as_in_transformers(tmp_path):
    vocab = write_vocabulary(tmp_path / "vocab.txt", [*SPECIALS, "a", "##a"])
    tokenizer = NemoBertTokenizer(vocab_file=vocab)
    assert tokenizer.text_to_ids("a" * 100) == [5] + [6] * 99
    assert tokenizer.text_to_ids("a" * 101) == [1]


def test_the_vocabulary_of_process_wiki_zh_is_a_chinese_tokenizer(tmp_path):
    vocab = write_vocabulary(
        tmp_path / "vocab.txt", ["[PAD]", "[SEP]", "[CLS]", "[MASK]", "[UNK]", "中", "文"]
    )
    tokenizer = NemoBertTokenizer(vocab_file=vocab)
    assert tokenizer.text_to_ids("中 文字中文") == [5, 6, 4, 5, 6]
    assert [t.tolist() for t in tokenizer.encode_batch(["中 文字中文"])] == [[5, 6, 4, 5, 6]]
    assert (tokenizer.sep_id, tokenizer.cls_id, tokenizer.mask_id, tokenizer.unk_id) == (1, 2, 3, 4)


def test_a_corpus_is_encoded_like_a_text(tokenizer):
    batch = tokenizer.encode_batch(TEXTS)
    assert [ids.tolist() for ids in batch] == [tokenizer.text_to_ids(text) for text in TEXTS]
    assert {ids.dtype for ids in batch} == {np.dtype(np.int32)}
    assert tokenizer.encode_batch([]) == []


def test_in_a_corpus_only_the_unknown_token_is_special(tokenizer):
    (ids,) = tokenizer.encode_batch(["the [UNK] and [SEP] and [MASK]"])
    found = [tokenizer.id_to_special_token.get(i) for i in ids.tolist()]
    assert "[UNK]" in found
    assert not {"[SEP]", "[MASK]"} & set(found)


def odd_texts(number: int) -> list[str]:
    """Of characters that tokenizers leave out, replace, decompose, join, or take apart."""
    rng = random.Random(0)
    odd = " \t\n\u00a0\u3000\u0301\u200b\u00ad\u0345\x00\x1c\ufffd\u2028\ufeff▁##ﷺİßΣςﬁ½１Ａ中文字한글กำ😀🏽"
    of_planes = [chr(i) for i in range(0x20, 0x30000) if not 0xD800 <= i < 0xE000]
    kinds = ["abcdefgh", "      ", ".,;:!?-'()[]", odd, of_planes[:0x3000], of_planes]
    return ["".join(rng.choice(rng.choice(kinds)) for _ in range(rng.randint(0, 30))) for _ in range(number)]


@pytest.mark.parametrize("kind", ["pieces", "words", "words in lower case"])
def test_odd_text_in_a_corpus_has_the_ids_that_it_has_alone(kind, trained):
    if kind == "words in lower case":
        tokenizer = NemoBertTokenizer(vocab_file=trained["words"] / "vocab.txt", do_lower_case=True)
    else:
        tokenizer = load_tokenizer(trained[kind])
    texts = [*TEXTS, *odd_texts(3000), "a" * 300, "b " * 3000]
    for _ in range(2):  # when units are new, and when they are known
        batch = tokenizer.encode_batch(texts)
        for text, ids in zip(texts, batch, strict=True):
            assert ids.tolist() == tokenizer.text_to_ids(text), ascii(text)


@pytest.mark.parametrize(
    ("pieces_of_text", "text"),
    [
        ({"▁a": -1.0, "▁b": -1.0, "▁a▁b": -1.5, "▁": -3.0}, "a b a b"),
        ({"▁a": -1.0, "b": -1.0}, "a c d b"),  # the spaces before c and d are unknown, too
        ({"▁": -1.1, "00": -1.3, "0": -1.7}, "000 " * 200),  # ways to cut it are told apart by rounding
        ({"▁": -1.5, "00": -1.25, "0": -1.75}, "000 " * 200),
    ],
)
def test_pieces_that_depend_on_their_context_are_the_same_in_a_corpus(pieces_of_text, text, tmp_path):
    model = write_model(tmp_path / "m.model", list(pieces_of_text.items()), own_specials=True)
    tokenizer = SentencePieceTokenizer(model)
    assert [ids.tolist() for ids in tokenizer.encode_batch([text, "b"])] == [
        tokenizer.text_to_ids(text),
        tokenizer.text_to_ids("b"),
    ]


def test_words_that_were_forgotten_are_encoded_again(words, monkeypatch):
    monkeypatch.setattr("nemo.collections.nlp.data.tokenizers.units._REMEMBERED_CHARACTERS", 1)
    assert [ids.tolist() for ids in words.encode_batch(["the cats the cats"] * 2)] == [[5, 6, 7] * 2] * 2


def test_the_vocabulary_has_distinct_wordpiece_spellings(tmp_path):
    of_text = ["▁the", "s", "▁", "##", "▁##", "▁##s", "▁[CLS]", "[CLS]x", "▁▁", "▁▁the"]
    model = write_model(tmp_path / "m.model", [(piece, -1.0) for piece in of_text], own_specials=True)
    vocabulary = SentencePieceTokenizer(model).vocabulary()
    assert vocabulary[:5] == SPECIALS
    assert vocabulary[5:] == [
        "the", "##s", "▁", "####", "▁##", "▁##s", "▁[CLS]", "##[CLS]x", "▁▁", "▁▁the",
    ]  # fmt: skip
    assert len(set(vocabulary)) == len(vocabulary)


def test_starts_word_says_which_tokens_begin_a_word(pieces, words):
    assert pieces.starts_word.tolist() == [True] * 5 + [True, True, False, True, False, False, False]
    assert words.starts_word.tolist() == [True] * 7 + [False] + [True] * 4


def test_the_fingerprint_depends_on_entries_options_and_specials(tmp_path, without_specials):
    def fingerprint(name: str, tokens: list[str], **options) -> str:
        return NemoBertTokenizer(
            vocab_file=write_vocabulary(tmp_path / name, SPECIALS + tokens), **options
        ).fingerprint

    assert fingerprint("a", ["x", "y"]) == fingerprint("b", ["x", "y"])
    others = [
        fingerprint("c", ["y", "x"]),
        fingerprint("d", ["x", "y"], do_lower_case=True),
        without_specials.fingerprint,
    ]
    without_specials.add_special_tokens(["[PAD]"])
    assert len({fingerprint("a", ["x", "y"]), *others, without_specials.fingerprint}) == 5


def test_save_and_load_give_the_same_tokenizer(tokenizer, without_specials, tmp_path):
    without_specials.add_special_tokens({**get_bert_special_tokens("bert"), "eos_token": "<end>"})
    tokenizer.add_special_tokens(["[USER]"])
    for number, original in enumerate((tokenizer, without_specials)):
        folder = tmp_path / "new" / str(number)
        original.save(folder)
        again = load_tokenizer(folder)
        assert again.fingerprint == original.fingerprint
        assert again.special_token_to_id == original.special_token_to_id
        assert again.text_to_ids("the [USER] is it?") == original.text_to_ids("the [USER] is it?")
        assert (folder / "vocab.txt").read_text(encoding="utf-8").split("\n")[:-1] == again.vocabulary()


def test_tokenizers_can_be_sent_to_other_processes(tokenizer):
    tokenizer.encode_batch(TEXTS)
    copy = pickle.loads(pickle.dumps(tokenizer))
    assert copy.text_to_ids(TEXTS[0]) == tokenizer.text_to_ids(TEXTS[0])
    assert copy.encode_batch(TEXTS)[-1].tolist() == tokenizer.encode_batch(TEXTS)[-1].tolist()

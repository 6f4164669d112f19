import json
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from sentencepiece import sentencepiece_model_pb2
from transformers import AutoTokenizer, BertTokenizerFast, RobertaTokenizerFast

from nemo.collections.nlp.data.tokenizers import (
    NemoBertTokenizer,
    SentencePieceTokenizer,
    get_bert_special_tokens,
    load_tokenizer,
)
from nemo.collections.nlp.data.tokenizers.special_tokens import vocabulary_order
from nemo.collections.nlp.data.tokenizers.vocabulary import learn_sentencepiece, learn_wordpiece, sample_text
from nemo.utils.errors import MissingFileError, UsageError
from tests.conftest import PATIENCE

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TEXTS = [
    "The quick brown fox, 1 000 000 times: it's 00 or 000!",
    "Příliš žluťoučký kůň; Việt Nam, nhiều tiếng địa phương khác nhau.",
    "Prˇi´lisˇ Vie\u0323\u0302t nhie\u0302\u0300u ﬁnal ½ Ａｂｃ １２３ … “quoted”",
    "L'été dernier, l'œuvre naïve de Zoë à la Größe Straße",
    "他在北京大学学习中文，已经三年了。价格：１００元！",
    "  spaces   at both ends  ",
    "",
    "no\x1cbreak, tab\tand\u00a0hard space",
    "a [UNK] in the [UNK]s of a corpus, and one at the end [UNK]",
]


def write_model(path: Path, pieces: list[tuple[str, float]], own_specials: bool) -> Path:
    """A SentencePiece model of these pieces, with BERT's special tokens or with SentencePiece's own."""
    model = sentencepiece_model_pb2.ModelProto()
    kind = sentencepiece_model_pb2.ModelProto.SentencePiece
    for token in SPECIALS if own_specials else ["<unk>", "<s>", "</s>"]:
        model.pieces.add(
            piece=token, type=kind.UNKNOWN if token.lower().strip("[<>]") == "unk" else kind.CONTROL
        )
    for piece, score in pieces:
        model.pieces.add(piece=piece, score=score)
    model.trainer_spec.unk_id = 1 if own_specials else 0
    model.normalizer_spec.add_dummy_prefix = True
    path.write_bytes(model.SerializeToString())
    return path


def write_vocabulary(path: Path, tokens: list[str]) -> Path:
    path.write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8")
    return path


@pytest.fixture
def pieces(tmp_path) -> SentencePieceTokenizer:
    """Ids 5 to 11: ▁the ▁cat s ▁ c a t."""
    of_text = [
        ("▁the", -1.0),
        ("▁cat", -1.0),
        ("s", -2.0),
        ("▁", -3.0),
        ("c", -3.0),
        ("a", -3.0),
        ("t", -3.0),
    ]
    return SentencePieceTokenizer(write_model(tmp_path / "m.model", of_text, own_specials=True))


@pytest.fixture
def foreign(tmp_path) -> SentencePieceTokenizer:
    """A model that knows none of BERT's special tokens: <unk> <s> </s> ▁a b."""
    return SentencePieceTokenizer(
        write_model(tmp_path / "f.model", [("▁a", -1.0), ("b", -1.0)], own_specials=False)
    )


@pytest.fixture
def words(tmp_path) -> NemoBertTokenizer:
    """Ids 5 to 11: the cat ##s Cat [ ] ##."""
    tokens = [*SPECIALS, "the", "cat", "##s", "Cat", "[", "]", "."]
    return NemoBertTokenizer(vocab_file=write_vocabulary(tmp_path / "vocab.txt", tokens))


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> dict[str, Path]:
    """Folders with tokenizers that were trained on TEXTS."""
    folder = tmp_path_factory.mktemp("trained")
    text = folder / "text.txt"
    text.write_text("\n".join(TEXTS * 3), encoding="utf-8")
    sample = sample_text([text], 1000, 10**6, SPECIALS)
    for kind in ("pieces", "words"):
        (folder / kind).mkdir()
    (folder / "pieces/tokenizer.model").write_bytes(learn_sentencepiece(sample, SPECIALS, 150))
    write_vocabulary(folder / "words/vocab.txt", learn_wordpiece(sample, SPECIALS, 300))
    return {kind: folder / kind for kind in ("pieces", "words")}


@pytest.fixture(params=["pieces", "words"])
def tokenizer(request, trained):
    return load_tokenizer(trained[request.param])


# Special tokens.


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


def test_special_tokens_unknown_to_a_model_are_appended_in_order(foreign):
    foreign.add_special_tokens(get_bert_special_tokens("bert"))
    assert (foreign.original_vocab_size, foreign.vocab_size) == (5, 10)
    assert foreign.special_token_to_id == {"[UNK]": 5, "[SEP]": 6, "[PAD]": 7, "[CLS]": 8, "[MASK]": 9}
    assert foreign.id_to_special_token[9] == "[MASK]"
    assert (foreign.pad_token, foreign.pad_id, foreign.mask_id) == ("[PAD]", 7, 9)
    assert foreign.special_ids.tolist() == [0, 1, 2, 5, 6, 7, 8, 9]


def test_a_list_of_special_tokens_says_not_which_is_which(foreign):
    foreign.add_special_tokens(["[PAD]", "[CLS]", "[PAD]"])
    assert foreign.special_token_to_id == {"[PAD]": 5, "[CLS]": 6}
    with pytest.raises(UsageError, match=r"no pad_token; fix: call add_special_tokens"):
        _ = foreign.pad_id


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


# Text, tokens, ids.


def test_pieces_by_hand(pieces):
    assert pieces.text_to_tokens("the cats cat") == ["▁the", "▁cat", "s", "▁cat"]
    assert pieces.text_to_ids("the cats cat") == [5, 6, 7, 6]
    assert pieces.ids_to_tokens([5, 6, 7]) == ["▁the", "▁cat", "s"]
    assert pieces.tokens_to_ids(["▁the", "s", "nothing"]) == [5, 7, 1]
    assert pieces.token_to_id("[SEP]") == 3
    assert pieces.tokens_to_text(["▁the", "▁cat", "s"]) == "the cats"
    assert pieces.ids_to_text([2, 5, 6, 7, 3]) == "[CLS] the cats [SEP]"


def test_special_tokens_are_found_and_what_follows_begins_no_word(pieces):
    assert pieces.text_to_tokens("the [MASK]s cat") == ["▁the", "[MASK]", "s", "▁cat"]
    assert pieces.text_to_tokens("[CLS] the[SEP]") == ["[CLS]", "▁the", "[SEP]"]
    assert pieces.text_to_ids("the [MASK]s cat") == [5, 4, 7, 6]


def test_the_longest_of_two_special_tokens_is_found(foreign):
    foreign.add_special_tokens(["<x>", "<x>>"])
    assert foreign.text_to_tokens("a<x>>b") == ["▁a", "<x>>", "b"]


def test_words_by_hand(words):
    assert words.text_to_tokens("the cats [MASK].") == ["the", "cat", "##s", "[MASK]", "."]
    assert words.text_to_ids("the cats Cat dog") == [5, 6, 7, 8, 1]
    assert words.ids_to_tokens([5, 7]) == ["the", "##s"]
    assert words.tokens_to_ids(["the", "nothing"]) == [5, 1]
    assert words.ids_to_text([2, 5, 6, 7, 3]) == "the cats"


def test_a_vocabulary_file_keeps_case_unless_asked(words, tmp_path):
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


# The vocabulary.


def test_vocabulary_spells_pieces_as_wordpieces_without_two_alike(tmp_path):
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


def test_fingerprint_tells_vocabularies_options_and_special_tokens_apart(tmp_path, foreign):
    def fingerprint(name: str, tokens: list[str], **options) -> str:
        return NemoBertTokenizer(
            vocab_file=write_vocabulary(tmp_path / name, SPECIALS + tokens), **options
        ).fingerprint

    assert fingerprint("a", ["x", "y"]) == fingerprint("b", ["x", "y"])
    others = [
        fingerprint("c", ["y", "x"]),
        fingerprint("d", ["x", "y"], do_lower_case=True),
        foreign.fingerprint,
    ]
    foreign.add_special_tokens(["[PAD]"])
    assert len({fingerprint("a", ["x", "y"]), *others, foreign.fingerprint}) == 5


def test_save_and_load_give_the_same_tokenizer(tokenizer, foreign, tmp_path):
    foreign.add_special_tokens({**get_bert_special_tokens("bert"), "eos_token": "<end>"})
    tokenizer.add_special_tokens(["[USER]"])
    for number, original in enumerate((tokenizer, foreign)):
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


def test_a_folder_without_a_tokenizer_is_refused(tmp_path):
    with pytest.raises(MissingFileError, match=r"tokenizer\.json, tokenizer\.model or vocab\.txt"):
        load_tokenizer(tmp_path)


def test_a_vocabulary_with_a_configuration_is_read_with_it(tmp_path):
    write_vocabulary(tmp_path / "vocab.txt", [*SPECIALS, "the"])
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    assert load_tokenizer(tmp_path).text_to_ids("THE") == [5]
    (tmp_path / "tokenizer_config.json").write_text("[")
    with pytest.raises(UsageError, match=r"tokenizer_config\.json: not JSON"):
        load_tokenizer(tmp_path)


# Hugging Face.


def test_huggingface_has_the_same_ids_and_survives_saving(tokenizer, tmp_path):
    tokenizer.to_huggingface().save_pretrained(tmp_path)
    huggingface = AutoTokenizer.from_pretrained(tmp_path)
    assert len(huggingface) == tokenizer.vocab_size
    for text in [*TEXTS, "un[MASK]able the [MASK]. [MASK] it"]:
        ids = huggingface(text, add_special_tokens=False)["input_ids"]
        assert ids == tokenizer.text_to_ids(text), text
    assert huggingface.mask_token_id == tokenizer.mask_id
    assert huggingface.pad_token_id == tokenizer.pad_id


def test_huggingface_makes_berts_pairs(tokenizer, tmp_path):
    tokenizer.to_huggingface().save_pretrained(tmp_path)
    pair = AutoTokenizer.from_pretrained(tmp_path)("times", "it")
    a, b = tokenizer.text_to_ids("times"), tokenizer.text_to_ids("it")
    assert pair["input_ids"] == [tokenizer.cls_id, *a, tokenizer.sep_id, *b, tokenizer.sep_id]
    assert pair["token_type_ids"] == [0] * (len(a) + 2) + [1] * (len(b) + 1)


def test_wordpiece_is_a_bert_tokenizer_in_huggingface(words):
    assert isinstance(words.to_huggingface(), BertTokenizerFast)


def test_huggingface_gives_appended_special_tokens_their_ids(foreign):
    foreign.add_special_tokens(get_bert_special_tokens("bert"))
    ids = foreign.to_huggingface()("ab", "a[MASK]")["input_ids"]
    assert ids == [8, 3, 4, 6, 3, 9, 6]


def test_a_model_without_special_tokens_is_not_exported(foreign):
    with pytest.raises(UsageError, match="no pad_token"):
        foreign.to_huggingface()


@pytest.mark.parametrize("kind", ["pieces", "words"])
def test_huggingface_has_the_same_ids_on_real_text(kind, trained, shared_data):
    tokenizer = load_tokenizer(trained[kind])
    english = (shared_data / "abc_news" / "rural.txt").read_text(encoding="utf-8").splitlines()[:300]
    articles = (shared_data / "wiki_zh" / "AA" / "wiki_00").read_text(encoding="utf-8").splitlines()[:30]
    texts = english + [json.loads(article)["text"] for article in articles]
    theirs = tokenizer.to_huggingface()(texts, add_special_tokens=False)["input_ids"]
    assert [ids.tolist() for ids in tokenizer.encode_batch(texts)] == theirs


# Pretrained tokenizers.


def test_a_pretrained_tokenizer_is_read_from_a_huggingface_folder(words, tmp_path):
    words.tokenizer.save_pretrained(tmp_path / "model")
    tokenizer = NemoBertTokenizer(pretrained_model=tmp_path / "model")
    assert tokenizer.text_to_ids("the cats [MASK]") == [5, 6, 7, 4]
    assert tokenizer.special_tokens == get_bert_special_tokens("bert")


def test_a_relative_of_bert_has_its_own_special_tokens(tmp_path):
    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    vocab = {token: i for i, token in enumerate([*specials, "a", "b", "Ġ", "Ġa"])}
    RobertaTokenizerFast(vocab=vocab, merges=[("Ġ", "a")]).save_pretrained(tmp_path)
    tokenizer = NemoBertTokenizer(pretrained_model=tmp_path)
    assert tokenizer.special_tokens == get_bert_special_tokens("roberta")
    assert tokenizer.text_to_ids("b a<mask>") == [6, 8, 4]
    assert [ids.tolist() for ids in tokenizer.encode_batch(["b a"])] == [[6, 8]]
    assert tokenizer.starts_word.tolist() == [True] * 5 + [False, False, True, True]
    assert tokenizer.vocabulary()[5:] == ["##a", "##b", "Ġ", "a"]


def test_a_tokenizer_that_no_bert_can_use_is_refused(tmp_path):
    vocab = {token: i for i, token in enumerate([*SPECIALS[:4], "the"])}
    BertTokenizerFast(vocab=vocab, mask_token=None).save_pretrained(tmp_path / "model")
    config = tmp_path / "model" / "tokenizer_config.json"
    settings = json.loads(config.read_text()) | {"tokenizer_class": "PreTrainedTokenizerFast"}
    config.write_text(json.dumps({key: value for key, value in settings.items() if key != "mask_token"}))
    with pytest.raises(UsageError, match="not a BERT tokenizer; found no mask_token"):
        NemoBertTokenizer(pretrained_model=tmp_path / "model")


def test_a_damaged_pretrained_folder_is_refused(words, tmp_path):
    words.tokenizer.save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "tokenizer.json").write_text("{}")
    with pytest.raises(UsageError, match=r"model/tokenizer\.json: the tokenizer cannot be read"):
        NemoBertTokenizer(pretrained_model=tmp_path / "model")


@pytest.mark.slow
def test_a_name_is_looked_up_in_the_hubs_cache_or_a_clear_error(words, tmp_path):
    cached = tmp_path / "hub" / "models--google-bert--bert-base-uncased"
    words.tokenizer.save_pretrained(cached / "snapshots" / "1")
    (cached / "snapshots" / "1" / "config.json").write_text('{"model_type": "bert"}')
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("1")
    program = """
from nemo.collections.nlp.data.tokenizers import NemoBertTokenizer
print(NemoBertTokenizer(pretrained_model="bert-base-uncased").text_to_ids("the cats"))
try:
    NemoBertTokenizer(pretrained_model="bert-base-cased")
except ValueError as error:
    print(error)
"""
    offline = {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path / "hub"), "PATH": ""}
    run = subprocess.run([sys.executable, "-c", program], env=offline, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    ids, error = run.stdout.splitlines()
    assert ids == "[5, 6, 7]"
    assert error.startswith("bert-base-cased: no pretrained tokenizer of that name")


def test_a_tokenizer_of_nothing_is_refused():
    with pytest.raises(UsageError, match="either 'vocab_file' or 'pretrained_model' has to be specified"):
        NemoBertTokenizer()


def test_an_unknown_derivative_is_refused(tmp_path):
    with pytest.raises(UsageError, match="unknown BERT derivative"):
        NemoBertTokenizer(vocab_file=tmp_path / "vocab.txt", bert_derivative="gpt")


# Damaged files.

WHOLE = "".join(f"{token}\n" for token in SPECIALS).encode()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"vocab\.txt: the file is empty"),
        (b"\xef\xbb\xbf" + WHOLE, r"vocab\.txt:1: begins with a byte order mark"),
        (WHOLE + b"the\nca\xff\n", r"vocab\.txt:7: not UTF-8; found byte 0xff"),
        (b"the\n", r"vocab\.txt: special tokens are missing; expected \[PAD\], \[UNK\], \[CLS\]"),
        (WHOLE.replace(b"[MASK]\n", b""), r"vocab\.txt: special tokens are missing; expected \[MASK\]"),
    ],
)
def test_a_damaged_vocabulary_is_refused_with_its_line(tmp_path, content, message):
    vocab = tmp_path / "vocab.txt"
    vocab.write_bytes(content)
    with pytest.raises(UsageError, match=message) as error:
        NemoBertTokenizer(vocab_file=vocab)
    assert error.value.exit_code == 2


def test_a_vocabulary_may_have_windows_line_ends_and_no_last_one(tmp_path):
    vocab = tmp_path / "vocab.txt"
    vocab.write_bytes(WHOLE.replace(b"\n", b"\r\n") + "line\u2028break".encode())
    assert NemoBertTokenizer(vocab_file=vocab).vocabulary() == [*SPECIALS, "line\u2028break"]


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "bytes"])
def test_a_damaged_model_is_refused(tmp_path, damage):
    model = write_model(tmp_path / "m.model", [("▁a", -1.0), ("b", -1.0)], own_specials=True)
    whole = model.read_bytes()
    for content in {
        "empty": [b""],
        "text": [b"the cat sat on the mat\n" * 20],
        "cut": [whole[:end] for end in range(1, len(whole))],
        "bytes": [whole.replace("▁a".encode(), b"\xff\xfe\xfd\xfc")],
    }[damage]:
        model.write_bytes(content)
        with pytest.raises(UsageError, match=r"m\.model: "):
            SentencePieceTokenizer(model)


def test_a_model_that_is_too_large_is_not_read(tmp_path):
    model = tmp_path / "m.model"
    with model.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(UsageError, match=r"m\.model: too large for a tokenizer; found 1,099,511,627,776"):
        SentencePieceTokenizer(model)


@pytest.mark.parametrize(
    ("craft", "message"),
    [
        (
            lambda model: model.pieces.add(piece="x" * 300_000, score=-1.0),
            "damaged one; found piece is too long",
        ),
        (lambda model: model.pieces.add(piece="b", score=-1.0), "damaged one; found .*b is already defined"),
        (lambda model: model.ClearField("pieces"), "damaged one; found .*"),
        (
            lambda model: setattr(model.normalizer_spec, "precompiled_charsmap", b"\0\4\0\0" + b"\1" * 1026),
            "damaged one; found .*",
        ),
    ],
    ids=["a huge piece", "a piece twice", "no pieces", "a wild trie"],
)
def test_a_crafted_model_is_tried_in_another_process_and_refused(tmp_path, craft, message):
    path = write_model(tmp_path / "m.model", [("▁a", -1.0), ("b", -1.0)], own_specials=True)
    model = sentencepiece_model_pb2.ModelProto.FromString(path.read_bytes())
    craft(model)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UsageError, match=rf"m\.model: not a SentencePiece model, or a {message}") as error:
        SentencePieceTokenizer(path)
    assert "\n" not in str(error.value)


def test_a_model_that_crashes_whoever_opens_it_does_not_crash_us(tmp_path):
    # No model is known that crashes this version of SentencePiece, so the process that tries it is struck.
    path = write_model(tmp_path / "m.model", [(f"x{i}", -1.0) for i in range(100_000)], own_specials=True)

    def strike() -> None:
        while True:
            for child in Path(f"/proc/self/task/{main_thread}/children").read_text().split():
                if b"trial.py" in Path(f"/proc/{child}/cmdline").read_bytes():
                    return os.kill(int(child), signal.SIGSEGV)
            time.sleep(0.001)

    main_thread = threading.get_native_id()
    striker = threading.Thread(target=strike, daemon=True)
    striker.start()
    with pytest.raises(UsageError, match=r"m\.model: .*; found it crashed with SIGSEGV when it was tried"):
        SentencePieceTokenizer(path)
    striker.join(PATIENCE)
    assert SentencePieceTokenizer(path).vocab_size == 100_005  # it is tried again


def test_a_model_is_tried_once_in_a_process(tmp_path, monkeypatch):
    path = write_model(tmp_path / "m.model", [("▁once", -1.0)], own_specials=True)
    SentencePieceTokenizer(path)
    monkeypatch.setattr(sys, "executable", "/nowhere")
    assert SentencePieceTokenizer(path).vocab_size == 6
    write_model(path, [("▁twice", -1.0)], own_specials=True)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        SentencePieceTokenizer(path)


@pytest.mark.parametrize("make", [SentencePieceTokenizer, lambda path: NemoBertTokenizer(vocab_file=path)])
def test_a_missing_file_or_a_folder_is_refused_by_name(make, tmp_path):
    with pytest.raises(MissingFileError, match="nowhere: no such file"):
        make(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="cannot be read"):
        make(tmp_path)

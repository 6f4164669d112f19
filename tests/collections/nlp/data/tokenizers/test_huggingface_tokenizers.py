"""Tokenizers given to Hugging Face, and read from its folders."""

import json
import subprocess
import sys

import pytest
from transformers import AutoTokenizer, BertTokenizerFast, RobertaTokenizerFast

from nemo.collections.nlp.data.tokenizers import NemoBertTokenizer, get_bert_special_tokens, load_tokenizer
from nemo.utils.errors import UsageError
from tests.collections.nlp.data.tokenizers.conftest import SPECIALS, TEXTS


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


def test_huggingface_gives_appended_special_tokens_their_ids(without_specials):
    without_specials.add_special_tokens(get_bert_special_tokens("bert"))
    ids = without_specials.to_huggingface()("ab", "a[MASK]")["input_ids"]
    assert ids == [8, 3, 4, 6, 3, 9, 6]


def test_a_model_without_special_tokens_is_not_exported(without_specials):
    with pytest.raises(UsageError, match="no pad_token"):
        without_specials.to_huggingface()


@pytest.mark.parametrize("kind", ["pieces", "words"])
def test_huggingface_has_the_same_ids_on_real_text(kind, trained, shared_data):
    tokenizer = load_tokenizer(trained[kind])
    english = (shared_data / "abc_news" / "rural.txt").read_text(encoding="utf-8").splitlines()[:300]
    articles = (shared_data / "wiki_zh" / "AA" / "wiki_00").read_text(encoding="utf-8").splitlines()[:30]
    texts = english + [json.loads(article)["text"] for article in articles]
    theirs = tokenizer.to_huggingface()(texts, add_special_tokens=False)["input_ids"]
    assert [ids.tolist() for ids in tokenizer.encode_batch(texts)] == theirs


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
    assert error.startswith("bert-base-cased: no pretrained tokenizer of this name")

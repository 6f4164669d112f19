"""What no BERT could use or save is refused as soon as it is opened, with the file and what to do."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from transformers import AutoTokenizer, BertTokenizer

from nemo.collections.nlp.data.tokenizers import load_tokenizer
from nemo.utils.errors import UsageError

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "##a", "cat"]


def write_folder(folder: Path, **files: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def description(**model: Any) -> dict[str, Any]:
    """A `tokenizer.json` with other settings of its model."""
    tokenizer = BertTokenizer(vocab={word: number for number, word in enumerate(WORDS)})
    content: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    content["model"] |= model
    return content


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"tokenizer": description(continuing_subword_prefix="@@")},
            r"mark continued words differently; found '@@', expected '##'; fix: rewrite",
        ),
        (
            {"tokenizer": description(continuing_subword_prefix="")},
            r"mark continued words differently; found '', expected '##'; fix: rewrite",
        ),
        (
            {"tokenizer_config": {"tokenizer_class": "RoFormerTokenizer"}},
            r"custom code.*; found RoFormerTokenizer; fix: use another",
        ),
        (
            {"config": {"model_type": "roformer"}},
            r"custom code.*; found RoFormerTokenizer; fix: use another",
        ),
        (
            {"tokenizer_config": {"tokenizer_class": "BertTokenizer", "split_special_tokens": True}},
            r"split_special_tokens: true; fix: delete it",
        ),
        (
            {"tokenizer": description(type="WordLevel")},
            r"unsupported kind of tokenizer; found WordLevel, expected one of WordPiece, Unigram, BPE",
        ),
        (
            {"tokenizer_config": {"tokenizer_class": "PreTrainedTokenizerFast"}},
            r"found tokenizer_class 'PreTrainedTokenizerFast'; fix: add its tokenizer.json, or write",
        ),
        (
            {"tokenizer_config": {"tokenizer_class": "NoSuchTokenizer"}},
            r"found tokenizer_class 'NoSuchTokenizer'; fix: add its tokenizer.json, or write",
        ),
        (
            {"config": {"model_type": "none"}},
            r"found model_type 'none'; fix: add its tokenizer.json, or write",
        ),
    ],
)
def test_a_tokenizer_unfit_for_training_is_refused(tmp_path, files, message):
    folder = write_folder(tmp_path / "folder", **files)
    with pytest.raises(UsageError, match=message) as error:
        load_tokenizer(folder)
    assert str(error.value).startswith(f"{folder}: ")


@pytest.mark.parametrize("config", [None, {"model_type": "bert"}])
@pytest.mark.parametrize("name", ["spiece.model", "sentencepiece.bpe.model"])
def test_a_model_without_a_description_is_not_read_as_a_bert(tmp_path, name, config):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["the cat sat"] * 30),
        model_writer=model,
        vocab_size=30,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    (tmp_path / name).write_bytes(model.getvalue())
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match=f"the tokenizer has no vocabulary; .*fix: name {tmp_path / name}"):
        load_tokenizer(tmp_path)
    assert load_tokenizer(tmp_path / name).vocab_size > 5


def test_a_special_token_that_is_denied_is_used_with_a_warning(tmp_path, caplog):
    said = {"tokenizer_class": "BertTokenizer", "mask_token": None}
    folder = write_folder(tmp_path / "folder", tokenizer_config=said)
    assert AutoTokenizer.from_pretrained(folder).mask_token is None
    assert load_tokenizer(folder).mask_token == "[MASK]"
    assert "tokenizer_config.json says mask_token: null, but BERT needs one: [MASK] is used" in caplog.text


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"mask_token": "[UNK]"}, "[UNK] is both unk_token and mask_token"),
        ({"sep_token": "[CLS]"}, "[CLS] is both cls_token and sep_token"),
        ({}, None),
    ],
)
def test_one_token_for_two_purposes_is_warned_of(tmp_path, caplog, said, told):
    folder = write_folder(
        tmp_path / "folder",
        tokenizer_config={"tokenizer_class": "BertTokenizer", **said},
        config={"model_type": "bert"},
    )
    load_tokenizer(folder)
    assert (told or "") in caplog.text
    assert ("is both" in caplog.text) == (told is not None)

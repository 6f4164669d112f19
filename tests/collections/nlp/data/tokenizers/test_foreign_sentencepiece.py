"""SentencePiece models from elsewhere: trained, opened and exported, or refused with the reason."""

import io
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from transformers import AutoTokenizer

from nemo.collections.nlp.checkpoints.tokenizer_export import export_tokenizer
from nemo.collections.nlp.data.tokenizers import load_tokenizer
from nemo.utils.errors import UsageError

LINES = ["The cat sees a dog.", "naïve CAT don't COVID-19", "ごがたまこ 中文字 北京", "a ～ b ~ c"] * 30
TEXTS = ["The cat", "naïve  CAT ", "a▁ ▁a▁ ", "～ ~ x", "中文字abc", "é😀", "", "un[MASK]ed", "[CLS] a [SEP]"]
SYMBOLS = ["[PAD]", "[CLS]", "[SEP]", "[MASK]"]


def write_model(file: Path, **settings: Any) -> Path:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(LINES),
        model_writer=model,
        minloglevel=2,
        **{"vocab_size": 100, "hard_vocab_limit": False, **settings},
    )
    file.write_bytes(model.getvalue())
    return file


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"user_defined_symbols": SYMBOLS},
        {"byte_fallback": True, "vocab_size": 360},
        {"normalization_rule_name": "identity"},
        {"normalization_rule_name": "nfkc_cf"},
        {"add_dummy_prefix": False},
    ],
    ids=str,
)
def test_a_unigram_model_is_exported_with_its_ids(tmp_path, settings):
    file = write_model(tmp_path / "m.model", **settings)
    tokenizer = load_tokenizer(file)
    export_tokenizer(tokenizer, tmp_path / "out", max_length=16)
    theirs = AutoTokenizer.from_pretrained(tmp_path / "out")
    model = sentencepiece.SentencePieceProcessor(model_file=str(file))
    for text in TEXTS:
        assert theirs(text, add_special_tokens=False)["input_ids"] == tokenizer.text_to_ids(text), text
        if "[" not in text:
            assert tokenizer.text_to_ids(text) == model.encode(text), text


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"model_type": "bpe"}, "a bpe model"),
        ({"model_type": "char"}, "a char model"),
        ({"treat_whitespace_as_suffix": True}, "a model without a mark where words begin"),
        ({"remove_extra_whitespaces": False}, "a model in which every space counts"),
    ],
    ids=str,
)
def test_opening_a_model_warns_if_it_cannot_be_exported(tmp_path, caplog, settings, found):
    file = write_model(tmp_path / "m.model", **settings)
    tokenizer = load_tokenizer(file)
    assert f"{file} is {found}: BERT can be trained with it, but not exported" in caplog.text
    with pytest.raises(UsageError, match=f"m.model: cannot be exported .*found {found}.*; fix: train with"):
        tokenizer.to_huggingface()

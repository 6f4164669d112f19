import json
import os
import stat

import pytest
from transformers import AutoTokenizer, BertTokenizer

from nemo.collections.nlp.checkpoints.tokenizer_export import export_tokenizer
from nemo.collections.nlp.data.tokenizers import (
    NemoBertTokenizer,
    SentencePieceTokenizer,
    TokenizerSpec,
    load_tokenizer,
)
from nemo.collections.nlp.data.tokenizers.vocabulary import learn_sentencepiece
from nemo.utils.errors import CheckpointError

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [*SPECIALS, "a", "##a", "A", "the", "é", "e", "\u2028", ""]


@pytest.fixture
def words(tmp_path) -> NemoBertTokenizer:
    (tmp_path / "vocab.txt").write_text("".join(f"{word}\n" for word in WORDS), encoding="utf-8")
    return NemoBertTokenizer(vocab_file=tmp_path / "vocab.txt")


@pytest.fixture
def pieces(tmp_path) -> SentencePieceTokenizer:
    (tmp_path / "tokenizer.model").write_bytes(learn_sentencepiece(["the cat sat on it"] * 9, SPECIALS, 30))
    return SentencePieceTokenizer(tmp_path / "tokenizer.model")


@pytest.fixture
def long_words(tmp_path, words) -> TokenizerSpec:
    """Cuts words of up to 200 letters, and says so."""
    folder = tmp_path / "long"
    words.save(folder)
    description = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    description["model"]["max_input_chars_per_word"] = 200
    (folder / "tokenizer.json").write_text(json.dumps(description), encoding="utf-8")
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return load_tokenizer(folder)


@pytest.mark.parametrize("kind", ["words", "pieces", "long_words"])
def test_an_exported_tokenizer_gives_the_same_ids(tmp_path, request, kind):
    tokenizer = request.getfixturevalue(kind)
    out = tmp_path / "out"
    export_tokenizer(tokenizer, out, 64)
    reloaded = AutoTokenizer.from_pretrained(out)
    for text in ("the a aa é É", *("a" * length for length in (100, 101, 150, 200, 201))):
        assert reloaded(text, add_special_tokens=False)["input_ids"] == tokenizer.text_to_ids(text)
    assert reloaded.model_max_length == 64
    assert len(reloaded) == tokenizer.vocab_size
    tokenizer_class = json.loads((out / "tokenizer_config.json").read_text())["tokenizer_class"]
    assert tokenizer_class == ("BertTokenizer" if kind == "words" else "PreTrainedTokenizerFast")


def test_a_word_is_cut_up_to_the_length_that_the_folder_says(words, long_words):
    assert words.text_to_ids("a" * 150) == [1]
    assert long_words.text_to_ids("a" * 150) == [5] + [6] * 149


@pytest.mark.parametrize("kind", ["words", "pieces"])
def test_exported_files_have_the_permissions_of_the_umask(tmp_path, request, kind):
    tokenizer = request.getfixturevalue(kind)
    before = os.umask(0o022)
    try:
        export_tokenizer(tokenizer, tmp_path / "out", 64)
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "out").iterdir()}
    assert {"tokenizer.json", "tokenizer_config.json"} <= set(modes)
    assert ("vocab.txt" in modes) == (kind == "words")
    assert set(modes.values()) == {0o644}


def test_the_vocabulary_is_exported_line_by_line(tmp_path, words):
    export_tokenizer(words, tmp_path / "out", 64)
    lines = (tmp_path / "out" / "vocab.txt").read_text(encoding="utf-8").split("\n")
    assert lines == [*WORDS[:-1], ""]


def test_a_tokenizer_that_reloads_with_other_ids_is_not_exported(tmp_path, words, monkeypatch):
    other = BertTokenizer(vocab=str(tmp_path / "vocab.txt"), do_lower_case=True)
    monkeypatch.setattr(words, "to_huggingface", lambda: other)
    with pytest.raises(CheckpointError, match=r"different ids for '[A-Z]'.*; fix: train with another"):
        export_tokenizer(words, tmp_path / "out", 64)


@pytest.mark.slow
def test_a_tokenizer_that_gives_other_ids_for_long_words_is_not_exported(tmp_path, long_words, words):
    long_words.to_huggingface = words.to_huggingface
    with pytest.raises(CheckpointError, match=r"different ids for 'a+' ... \(101 characters\)"):
        export_tokenizer(long_words, tmp_path / "out", 64)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda other: other.add_tokens(["new"]), r"a different size; found 13, expected 12"),
        (
            lambda other: setattr(other, "mask_token", "the"),
            r"a different mask_token; found the, expected \[MASK\]",
        ),
    ],
)
def test_other_special_tokens_or_sizes_are_refused(tmp_path, monkeypatch, words, change, message):
    other = words.to_huggingface()
    change(other)
    monkeypatch.setattr(words, "to_huggingface", lambda: other)
    with pytest.raises(CheckpointError, match=message):
        export_tokenizer(words, tmp_path / "out", 64)

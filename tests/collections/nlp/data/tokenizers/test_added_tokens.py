"""Tokens that are added to a vocabulary keep their ids: the reference is transformers' `AutoTokenizer`."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from nemo.collections.nlp.checkpoints.tokenizer_export import export_tokenizer
from nemo.collections.nlp.data.tokenizers import load_tokenizer

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "##a", "cat", "zurich"]
TEXTS = ["a [MASK] b", "a [mask] b", "[USER] a [user]", "CAT cat a", "Zürich zurich"]


def entry(content: str, special: bool) -> dict[str, Any]:
    """A token that is looked for in the normalized text, as a file of transformers describes it."""
    flags = {"lstrip": False, "rstrip": False, "single_word": False, "normalized": True}
    return {"content": content, "special": special, **flags}


def write_folder(folder: Path, **files: Any) -> Path:
    """The words with JSON files beside them; do_lower_case is true where nothing says it."""
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


FOLDERS = {
    "mask": {
        "config": {"model_type": "bert"},
        "special_tokens_map": {"mask_token": entry("[MASK]", special=True)},
    },
    "user": {
        "tokenizer_config": {
            "tokenizer_class": "BertTokenizer",
            "added_tokens_decoder": {str(len(WORDS)): entry("[USER]", special=True)},
        }
    },
    "words": {
        "tokenizer_config": {
            "tokenizer_class": "BertTokenizer",
            "added_tokens_decoder": {
                str(len(WORDS)): entry("CAT", special=False),
                str(len(WORDS) + 1): entry("Zürich", special=False),
            },
        }
    },
}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_token_that_is_normalized_has_one_id_before_and_after_saving(tmp_path, caplog, name):
    folder = write_folder(tmp_path / "folder", **FOLDERS[name])
    theirs = AutoTokenizer.from_pretrained(folder)
    expected = theirs(TEXTS, add_special_tokens=False)["input_ids"]
    tokenizer = load_tokenizer(folder)
    tokenizer.save(tmp_path / "saved")
    export_tokenizer(tokenizer, tmp_path / "exported", max_length=16)
    for ours in (tokenizer, load_tokenizer(tmp_path / "saved"), load_tokenizer(tmp_path / "exported")):
        assert (ours.mask_id, ours.vocab_size) == (4, len(theirs))
        assert [ours.text_to_ids(text) for text in TEXTS] == expected
        assert ours.vocabulary() == sorted(theirs.get_vocab(), key=theirs.get_vocab().__getitem__)
    assert caplog.text == ""

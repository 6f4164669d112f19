"""A tokenizer is the one that its folder describes: the reference is transformers' `AutoTokenizer`."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken
from transformers import AutoTokenizer, BertTokenizer

from nemo.collections.nlp.data.tokenizers import (
    TokenizerSpec,
    load_tokenizer,
)
from nemo.utils.errors import UsageError
from tests.collections.nlp.data.tokenizers.test_tokenizer_folders import (
    SPECIALS,
    TEXT,
    VOCABULARY,
    write_json,
    write_lines,
)

WHITE_SPACE = ["\u2028", "\u3000", "\u0085", "\u00a0", "\u2028 ", "\u200b", "\ufeff"]
TOKENIZER_CLASSES = (
    "BertTokenizer", "BertTokenizerFast", "DistilBertTokenizer", "ElectraTokenizerFast",
    "PreTrainedTokenizerFast",
)  # fmt: skip


def make_folder(folder: Path, rng: random.Random) -> None:
    """Some folder that a BERT's tokenizer may have come in since 2018."""
    lines = make_lines(rng)
    write_lines(folder, lines)
    (folder / "tokenizer_config.json").write_text("{}")
    config = {
        "do_lower_case": [None, True, False],
        "strip_accents": [None, None, True, False],
        "tokenize_chinese_chars": [None, None, True, False],
        "never_split": [None, None, ["covid"]],
        "model_max_length": [None, 512],
        "tokenizer_class": [None, *TOKENIZER_CLASSES],
    }
    chosen = {name: rng.choice(values) for name, values in config.items()}
    said = {name: value for name, value in chosen.items() if value is not None}
    added = [
        AddedToken(
            "<new>", special=rng.random() < 0.5, normalized=rng.random() < 0.5, single_word=rng.random() < 0.5
        ),
        AddedToken("<wide>", lstrip=True, rstrip=rng.random() < 0.5, normalized=rng.random() < 0.5),
    ]
    description = rng.choice(["none", "saved", "saved", "only"])
    if description == "none":
        write_configuration(folder, said, added, len(lines), rng)
    else:
        save_tokenizer(folder, said, added, rng)
        if description == "only":
            (folder / "vocab.txt").unlink()
    write_special_tokens(folder, rng)
    model = rng.choice([None, "bert", "bert", "distilbert", "electra", ""])
    if model is not None:
        write_json(
            folder / "config.json", {"vocab_size": len(lines)} | ({"model_type": model} if model else {})
        )


def make_lines(rng: random.Random) -> list[str]:
    """A vocabulary, with oddities that real ones have."""
    lines = list(VOCABULARY)
    if rng.random() < 0.3:
        lines = [*lines[5:], *rng.sample(lines[:5], 5)]
    for token in rng.sample(WHITE_SPACE, rng.choice([0, 0, 1, 3])):
        lines.insert(rng.randrange(len(lines)), token)
    for oddity in rng.sample(["blank", "again", "spaced", "end"], rng.choice([0, 0, 1, 2])):
        at = rng.randrange(6, len(lines))
        made = {"blank": [""], "again": [rng.choice(lines[6:])], "spaced": ["qqq "], "end": []}[oddity]
        lines = [*lines, "", ""] if oddity == "end" else [*lines[:at], *made, *lines[at:]]
    return lines


def save_tokenizer(folder: Path, said: dict, added: list[AddedToken], rng: random.Random) -> None:
    """What transformers saves of the folder's tokenizer, with a configuration that says what it should."""
    write_json(folder / "tokenizer_config.json", said | {"tokenizer_class": "BertTokenizer"})
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if rng.random() < 0.4:
        tokenizer.add_tokens(added)
    if rng.random() < 0.5:
        tokenizer.backend_tokenizer.enable_truncation(16)
        tokenizer.backend_tokenizer.enable_padding(length=32, pad_id=tokenizer.pad_token_id)
    tokenizer.save_pretrained(folder)
    written = json.loads((folder / "tokenizer_config.json").read_text())
    if said.get("tokenizer_class") is None:
        del written["tokenizer_class"]
    else:
        written |= {"tokenizer_class": said["tokenizer_class"]}
    write_json(folder / "tokenizer_config.json", written)


def write_configuration(
    folder: Path, said: dict, added: list[AddedToken], first_id: int, rng: random.Random
) -> None:
    """A configuration beside a lone vocabulary, or none; added tokens have ids from `first_id`."""
    said.pop("tokenizer_class") if said.get("tokenizer_class") == "PreTrainedTokenizerFast" else None
    if rng.random() < 0.3:
        said["added_tokens_decoder"] = {
            str(first_id + i): {
                "content": token.content, "special": token.special, "normalized": token.normalized,
                "single_word": token.single_word, "lstrip": token.lstrip, "rstrip": token.rstrip,
            }
            for i, token in enumerate(added)
        }  # fmt: skip
    write_json(folder / "tokenizer_config.json", said)
    if rng.random() < 0.2:
        write_json(folder / "added_tokens.json", {"<new>": first_id})
    if rng.random() < 0.2:
        (folder / "tokenizer_config.json").unlink()


def write_special_tokens(folder: Path, rng: random.Random) -> None:
    """The special tokens by kind, in one of two forms, or not at all."""
    kinds = dict(
        zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIALS, strict=True)
    )
    if rng.random() < 0.3:
        write_json(folder / "special_tokens_map.json", kinds)
    elif rng.random() < 0.3:
        flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
        write_json(
            folder / "special_tokens_map.json",
            {kind: flags | {"content": token, "lstrip": token == "[MASK]"} for kind, token in kinds.items()},
        )


def reference(folder: Path) -> Any:
    """What `AutoTokenizer` opens; where nothing says that it is BERT's, with a configuration that does."""
    try:
        return AutoTokenizer.from_pretrained(folder)
    except ValueError:
        copy = shutil.copytree(folder, folder.with_name(f"{folder.name}-of-bert"))
        write_json(copy / "config.json", {"model_type": "bert"})
        return AutoTokenizer.from_pretrained(copy)


def is_bare(folder: Path) -> bool:
    return not any(
        (folder / name).exists() for name in ("tokenizer.json", "tokenizer_config.json", "config.json")
    )


def assert_same_ids(ours: TokenizerSpec, theirs: Any) -> None:
    expected = theirs(TEXT, add_special_tokens=False)["input_ids"]
    for text, ids, of_corpus in zip(TEXT, expected, ours.encode_batch(TEXT), strict=True):
        assert ours.text_to_ids(text) == ids, ascii(text)
        assert of_corpus.tolist() == ids, ascii(text)


@pytest.mark.parametrize("seed", range(14))
def test_any_folder_gives_autotokenizers_ids_before_and_after_saving(tmp_path, seed):
    folder, saved = tmp_path / "folder", tmp_path / "saved"
    rng = random.Random(seed)
    make_folder(folder, rng)
    theirs = (
        BertTokenizer.from_pretrained(folder, do_lower_case=False) if is_bare(folder) else reference(folder)
    )
    vocabulary = theirs.get_vocab()
    if len(set(vocabulary.values())) < len(vocabulary):
        with pytest.raises(UsageError, match="ids are missing or shared between tokens"):
            load_tokenizer(folder)
        return
    ours = load_tokenizer(folder)
    assert_same_ids(ours, theirs)
    ours.save(saved)
    again = load_tokenizer(saved)
    assert again.fingerprint == ours.fingerprint
    assert again.vocabulary() == ours.vocabulary()
    assert_same_ids(again, AutoTokenizer.from_pretrained(saved))
    assert [ids.tolist() for ids in again.encode_batch(TEXT)] == [
        ids.tolist() for ids in ours.encode_batch(TEXT)
    ]

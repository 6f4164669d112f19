"""A tokenizer is the one that its folder describes: the reference is transformers' `AutoTokenizer`."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import transformers
from tokenizers import AddedToken
from transformers import AutoTokenizer, BertTokenizer

from nemo.collections.nlp.data.tokenizers import TokenizerSpec, load_tokenizer
from nemo.collections.nlp.data.tokenizers.trial import TEXTS

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = [
    *"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,;:!?-'()[]<>@#/",
    *"äöüßéèçñåøİıŞşğ", "e\u0301", *"αβγδάέήΑΣσς", *"абвгдежзийёАЙ", *"אבגד", "שׁ", *"ابتثجحأإ", "ب\u064e",
    *"कखगा", "कि", "नी", *"กขคง", "กำ", "ที่", *"ごがたまこパハ", *"中文字北京大学", "한", "글", "ᄒ", "ᅡ", "ᆫ", *"ﬁ½１Ａ，。",
]  # fmt: skip
WORDS = ["the", "cat", "##s", "##ed", "The", "ende", "[user]", "covid", "世界", "##ﷺ", "naïve", "naive"]
VOCABULARY = list(dict.fromkeys([*SPECIALS, *LETTERS, *(f"##{c}" for c in LETTERS), *WORDS]))
WHITE_SPACE = ["\u2028", "\u3000", "\u0085", "\u00a0", "\u2028 ", "\u200b", "\ufeff"]
LONG = [letter * length for letter in "aAé中" for length in (99, 100, 101, 150, 200, 201)]
ODD = "a\tb\u00a0c\u3000d\u2028e\u0085f\x00g\ufffdh\u200bi\u00adj\x1ck\ufeffl\r\nm  n"
WITH_TOKENS = "the <new>cats <new> <new>s, un<wide>ed  <wide>  <WIDE>; ＜new＞ covid19 COVID-19 [user] [unk]s"
TEXT = [*TEXTS, *LONG, " ".join(LONG), ODD, WITH_TOKENS, "", " ", "The naïve cats’ ENDE — “quoted” 1 000,5"]

TOKENIZER_CLASSES = (
    "BertTokenizer", "BertTokenizerFast", "DistilBertTokenizer", "ElectraTokenizerFast", "PreTrainedTokenizerFast",
)  # fmt: skip


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def write_lines(folder: Path, lines: list[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_bytes("".join(f"{line}\n" for line in lines).encode())
    return folder


def write_description(folder: Path, **changes: Any) -> Path:
    """A `tokenizer.json` alone."""
    tokenizer = BertTokenizer(vocab={t: i for i, t in enumerate(VOCABULARY)}, do_lower_case=False)
    content = json.loads(tokenizer.backend_tokenizer.to_str()) | changes
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "tokenizer.json", content)
    return folder


def make_folder(folder: Path, rng: random.Random) -> None:
    """Some folder that a BERT's tokenizer may have come in since 2018."""
    lines = list(VOCABULARY)
    if rng.random() < 0.3:
        lines = [*lines[5:], *rng.sample(lines[:5], 5)]
    for token in rng.sample(WHITE_SPACE, rng.choice([0, 0, 1, 3])):
        lines.insert(rng.randrange(len(lines)), token)
    for oddity in rng.sample(["blank", "again", "spaced", "end"], rng.choice([0, 0, 1, 2])):
        at = rng.randrange(6, len(lines))
        made = {"blank": [""], "again": [rng.choice(lines[6:])], "spaced": ["qqq "], "end": []}[oddity]
        lines = [*lines, "", ""] if oddity == "end" else [*lines[:at], *made, *lines[at:]]
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
        AddedToken("<new>", special=rng.random() < 0.5, normalized=rng.random() < 0.5, single_word=rng.random() < 0.5),
        AddedToken("<wide>", lstrip=True, rstrip=rng.random() < 0.5, normalized=rng.random() < 0.5),
    ]
    description = rng.choice(["none", "saved", "saved", "only"])
    if description != "none":
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
        if description == "only":
            (folder / "vocab.txt").unlink()
    else:
        said.pop("tokenizer_class") if said.get("tokenizer_class") == "PreTrainedTokenizerFast" else None
        if rng.random() < 0.3:
            said["added_tokens_decoder"] = {
                str(len(lines) + i): {
                    "content": token.content, "special": token.special, "normalized": token.normalized,
                    "single_word": token.single_word, "lstrip": token.lstrip, "rstrip": token.rstrip,
                }
                for i, token in enumerate(added)
            }  # fmt: skip
        write_json(folder / "tokenizer_config.json", said)
        if rng.random() < 0.2:
            write_json(folder / "added_tokens.json", {"<new>": len(lines)})
        if rng.random() < 0.2:
            (folder / "tokenizer_config.json").unlink()
    kinds = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIALS, strict=True))
    if rng.random() < 0.3:
        write_json(folder / "special_tokens_map.json", kinds)
    elif rng.random() < 0.3:
        flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
        write_json(
            folder / "special_tokens_map.json",
            {kind: flags | {"content": token, "lstrip": token == "[MASK]"} for kind, token in kinds.items()},
        )
    model = rng.choice([None, "bert", "bert", "distilbert", "electra", ""])
    if model is not None:
        write_json(folder / "config.json", {"vocab_size": len(lines)} | ({"model_type": model} if model else {}))


def reference(folder: Path) -> Any:
    """What `AutoTokenizer` opens; where nothing says that it is BERT's, with a configuration that does."""
    try:
        return AutoTokenizer.from_pretrained(folder)
    except ValueError:
        copy = shutil.copytree(folder, folder.with_name(f"{folder.name}-of-bert"))
        write_json(copy / "config.json", {"model_type": "bert"})
        return AutoTokenizer.from_pretrained(copy)


def is_bare(folder: Path) -> bool:
    return not any((folder / name).exists() for name in ("tokenizer.json", "tokenizer_config.json", "config.json"))


def assert_same_ids(ours: TokenizerSpec, theirs: Any) -> None:
    expected = [theirs(text, add_special_tokens=False)["input_ids"] for text in TEXT]
    for text, ids in zip(TEXT, expected, strict=True):
        assert ours.text_to_ids(text) == ids, ascii(text)
    for _ in range(2):  # with units that are new, and that are known
        for text, ids, found in zip(TEXT, expected, ours.encode_batch(TEXT), strict=True):
            assert found.tolist() == ids, ascii(text)


@pytest.mark.parametrize("seed", range(24))
def test_any_folder_gives_the_ids_of_autotokenizer(tmp_path, seed):
    rng = random.Random(seed)
    for number in range(5):
        folder = tmp_path / str(number)
        make_folder(folder, rng)
        theirs = BertTokenizer.from_pretrained(folder, do_lower_case=False) if is_bare(folder) else reference(folder)
        vocabulary = theirs.get_vocab()
        if len(set(vocabulary.values())) < len(vocabulary):
            continue  # two tokens have one id, which is refused
        ours = load_tokenizer(folder)
        assert_same_ids(ours, theirs)
        ours.save(tmp_path / f"{number}-saved")
        again = load_tokenizer(tmp_path / f"{number}-saved")
        assert again.fingerprint == ours.fingerprint
        assert again.vocabulary() == ours.vocabulary()
        assert_same_ids(again, theirs)
        assert_same_ids(again, AutoTokenizer.from_pretrained(tmp_path / f"{number}-saved"))

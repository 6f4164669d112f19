"""Folders of tokenizers, one by one; test_any_tokenizer_folder.py puts them together at random."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models
from transformers import AutoTokenizer, BertTokenizer

from nemo.collections.nlp.data.tokenizers import (
    SentencePieceTokenizer,
    get_bert_special_tokens,
    load_tokenizer,
)
from nemo.collections.nlp.data.tokenizers.crash_test import TEXTS
from nemo.collections.nlp.data.tokenizers.vocabulary import learn_sentencepiece
from nemo.utils.errors import UsageError

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = [
    *"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,;:!?-'()[]<>@#/",
    *"äöüßéèçñåøİıŞşğ", "e\u0301", *"αβγδάέήΑΣσς", *"абвгдежзийёАЙ", *"אבגד", "שׁ", *"ابتثجحأإ", "ب\u064e",
    *"कखगा", "कि", "नी", *"กขคง", "กำ", "ที่", *"ごがたまこパハ", *"中文字北京大学",
    *"한글", "ᄒ", "ᅡ", "ᆫ", *"ﬁ½１Ａ，。",
]  # fmt: skip
WORDS = ["the", "cat", "##s", "##ed", "The", "ende", "[user]", "covid", "世界", "##ﷺ", "naïve", "naive"]
VOCABULARY = list(dict.fromkeys([*SPECIALS, *LETTERS, *(f"##{c}" for c in LETTERS), *WORDS]))
LONG = [letter * length for letter in "aAé中" for length in (99, 100, 101, 150, 200, 201)]
ODD = "a\tb\u00a0c\u3000d\u2028e\u0085f\x00g\ufffdh\u200bi\u00adj\x1ck\ufeffl\r\nm  n"
WITH_TOKENS = "the <new>cats <new> <new>s, un<wide>ed  <wide>  <WIDE>; ＜new＞ covid19 COVID-19 [user] [unk]s"
# Every character up to U+3100, and every twentieth hundred of the others, mostly Chinese and Korean ones.
TEXT = [
    *TEXTS[:124],
    *TEXTS[124::20],
    *LONG,
    " ".join(LONG),
    ODD,
    WITH_TOKENS,
    "",
    " ",
    "The naïve cats’ ENDE — “quoted” 1 000,5",
]


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


def test_truncation_and_padding_settings_are_ignored_and_kept(tmp_path):
    """As in every sentence-transformers model."""
    truncation = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    padding = {
        "strategy": {"Fixed": 4}, "direction": "Right", "pad_to_multiple_of": None,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]",
    }  # fmt: skip
    folder = write_description(tmp_path / "folder", truncation=truncation, padding=padding)
    tokenizer = load_tokenizer(folder)
    a = VOCABULARY.index("a")
    assert [ids.tolist() for ids in tokenizer.encode_batch(["a", "a a a a a a"])] == [[a], [a] * 6]
    assert tokenizer.text_to_ids("a a a a a a") == [a] * 6
    tokenizer.save(tmp_path / "saved")
    saved = json.loads((tmp_path / "saved" / "tokenizer.json").read_text())
    assert (saved["truncation"], saved["padding"]) == (truncation, padding)


@pytest.mark.parametrize("place", ["folder", "file"])
@pytest.mark.parametrize(
    "odd", [["\u2028"], ["\u2028", "\u3000", "\u0085", "\u00a0"], [""], ["", ""], ["a"], ["a", "a"]]
)
def test_an_id_is_the_number_of_its_line(tmp_path, odd, place):
    lines = [*SPECIALS, "a", *odd, "b", "##c", ""]
    folder = write_lines(tmp_path, lines)
    tokenizer = load_tokenizer(folder if place == "folder" else folder / "vocab.txt")
    b = lines.index("b")
    a = max(i for i, line in enumerate(lines) if line == "a")
    assert tokenizer.text_to_ids("a bc b") == [a, b, b + 1, b]
    assert [ids.tolist() for ids in tokenizer.encode_batch(["a bc b"])] == [[a, b, b + 1, b]]
    assert tokenizer.vocab_size == len(lines) - 1  # the last line is blank, and nothing needs an id there
    assert len(set(tokenizer.vocabulary())) == tokenizer.vocab_size
    # What no text can have is not drawn in place of a word, either.
    unused = {i for i, line in enumerate(lines[:-1]) if line == "" or (line == "a" and i != a)}
    assert set(tokenizer.special_ids.tolist()) == {0, 1, 2, 3, 4} | unused


def test_a_blank_line_is_warned_of_without_advice_that_would_do_damage(tmp_path, caplog):
    write_lines(tmp_path, [*SPECIALS, "a", "", "b", "", "a"])
    load_tokenizer(tmp_path)
    assert "vocab.txt:7: blank (and 1 more such lines), so the id of line 7 can never occur" in caplog.text
    assert "write a token such as [blank7] there" in caplog.text
    assert "vocab.txt:10: 'a' as in line 6" in caplog.text
    assert "delete" not in caplog.text


def test_saved_blank_and_repeated_lines_do_not_contradict_themselves(tmp_path, caplog):
    load_tokenizer(write_lines(tmp_path / "folder", [*SPECIALS, "a", "", "b", "a"])).save(tmp_path / "saved")
    caplog.clear()
    load_tokenizer(tmp_path / "saved")
    assert caplog.text == ""


@pytest.mark.parametrize(
    "config", [{}, {"strip_accents": False}, {"tokenize_chinese_chars": False}, {"do_lower_case": False}]
)
def test_a_configuration_of_the_model_beside_it_changes_nothing(tmp_path, config):
    folder = write_lines(tmp_path, VOCABULARY)
    write_json(folder / "tokenizer_config.json", config)
    without = load_tokenizer(folder)
    write_json(folder / "config.json", {"model_type": "bert"})
    theirs = AutoTokenizer.from_pretrained(folder)
    assert without.text_to_ids("É 中文 é") == theirs("É 中文 é", add_special_tokens=False)["input_ids"]
    assert without.fingerprint == load_tokenizer(folder).fingerprint


def test_a_model_of_2018_without_model_type_is_a_bert(tmp_path):
    folder = write_lines(tmp_path, VOCABULARY)
    write_json(folder / "config.json", {"vocab_size": len(VOCABULARY)})
    assert load_tokenizer(folder).text_to_tokens("The CAT") == ["the", "cat"]


def test_an_unknown_kind_of_tokenizer_is_refused_with_the_reason(tmp_path):
    folder = write_lines(tmp_path, VOCABULARY)
    write_json(folder / "tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["my.Tokenizer", None]}})
    with pytest.raises(UsageError, match=r"the tokenizer cannot be read; found .*custom code"):
        load_tokenizer(folder)


@pytest.mark.parametrize("name", [".", "tokenizer.json", "named.json", "description"])
def test_a_description_alone_has_berts_special_tokens_by_name(tmp_path, name):
    folder = write_description(tmp_path, added_tokens=[])
    if name not in (".", "tokenizer.json"):
        (folder / "tokenizer.json").rename(folder / name)
    tokenizer = load_tokenizer(folder / name)
    assert tokenizer.special_tokens == get_bert_special_tokens()
    assert (tokenizer.pad_id, tokenizer.mask_id) == (0, 4)
    assert tokenizer.text_to_ids("a [MASK]") == [VOCABULARY.index("a"), 4]
    tokenizer.save(tmp_path / "saved")
    again = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert again.mask_token == "[MASK]"
    assert again("a [MASK]")["input_ids"] == [2, VOCABULARY.index("a"), 4, 3]


def test_a_description_without_special_tokens_is_refused_with_advice(tmp_path):
    tokenizer = Tokenizer(models.WordPiece({"<what>": 0, "a": 1}, unk_token="<what>"))
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(UsageError, match=r"no pad_token.*; fix: define them in a tokenizer_config.json"):
        load_tokenizer(tmp_path)


def test_other_json_is_not_taken_for_a_vocabulary(tmp_path):
    write_json(tmp_path / "config", {"model_type": "bert"})
    with pytest.raises(UsageError, match="config: the tokenizer cannot be read"):
        load_tokenizer(tmp_path / "config")


@pytest.mark.parametrize("name", ["tokenizer.model", "pieces"])
def test_a_sentencepiece_model_is_recognized_when_it_is_named_as_a_file(tmp_path, name):
    (tmp_path / name).write_bytes(learn_sentencepiece(["the cat sat on the mat"] * 9, SPECIALS, 30))
    tokenizer = load_tokenizer(tmp_path / name)
    assert isinstance(tokenizer, SentencePieceTokenizer)
    assert tokenizer.mask_id == 4


def test_a_list_of_sentencepieces_is_not_a_wordpiece_vocabulary(tmp_path):
    write_lines(tmp_path, [*SPECIALS, *(f"▁{word}" for word in ("the", "cat", "sat", "on")), "s", "ed"])
    for place in (tmp_path, tmp_path / "vocab.txt"):
        with pytest.raises(UsageError, match=r"SentencePiece pieces, not WordPieces; found 4 of 11"):
            load_tokenizer(place)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda lines: [*lines[:5], "new", *lines[6:]], "token 5 is 'a', and line 6 is 'new'"),
        (lambda lines: [*lines[:5], "b", *lines[6:]], "token 5 is 'a', and line 6 is missing"),
        (
            lambda lines: [*lines, "new"],
            f"token {len(VOCABULARY)} is missing, and line {len(VOCABULARY) + 1} is 'new'",
        ),
        (
            lambda lines: lines[:-1],
            f"token {len(VOCABULARY) - 1} is 'naive', and line {len(VOCABULARY)} is missing",
        ),
        (lambda lines: lines, None),
    ],
)
def test_a_vocabulary_that_contradicts_its_description_warns(tmp_path, caplog, change, told):
    folder = write_lines(write_description(tmp_path), change(VOCABULARY))
    load_tokenizer(folder)
    assert ("contradicts" in caplog.text) == (told is not None)
    if told is not None:
        for name in ("tokenizer.json", "vocab.txt", told):
            assert name in caplog.text


def test_a_lone_vocabulary_warns_if_its_configuration_contradicts(tmp_path, caplog):
    folder = write_lines(tmp_path, VOCABULARY)
    write_json(folder / "tokenizer_config.json", {"do_lower_case": True})
    assert load_tokenizer(folder / "vocab.txt", do_lower_case=True).text_to_tokens("A") == ["a"]
    assert caplog.text == ""
    assert load_tokenizer(folder / "vocab.txt").text_to_tokens("A") == ["A"]
    assert "tokenizer_config.json says do_lower_case: true" in caplog.text


@pytest.mark.parametrize("do_lower_case", [True, False])
def test_do_lower_case_decides_for_a_lone_vocabulary(tmp_path, do_lower_case):
    folder = write_lines(tmp_path, VOCABULARY)
    for place in (folder, folder / "vocab.txt"):
        tokenizer = load_tokenizer(place, do_lower_case)
        assert tokenizer.text_to_tokens("The") == (["the"] if do_lower_case else ["The"])


def test_do_lower_case_is_refused_if_the_tokenizer_contradicts(tmp_path):
    folder = write_lines(tmp_path, VOCABULARY)
    write_json(folder / "tokenizer_config.json", {"do_lower_case": False})
    with pytest.raises(UsageError, match="--do_lower_case: the existing tokenizer is cased"):
        load_tokenizer(folder, do_lower_case=True)
    write_json(folder / "tokenizer_config.json", {"do_lower_case": True})
    with pytest.raises(UsageError, match="--no-do_lower_case: the existing tokenizer is uncased"):
        load_tokenizer(folder, do_lower_case=False)
    assert load_tokenizer(folder).text_to_tokens("A") == ["a"]


def test_in_a_corpus_special_tokens_of_no_kind_are_found(tmp_path):
    folder = write_lines(tmp_path, [*VOCABULARY, "[URL]"])
    write_json(folder / "tokenizer_config.json", {"extra_special_tokens": ["[URL]"]})
    tokenizer = load_tokenizer(folder)
    url = len(VOCABULARY)
    assert [i.tolist() for i in tokenizer.encode_batch(["a [URL]"])] == [[VOCABULARY.index("a"), url]]
    assert url in tokenizer.special_ids


def test_fingerprints_equal_those_of_earlier_versions(tmp_path):
    """Written down when all WordPieces were read with 200 letters in a word at most."""
    folder = write_lines(tmp_path, [*SPECIALS, "a", "##b", "the"])
    assert load_tokenizer(folder).fingerprint == (
        "ee2abfd7fb52f64c5a27b72c7f21168cdb77f7bc3c5cea25029ff9c395f49f06"
    )
    write_json(folder / "tokenizer_config.json", {"do_lower_case": True, "tokenizer_class": "BertTokenizer"})
    assert load_tokenizer(folder).fingerprint == (
        "051154e98b7b4b58f802ed20171672ca1327d6906f93399906c3c0eeb365a160"
    )


def test_tokenizers_need_no_torch():
    """Every process that tokenizes would take a second, and hundreds of MB, for it."""
    program = (
        "import sys, nemo.collections.nlp.data.inspection, nemo.collections.nlp.data.tokenizers.choice;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_wordpiece_vocabulary_without_unk_is_refused(tmp_path):
    """transformers adds [UNK] to what is read, and `tokenizers` fails at the first word that needs it."""
    write_lines(tmp_path / "t", ["the", "cat"])
    write_json(tmp_path / "t" / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer"})
    with pytest.raises(UsageError, match=r"its WordPieces have no unknown token; .*\[UNK\] among them"):
        load_tokenizer(tmp_path / "t")

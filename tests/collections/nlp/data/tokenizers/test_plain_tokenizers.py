"""Plain WordPiece tokenizers, opened without transformers, are what `AutoTokenizer` makes of their files."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from tokenizers import AddedToken
from transformers import AutoTokenizer, BertTokenizer

from nemo.collections.nlp.data.tokenizers import load_tokenizer
from nemo.utils.errors import UsageError
from tests.collections.nlp.data.tokenizers.test_tokenizer_folders import (
    TEXT,
    VOCABULARY,
    write_json,
    write_lines,
)


def write_plain(folder: Path, do_lower_case: bool = True) -> Path:
    """What `nemo-bert tokenizer` writes."""
    write_lines(folder, VOCABULARY)
    write_json(
        folder / "tokenizer_config.json", {"do_lower_case": do_lower_case, "tokenizer_class": "BertTokenizer"}
    )
    return folder


def test_plain_tokenizers_need_no_transformers(tmp_path):
    plain = write_plain(tmp_path / "plain")
    script = f"""
import sys
from pathlib import Path
from nemo.collections.nlp.data.tokenizers import load_tokenizer
plain = Path({str(plain)!r})
trained, file = load_tokenizer(plain), load_tokenizer(plain / "vocab.txt", do_lower_case=True)
trained.save(plain / "saved")
saved = load_tokenizer(plain / "saved")
saved.add_special_tokens(["[NEW]"])
for tokenizer in (trained, file, saved):
    (ids,) = tokenizer.encode_batch(["The cats [UNK]"])
    assert ids.tolist() == tokenizer.text_to_ids("The cats [UNK]"), ids
    assert tokenizer.fingerprint and tokenizer.ids_to_text(ids) == "the cats", tokenizer.ids_to_text(ids)
sys.exit("transformers" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("do_lower_case", [False, True])
def test_a_plain_tokenizer_is_saved_as_transformers_saves_it(tmp_path, do_lower_case):
    folder = write_plain(tmp_path / "plain", do_lower_case)
    ours, theirs = (
        load_tokenizer(folder),
        BertTokenizer(vocab={token: i for i, token in enumerate(VOCABULARY)}, do_lower_case=do_lower_case),
    )
    ours.add_special_tokens(["[NEW]"])
    theirs.add_tokens([AddedToken("[NEW]", special=True, normalized=False)])
    ours.save(tmp_path / "ours")
    theirs.save_pretrained(tmp_path / "theirs")
    for file in (tmp_path / "theirs").iterdir():
        assert (tmp_path / "ours" / file.name).read_bytes() == file.read_bytes()


def test_tokens_added_before_and_after_export_are_known_to_both(tmp_path):
    tokenizer = load_tokenizer(write_plain(tmp_path))
    before = tokenizer.vocab_size
    tokenizer.add_special_tokens(["[BEFORE]"])
    assert tokenizer.tokenizer.convert_tokens_to_ids("[BEFORE]") == before
    for one in (tokenizer, pickle.loads(pickle.dumps(tokenizer))):
        one.add_special_tokens(["[AFTER]"])
        assert one.tokenizer("[BEFORE][AFTER]", add_special_tokens=False).input_ids == [before, before + 1]
        assert one.text_to_ids("[BEFORE][AFTER]") == [before, before + 1]


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("tokenizer_config.json", {"tokenize_chinese_chars": False}),
        ("tokenizer_config.json", {"strip_accents": False}),
        ("tokenizer_config.json", {"do_lower_case": False}),
        ("tokenizer_config.json", {"unk_token": "[MASK]", "mask_token": "[UNK]"}),
        ("tokenizer_config.json", {"never_split": ["covid"]}),
        ("tokenizer_config.json", {"added_tokens_decoder": {"9": {"content": "i", "special": True}}}),
        ("tokenizer_config.json", {"model_max_length": 16}),
        ("tokenizer_config.json", {"tokenizer_class": "DistilBertTokenizer"}),
        ("config.json", {"model_type": "bert"}),
        ("special_tokens_map.json", {"mask_token": "[UNK]", "unk_token": "[MASK]"}),
        ("added_tokens.json", {"<new>": len(VOCABULARY)}),
        ("tokenizer.json", {"truncation": {"max_length": 4, "strategy": "LongestFirst", "stride": 0}}),
        ("tokenizer.json", {"normalizer": None}),
    ],
)
@pytest.mark.parametrize("is_saved", [False, True])
def test_settings_beside_a_plain_vocabulary_are_used(tmp_path, file, change, is_saved):
    folder = write_plain(tmp_path / "plain")
    if is_saved:
        load_tokenizer(folder).save(folder)
    elif file == "tokenizer.json":
        pytest.skip("there is none")
    path = folder / file
    write_json(path, json.loads(path.read_text()) | change if path.exists() else change)
    ours, theirs = load_tokenizer(folder), AutoTokenizer.from_pretrained(folder)
    theirs.backend_tokenizer.no_truncation()
    assert [ours.text_to_ids(text) for text in TEXT] == theirs(TEXT, add_special_tokens=False)["input_ids"]
    assert ours.unk_token == theirs.unk_token and ours.mask_token == theirs.mask_token


@pytest.mark.parametrize("value", [1, 0, "true", []])
def test_a_case_that_is_neither_true_nor_false_is_refused(tmp_path, value):
    folder = write_plain(tmp_path / "plain")
    write_json(folder / "tokenizer_config.json", {"do_lower_case": value})
    with pytest.raises(UsageError, match=r"cannot be read; found .* not an instance of 'bool'"):
        load_tokenizer(folder)

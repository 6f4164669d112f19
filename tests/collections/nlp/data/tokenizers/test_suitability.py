"""What a tokenizer takes from a text, told alike by every command."""

import json
from pathlib import Path

import pytest

from nemo.cli.main import main
from nemo.collections.nlp.data.tokenizers import NemoBertTokenizer, TokenizerSpec
from nemo.collections.nlp.data.tokenizers.suitability import (
    lacks_capitals,
    lost_marks,
    strips_marks,
    warning_of_lost_marks_in,
    warning_of_unknown,
)

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
JAPANESE = "にわとりがたまごをうむ。ごはんをたべる。"
SIZES = [
    "--num_hidden_layers",
    "1",
    "--hidden_size",
    "16",
    "--num_attention_heads",
    "2",
    "--intermediate_size",
    "16",
]


def tokenizer(folder: Path, *tokens: str, do_lower_case: bool = True) -> TokenizerSpec:
    (folder / "vocab.txt").write_text("\n".join([*SPECIALS, *tokens]) + "\n", encoding="utf-8")
    return NemoBertTokenizer(vocab_file=folder / "vocab.txt", do_lower_case=do_lower_case)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (JAPANESE, "が becomes か"),
        ("Tiếng Việt", "ế becomes e"),
        ("한국어", "한 is taken apart"),
        ("ёжик и йод", "ё becomes е"),
        ("हिन्दी", "U+094D is dropped"),
        ("cafe\u0301", "U+0301 is dropped"),
    ],
)
def test_characters_lost_by_lower_casing_are_named(tmp_path, text, told):
    warning = warning_of_lost_marks_in([text], tokenizer(tmp_path))
    assert told in warning
    assert "--do_lower_case" in warning


@pytest.mark.parametrize("text", ["A Naive Cat, " * 100 + "é", "中文。", "Привет", "ﬁ½１Ａ", ""])
def test_case_and_a_few_accents_are_not_a_loss(tmp_path, text):
    assert warning_of_lost_marks_in([text], tokenizer(tmp_path)) is None


def test_a_tokenizer_that_keeps_case_loses_no_characters(tmp_path):
    cased = tokenizer(tmp_path, do_lower_case=False)
    assert lost_marks({"が": 1}, cased.normalized).share == 0
    assert not strips_marks(cased)
    assert strips_marks(tokenizer(tmp_path))


def test_the_share_is_of_the_letters(tmp_path):
    lost = lost_marks({"が": 3, "か": 1, ".": 96}, tokenizer(tmp_path).normalized)
    assert (lost.share, lost.letters) == (0.75, {"が": "か"})


def test_unknown_tokens_cause_a_warning_with_advice(tmp_path):
    assert warning_of_unknown(0.005) is None
    assert "trained on such text" in warning_of_unknown(0.02)
    assert "--do_lower_case" in warning_of_unknown(0.02, is_uncased=True)
    assert lacks_capitals(tokenizer(tmp_path, "a", "cat", do_lower_case=False))
    assert not lacks_capitals(tokenizer(tmp_path, "a", "Cat", do_lower_case=False))
    assert not lacks_capitals(tokenizer(tmp_path, "a", "cat", do_lower_case=True))


@pytest.fixture(scope="module")
def japanese(tmp_path_factory) -> Path:
    text = tmp_path_factory.mktemp("text") / "ja.txt"
    text.write_text("\n\n".join(f"{JAPANESE}\n{JAPANESE}{i}" for i in range(20)), encoding="utf-8")
    return text


def run(command: str, text: Path, out: Path, *more: str) -> None:
    arguments = {
        "tokenizer": [str(text), "--vocab_size", "100", "--out", str(out)],
        "inspect": [str(text), "--workers", "1"],
        "show-batch": [str(text)],
        "pretrain": [
            "data_text",
            "--train_data",
            str(text),
            "--num_iters",
            "1",
            "--work_dir",
            str(out),
            *SIZES,
        ],
        "prepare": [str(text), "--workers", "1", "--test_fraction", "0", "--out", str(out)],
    }[command]
    assert main([command, *arguments, "--text_layout", "blank", *more]) == 0


def told(capsys) -> str:
    captured = capsys.readouterr()
    return " ".join((captured.out + captured.err).split())


@pytest.mark.parametrize("command", ["tokenizer", "inspect", "pretrain", "prepare"])
def test_every_command_that_reads_text_warns_of_lower_casing(tmp_path, capsys, japanese, command):
    tokenizer(tmp_path, *dict.fromkeys(JAPANESE), *"0123456789", *(f"##{d}" for d in "0123456789"))
    named = [] if command == "tokenizer" else ["--tokenizer", str(tmp_path / "vocab.txt")]
    run(command, japanese, tmp_path / "out", "--do_lower_case", *named)
    assert "が becomes か" in told(capsys)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["inspect", "pretrain", "prepare"])
def test_every_command_that_reads_text_warns_of_unknown_tokens(tmp_path, capsys, command):
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(f"The cat sat.\nTHE DOG RAN.\n{'a cat ' * i}" for i in range(20)))
    tokenizer(tmp_path, "the", "cat", "a", ".")
    run(command, text, tmp_path / "out", "--tokenizer", str(tmp_path / "vocab.txt"))
    assert "of the tokens are unknown; they can be neither learned nor predicted" in told(capsys)


def test_the_flag_means_the_same_in_every_command(tmp_path, capsys):
    """An uncased vocabulary that does not say its case: nothing of the text is unknown with the flag."""
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join("The CAT sat.\nA cat sat." for _ in range(20)))
    tokenizer(tmp_path, "the", "cat", "a", "sat", ".")
    named = ["--tokenizer", str(tmp_path / "vocab.txt"), "--do_lower_case"]
    run("pretrain", text, tmp_path / "run", *named)
    assert "0.00% of them unknown" in told(capsys)
    run("prepare", text, tmp_path / "prepared", *named)
    assert "0.00% unknown" in told(capsys)
    run("inspect", text, tmp_path, "--json", *named)
    assert json.loads(capsys.readouterr().out)["tokens"]["unknown_share"] == 0
    run("show-batch", text, tmp_path, "--json", *named)
    assert "[UNK]" not in capsys.readouterr().out

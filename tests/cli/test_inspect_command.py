"""`nemo-bert inspect`: what a person, and a machine, is told of data."""

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nemo.cli.main import main
from nemo.collections.nlp.data.inspection import advice, counts, text
from nemo.collections.nlp.data.store.token_store import open_or_build
from nemo.collections.nlp.data.tokenizers import load_tokenizer
from nemo.collections.nlp.data.tokenizers.vocabulary import train_tokenizer
from tests.cli.outcome import error_of
from tests.conftest import write_english
from tests.shards import make_rows, write_shard

CHINESE = "长江是中国第一大河，发源于青藏高原。它流经许多省份，最后注入东海。\n沿岸有很多大城市，人口众多。\n"


def inspected(capsys, *words) -> dict:
    """The object that --json prints."""
    capsys.readouterr()
    assert main(["inspect", *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def codes(figures: dict) -> list[str]:
    return [warning["code"] for warning in figures["warnings"]]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """English text in `text`, and in `out` what `prepare` makes of such: tokenizer, two stores, shards."""
    folder = tmp_path_factory.mktemp("made")
    text, out = write_english(folder / "text"), folder / "out"
    train_tokenizer("word-piece", [text / "train.txt"], out / "bert", 80)
    tokenizer = load_tokenizer(out / "bert")
    open_or_build(text / "train.txt", tokenizer, out / "train")
    open_or_build(text / "valid.txt", tokenizer, out / "test")
    sentences = [line for line in (text / "train.txt").read_text().splitlines() if line]
    specials = (tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id)
    ids = [encoded.tolist() for encoded in tokenizer.encode_batch(sentences)]
    rows = make_rows(40, 32, 4, tokenizer.vocab_size, sentences=ids, specials=specials)
    for name, some in (("text_training_0", rows[:30]), ("text_test_0", rows[30:])):
        write_shard(out / "hdf5_lower_case_0_seq_len_32" / "text" / f"{name}.hdf5", some, 32, 4)
    return folder


@pytest.mark.slow
def test_the_figures_of_a_text_are_right(made, capsys):
    lines = (made / "text" / "train.txt").read_text().splitlines()
    figures = inspected(capsys, made / "text" / "train.txt")
    assert figures["kind"] == "text"
    assert figures["formats"] == {"text, blank": 1}
    assert figures["documents"] == 120
    assert figures["paragraphs"] == figures["sentences"] == len([line for line in lines if line])
    assert figures["characters"] == sum(map(len, lines))
    assert figures["words"] == sum(len(line.split()) for line in lines)
    assert sum(figures["documents_by_length"].values()) == 120
    assert sum(figures["chars_by_length"].values()) == figures["characters"]
    different = len({line for line in lines if line})
    assert figures["repeated_paragraphs"] == pytest.approx(1 - different / figures["paragraphs"])
    assert figures["repeated_documents"] == 0
    assert figures["scripts"] == {"Latin": 1}
    assert next(iter(figures["languages"])) == "en"
    assert figures["tokens"] is None
    assert codes(figures) == ["little_text", "repeated_paragraphs"]


def test_with_a_tokenizer_there_are_figures_on_tokens(made, capsys):
    figures = inspected(capsys, made / "text" / "train.txt", "--tokenizer", made / "out" / "bert")
    store = inspected(capsys, made / "out" / "train")
    tokens = figures["tokens"]
    assert tokens["tokens"] == store["tokens"]
    assert figures["sentences"] == store["sentences"]
    assert tokens["unknown_share"] == store["unknown_share"] == 0
    assert tokens["unigram_entropy"] == pytest.approx(store["unigram_entropy"])
    assert tokens["pieces_per_word"] == pytest.approx(store["pieces_per_word"])
    assert tokens["pairs"] == store["pairs"]


def test_characters_that_a_tokenizer_does_not_know_are_named(made, tmp_path, capsys):
    (tmp_path / "text.txt").write_text("The cat ☃ sees the dog ☃ at night.\n" * 30 + CHINESE)
    figures = inspected(capsys, tmp_path / "text.txt", "--tokenizer", made / "out" / "bert")
    assert figures["tokens"]["unknown_characters"]["☃"] == 60
    assert "江" in figures["tokens"]["unknown_characters"]
    assert "unknown_tokens" in codes(figures)


def test_a_chinese_text_is_inspected(tmp_path, capsys):
    (tmp_path / "text.txt").write_text(CHINESE * 20, encoding="utf-8")
    figures = inspected(capsys, tmp_path)
    assert figures["scripts"] == {"Han": 1}
    assert figures["languages"] == {"zh": 1}
    assert figures["sentences"] == 60
    assert main(["inspect", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert re.search(r"^languages +Chinese 100%$", told, re.MULTILINE)
    assert "words  " not in told  # which are not between spaces


def test_everything_that_was_prepared_is_looked_at(made, capsys):
    train, test, shards = inspected(capsys, made / "out")["contents"]
    assert (train["kind"], train["documents"], test["documents"]) == ("store", 120, 20)
    assert (shards["kind"], shards["rows"], shards["held_out_rows"]) == ("shards", 30, 10)
    assert (shards["seq_length"], shards["max_predictions"]) == (32, 4)
    assert shards["fits_tokenizer"] is True
    assert main(["inspect", str(made / "out")]) == 0
    told = capsys.readouterr().out
    assert re.search(r"^training +30 rows +in 1 shard", told, re.MULTILINE)


def test_several_texts_are_one_corpus(made, tmp_path, capsys):
    with gzip.open(tmp_path / "more.jsonl.gz", "wt", encoding="utf-8") as file:
        for _ in range(3):
            file.write(json.dumps({"body": "A bird sees the river.\nIt follows the boat."}) + "\n")
    both = made / "text" / "train.txt", tmp_path / "more.jsonl.gz"
    figures = inspected(capsys, *both, "--text_field", "body")
    assert figures["documents"] == 123
    assert figures["repeated_documents"] == pytest.approx(2 / 123)
    assert figures["formats"] == {"json-lines, gzip": 1, "text, blank": 1}


def test_any_number_of_processes_finds_the_same(tmp_path, capsys, monkeypatch):
    write_english(tmp_path / "text")
    sections_of = text.sections_of
    monkeypatch.setattr(text, "sections_of", lambda sources: sections_of(sources, 5000))
    monkeypatch.setattr(counts, "EXCERPT_CHARS", 10_000)
    alone = inspected(capsys, tmp_path / "text", "--workers", "1")
    assert alone["sample_share"] < 0.6
    assert inspected(capsys, tmp_path / "text", "--workers", "2") == alone


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("One sentence is all there is in this document.\n\n" * 30, "documents_too_short_for_pairs"),
        ("A cat. A dog.\n\n" * 30, "repeated_documents"),
        ("".join(f"<p>Line {i} &amp; more</p>\n" for i in range(30)), "markup"),
        ("".join(f"word{i}\tNOUN\tO\n" for i in range(30)), "table"),
        ("".join(f"Line {i} of \ufffd text.\n" for i in range(30)), "replacement_characters"),
        ("".join(f"Line {i} of \x07 text.\n" for i in range(30)), "control_characters"),
        ("The river runs through the old town.\n" * 90 + CHINESE * 60, "mixed_languages"),
        ("".join(f"The {i}th river runs.\n{CHINESE}" for i in range(30)), "mixed_scripts"),
        ("no end of a sentence in sight " * 3000, "long_sentences"),
    ],
)
def test_problems_for_training_are_reported(text, code, tmp_path, capsys):
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    layout = ["--text_layout", "blank"] if "\n\n" in text else []
    assert code in codes(inspected(capsys, tmp_path, *layout))


def test_good_text_has_no_warning(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(advice, "FEW_CHARS", 50_000)
    words = ["river", "town", "bridge", "people", "evening", "boat", "garden", "winter", "summer", "house"]
    with open(tmp_path / "text.txt", "w") as file:
        for i in range(500):
            a, b, c = (words[(i * step) % 10] for step in (1, 3, 7))
            file.write(f"In the {a} of number {i} there was a {b}.\nFor {i} years it had been in the {c}.\n")
            file.write(f"Nobody, not even the old man of the {a}, could say why this was so in {i}.\n\n")
    assert codes(inspected(capsys, tmp_path)) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no text in the corpus"),
        (b"\n \n\n", "no text in the corpus"),
        (bytes(range(256)) * 20, "text.txt"),
        ("text".encode("utf-16"), "UTF-16"),
    ],
)
def test_a_file_that_is_not_text_is_refused(content, message, tmp_path, capsys):
    (tmp_path / "text.txt").write_bytes(content)
    assert main(["inspect", str(tmp_path / "text.txt")]) == 3
    assert message in error_of(capsys)


@pytest.mark.parametrize("text", ["a", "好", "One.", "..."])
def test_the_smallest_text_is_inspected(text, made, tmp_path, capsys):
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    figures = inspected(capsys, tmp_path / "text.txt", "--tokenizer", made / "out" / "bert")
    assert figures["characters"] == len(text)
    assert {"few_documents", "no_pairs"} <= set(codes(figures))
    assert main(["inspect", str(tmp_path / "text.txt"), "--tokenizer", str(made / "out" / "bert")]) == 0


def test_mistakes_are_reported_in_one_line(made, tmp_path, capsys):
    for words, exit_code, message in (
        ([], 2, "nothing to inspect"),
        ([str(tmp_path / "nowhere")], 3, "no such file or folder"),
        ([str(made / "out"), str(made / "text")], 2, "only text can be inspected together"),
        ([str(made / "text"), "--workers", "0"], 2, "--workers: out of range"),
    ):
        assert main(["inspect", *words]) == exit_code
        assert message in error_of(capsys)


def test_a_damaged_store_is_refused(made, tmp_path, capsys):
    shutil.copytree(made / "out" / "train", tmp_path / "store")
    with open(tmp_path / "store" / "tokens.bin", "ab") as file:
        file.write(b"x")
    assert main(["inspect", str(tmp_path / "store")]) == 3
    assert "damaged token store" in error_of(capsys)


@pytest.mark.slow
def test_in_a_pipe_the_report_is_plain_and_on_a_terminal_it_is_not(made, tmp_path):
    (tmp_path / "text.txt").write_text("evil \x1b[31m title [bold]\nevil \x1b[31m title [bold]\n" * 20)
    command = [sys.executable, "-m", "nemo.cli.main", "inspect", str(tmp_path / "text.txt"), "--workers", "1"]
    plain = subprocess.run(command, capture_output=True, check=True, encoding="utf-8").stdout
    assert "\x1b" not in plain
    assert "evil \\x1b[31m title [bold]" in plain
    report = [line for line in plain.splitlines() if not re.match(r"\d\d:\d\d:\d\d ", line)]
    assert max(map(len, report)) <= 100
    assert not any(line.endswith(" ") for line in report)
    forced = {**os.environ, "FORCE_COLOR": "1", "TERM": "xterm-256color"}
    colored = subprocess.run(command, capture_output=True, check=True, encoding="utf-8", env=forced).stdout
    assert "\x1b[36m" in colored
    assert "evil \\x1b[31m title [bold]" in re.sub(r"\x1b\[[\d;]*m", "", colored)
    assert "\x1b[31m" not in colored

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from nemo.collections.nlp.data.tokenizers import (
    NemoBertTokenizer,
    SentencePieceTokenizer,
    load_tokenizer,
    vocabulary,
)
from nemo.collections.nlp.data.tokenizers.sentencepiece import parse_model
from nemo.collections.nlp.data.tokenizers.vocabulary import (
    LINE_BYTES,
    draw_lines,
    find_or_train_tokenizer,
    train_tokenizer,
)
from nemo.utils.errors import DataError, StorageError, UsageError

KINDS = ["sentence-piece", "word-piece"]
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def write(folder: Path, *lines: str) -> list[Path]:
    path = folder / "text.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    return [path]


@pytest.fixture
def corpus(tmp_path) -> list[Path]:
    """Lines of made-up words of the letters a to p, some frequent and most of them rare."""
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefghijklmnop", k=rng.randint(1, 8))) for _ in range(400)]
    return write(tmp_path, *(" ".join(rng.sample(words[: 4 ** rng.randint(2, 4)], 8)) for _ in range(600)))


@pytest.fixture(params=KINDS)
def kind(request) -> str:
    return request.param


# The lines to learn from.


def test_all_lines_of_a_small_corpus_are_drawn(tmp_path):
    assert draw_lines(write(tmp_path, "one", "", "two three", "four"), 100, 100) == [
        "one",
        "two three",
        "four",
    ]


def test_lines_drawn_keep_to_both_limits(tmp_path):
    files = write(tmp_path, *(f"line {i:03}" for i in range(1000)))
    assert len(draw_lines(files, 100, 10**6)) == 100
    assert sum(map(len, draw_lines(files, 10**6, 80))) == 80


def test_lines_are_drawn_from_the_whole_corpus_in_its_order(tmp_path):
    drawn = draw_lines(write(tmp_path, *(f"{i:04}" for i in range(2000))), 200, 10**6)
    assert drawn == sorted(drawn)
    in_each_quarter = [sum(500 * q <= int(line) < 500 * q + 500 for line in drawn) for q in range(4)]
    assert min(in_each_quarter) >= 30


def test_of_a_large_corpus_the_same_pieces_from_all_over_are_read(tmp_path, monkeypatch):
    for name in "abcdefghijklmnopqrst":
        (tmp_path / f"{name}.txt").write_text(f"{name} one\n{name} two\n" * 50)  # 600 bytes
    monkeypatch.setattr(vocabulary, "READ_BYTES", 3000)
    drawn = draw_lines([tmp_path], 10**6, 10**6)
    letters = [line[0] for line in drawn]
    assert len(set(letters)) == 5 and letters == sorted(letters)
    assert max(letters) > "j" > min(letters)
    assert drawn == draw_lines([tmp_path], 10**6, 10**6)


def test_long_lines_are_cut_at_spaces_and_nothing_is_lost(tmp_path):
    words = " ".join(f"wörd{i}" for i in range(3000))
    drawn = draw_lines(write(tmp_path, words, "文" * 3000), 10**6, 10**6)
    assert max(len(line.encode()) for line in drawn) <= LINE_BYTES
    spaced = [line for line in drawn if "文" not in line]
    assert " ".join(line.strip() for line in spaced) == words
    assert "".join(line for line in drawn if "文" in line) == "文" * 3000


def test_special_tokens_are_not_learned(tmp_path):
    assert draw_lines(write(tmp_path, "a [UNK] b[MASK]", "[UNK]"), 10, 100, SPECIALS) == ["a   b "]


def test_a_corpus_without_text_is_an_error(tmp_path, kind):
    with pytest.raises(DataError, match=r"text\.txt: no text to learn a vocabulary from"):
        train_tokenizer(kind, write(tmp_path, "", " ", "[UNK]"), tmp_path / "bert", 100)


# The vocabulary.


def test_the_vocabulary_has_the_given_size_and_vocab_txt_lists_it(kind, corpus, tmp_path):
    tokenizer = train_tokenizer(kind, corpus, tmp_path / "bert", 120)
    assert tokenizer.vocab_size == 120
    lines = (tmp_path / "bert" / "vocab.txt").read_text(encoding="utf-8").split("\n")
    assert lines.pop() == ""
    assert lines == tokenizer.vocabulary()
    assert lines[:5] == SPECIALS == tokenizer.ids_to_tokens([0, 1, 2, 3, 4])
    assert len(set(lines)) == 120
    assert all(line.strip() for line in lines)


def test_what_was_trained_is_what_is_loaded(kind, corpus, tmp_path):
    tokenizer = train_tokenizer(kind, corpus, tmp_path / "bert", 120, do_lower_case=True)
    again = load_tokenizer(tmp_path / "bert")
    assert again.fingerprint == tokenizer.fingerprint
    assert again.text_to_ids("BAD CAFE") == tokenizer.text_to_ids("bad cafe")
    assert again.unk_id not in again.text_to_ids("BAD CAFE")


def test_a_text_that_gives_few_entries_gets_a_smaller_vocabulary(kind, tmp_path):
    tokenizer = train_tokenizer(kind, write(tmp_path, *["the cat sat"] * 5), tmp_path / "bert", 5000)
    assert 12 <= tokenizer.vocab_size < 50


@pytest.mark.parametrize("vocab_size", [-1, 0, 1, 4, 5, 10])
def test_a_vocabulary_that_is_too_small_is_refused_with_the_least_size(kind, vocab_size, tmp_path):
    # Letters a to j; WordPiece needs each of them a second time, as a continuation.
    files = write(tmp_path, *["abcdefghij jihgfedcba"] * 5)
    least = 25 if kind == "word-piece" else 16
    with pytest.raises(
        UsageError, match=f"vocab_size: too small .*; found {vocab_size}, expected at least {least}"
    ):
        train_tokenizer(kind, files, tmp_path / "bert", vocab_size)
    assert train_tokenizer(kind, files, tmp_path / "bert", least).vocab_size == least


def test_no_line_is_left_out_for_its_length_or_its_characters(kind, tmp_path):
    files = write(tmp_path, *["the cat"] * 50, "the cat " * 1000 + "zz " * 20, "\u2585 " + "qq " * 20)
    tokenizer = train_tokenizer(kind, files, tmp_path / "bert", 60)
    assert tokenizer.unk_id not in tokenizer.text_to_ids("zz qq")


def test_rare_characters_take_no_room(kind, tmp_path):
    files = write(tmp_path, *["the cat sat on the mat"] * 1000, "日本語")
    tokenizer = train_tokenizer(kind, files, tmp_path / "bert", 40)
    assert not {"日", "##日"} & set(tokenizer.vocabulary())


def test_of_equally_rare_characters_the_lowest_code_points_are_kept(tmp_path):
    # 10 010 characters; 99.95 % of them are 10 004.995.
    files = write(tmp_path, *["a" * 100] * 100, "q w e r t y u i o p")
    vocabulary = train_tokenizer("word-piece", files, tmp_path / "bert", 100).vocabulary()
    assert {token for token in vocabulary if len(token) == 1} == set("a" + "eiopq")


def test_scores_add_up_exactly_so_that_ties_are_broken_by_order(corpus, tmp_path):
    train_tokenizer("sentence-piece", corpus, tmp_path / "bert", 120)
    model = parse_model((tmp_path / "bert" / "tokenizer.model").read_bytes(), "")
    assert all((piece.score * 256).is_integer() for piece in model.pieces)


def test_chinese_characters_and_punctuation_continue_no_word(tmp_path):
    files = write(tmp_path, *["他在大学，学中文。ab"] * 20)
    vocabulary = train_tokenizer("word-piece", files, tmp_path / "bert", 30).vocabulary()
    assert [token for token in vocabulary if token.startswith("##")] == ["##a", "##b"]
    assert {*"他在大学，中文。ab"} <= set(vocabulary)


@pytest.mark.parametrize(
    ("given", "first"),
    [
        (["[USER]"], [*SPECIALS, "[USER]"]),
        ({"mask_token": "[HIDE]", "bos_token": "[BOS]"}, [*SPECIALS[:4], "[HIDE]", "[BOS]"]),
    ],
)
def test_given_special_tokens_come_first(corpus, tmp_path, given, first):
    tokenizer = train_tokenizer("sentence-piece", corpus, tmp_path / "bert", 120, special_tokens=given)
    assert tokenizer.vocabulary()[: len(first)] == first
    assert tokenizer.vocab_size == 120
    assert load_tokenizer(tmp_path / "bert").special_token_to_id == tokenizer.special_token_to_id


def test_wordpiece_has_berts_special_tokens_and_more(corpus, tmp_path):
    tokenizer = train_tokenizer("word-piece", corpus, tmp_path / "bert", 120, special_tokens=["[USER]"])
    assert tokenizer.vocabulary()[:6] == [*SPECIALS, "[USER]"]
    assert tokenizer.text_to_ids("[USER]") == [5]


PROGRAM = """
import sys
from pathlib import Path
from nemo.collections.nlp.data.tokenizers.vocabulary import train_tokenizer
for kind in ("sentence-piece", "word-piece"):
    train_tokenizer(kind, [Path(sys.argv[1])], Path(sys.argv[2]) / kind, 300, sample_size=400)
"""


@pytest.mark.slow
def test_every_run_gives_the_same_bytes(corpus, tmp_path):
    for seed in ("0", "1"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run(
            [sys.executable, "-c", PROGRAM, corpus[0], tmp_path / seed], env=environment, check=True
        )
    for kind, name in zip(KINDS, ("tokenizer.model", "vocab.txt"), strict=True):
        first, second = ((tmp_path / seed / kind / name).read_bytes() for seed in ("0", "1"))
        assert first == second


# The folder.


def test_nothing_in_the_folder_is_overwritten(kind, corpus, tmp_path):
    (tmp_path / "vocab.txt").write_text("mine\n")
    with pytest.raises(UsageError, match=r"vocab\.txt: already exists, not overwritten"):
        train_tokenizer(kind, corpus, tmp_path, 120)
    assert (tmp_path / "vocab.txt").read_text() == "mine\n"


def test_a_folder_that_cannot_be_made_is_a_storage_error(kind, corpus, tmp_path):
    (tmp_path / "bert").write_text("a file")
    with pytest.raises(StorageError, match="bert: "):
        train_tokenizer(kind, corpus, tmp_path / "bert", 120)


def test_an_unknown_kind_is_refused(corpus, tmp_path):
    with pytest.raises(UsageError, match="did you mean 'word-piece'"):
        find_or_train_tokenizer("wordpiece", corpus, tmp_path, 120)


def test_an_existing_tokenizer_is_used(corpus, tmp_path):
    trained = find_or_train_tokenizer("sentence-piece", corpus, tmp_path, 120)
    found = find_or_train_tokenizer("sentence-piece", corpus, tmp_path, 500)
    assert isinstance(found, SentencePieceTokenizer)
    assert found.fingerprint == trained.fingerprint


def test_an_existing_vocabulary_file_is_used_for_either_kind(kind, corpus, tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join([*SPECIALS, "the", "cat"]))
    found = find_or_train_tokenizer(kind, corpus, tmp_path, 500)
    assert isinstance(found, NemoBertTokenizer)
    assert found.vocab_size == 7


def test_word_piece_is_not_silently_sentence_piece(corpus, tmp_path):
    find_or_train_tokenizer("sentence-piece", corpus, tmp_path, 120)
    with pytest.raises(UsageError, match="contains a SentencePiece model"):
        find_or_train_tokenizer("word-piece", corpus, tmp_path, 120)

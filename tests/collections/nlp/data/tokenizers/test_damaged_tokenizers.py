"""What is refused, and how it is said."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from sentencepiece import sentencepiece_model_pb2

from nemo.collections.nlp.data.tokenizers import NemoBertTokenizer, SentencePieceTokenizer, load_tokenizer
from nemo.utils.errors import MissingFileError, UsageError
from tests.collections.nlp.data.tokenizers.conftest import SPECIALS, write_model, write_vocabulary
from tests.conftest import PATIENCE

WHOLE = "".join(f"{token}\n" for token in SPECIALS).encode()


def test_a_tokenizer_without_a_source_is_refused():
    with pytest.raises(UsageError, match="either 'vocab_file' or 'pretrained_model' has to be specified"):
        NemoBertTokenizer()


def test_an_unknown_derivative_is_refused(tmp_path):
    with pytest.raises(UsageError, match="unknown BERT derivative"):
        NemoBertTokenizer(vocab_file=tmp_path / "vocab.txt", bert_derivative="gpt")


def test_a_folder_without_a_tokenizer_is_refused(tmp_path):
    with pytest.raises(MissingFileError, match=r"tokenizer\.json, tokenizer\.model or vocab\.txt"):
        load_tokenizer(tmp_path)


def test_a_vocabulary_with_a_configuration_is_read_with_it(tmp_path):
    write_vocabulary(tmp_path / "vocab.txt", [*SPECIALS, "the"])
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    assert load_tokenizer(tmp_path).text_to_ids("THE") == [5]
    (tmp_path / "tokenizer_config.json").write_text("[")
    with pytest.raises(UsageError, match=r"tokenizer_config\.json: not JSON"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"vocab\.txt: the file is empty"),
        (b"\xef\xbb\xbf" + WHOLE, r"vocab\.txt:1: begins with a byte order mark"),
        (WHOLE + b"the\nca\xff\n", r"vocab\.txt:7: not UTF-8; found byte 0xff"),
        (b"the\n", r"vocab\.txt: special tokens are missing; expected \[PAD\], \[UNK\], \[CLS\]"),
        (WHOLE.replace(b"[MASK]\n", b""), r"vocab\.txt: special tokens are missing; expected \[MASK\]"),
    ],
)
def test_a_damaged_vocabulary_is_refused_with_its_line(tmp_path, content, message):
    vocab = tmp_path / "vocab.txt"
    vocab.write_bytes(content)
    with pytest.raises(UsageError, match=message) as error:
        NemoBertTokenizer(vocab_file=vocab)
    assert error.value.exit_code == 2


def test_a_vocabulary_may_have_windows_line_ends_and_no_last_one(tmp_path):
    vocab = tmp_path / "vocab.txt"
    vocab.write_bytes(WHOLE.replace(b"\n", b"\r\n") + "line\u2028break".encode())
    assert NemoBertTokenizer(vocab_file=vocab).vocabulary() == [*SPECIALS, "line\u2028break"]


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "bytes"])
def test_a_damaged_model_is_refused(tmp_path, damage):
    model = write_model(tmp_path / "m.model", [("▁a", -1.0), ("b", -1.0)], own_specials=True)
    whole = model.read_bytes()
    for content in {
        "empty": [b""],
        "text": [b"the cat sat on the mat\n" * 20],
        "cut": [whole[:end] for end in range(1, len(whole))],
        "bytes": [whole.replace("▁a".encode(), b"\xff\xfe\xfd\xfc")],
    }[damage]:
        model.write_bytes(content)
        with pytest.raises(UsageError, match=r"m\.model: "):
            SentencePieceTokenizer(model)


def test_a_model_that_is_too_large_is_not_read(tmp_path):
    model = tmp_path / "m.model"
    with model.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(UsageError, match=r"m\.model: too large for a tokenizer; found 1,099,511,627,776"):
        SentencePieceTokenizer(model)


@pytest.mark.parametrize(
    ("craft", "message"),
    [
        (
            lambda model: model.pieces.add(piece="x" * 300_000, score=-1.0),
            "damaged one; found piece is too long",
        ),
        (lambda model: model.pieces.add(piece="b", score=-1.0), "damaged one; found .*b is already defined"),
        (lambda model: model.ClearField("pieces"), "damaged one; found .*"),
        (
            lambda model: setattr(model.normalizer_spec, "precompiled_charsmap", b"\0\4\0\0" + b"\1" * 1026),
            "damaged one; found .*",
        ),
    ],
    ids=["a huge piece", "a piece twice", "no pieces", "a wild trie"],
)
def test_a_crafted_model_is_tried_in_another_process_and_refused(tmp_path, craft, message):
    path = write_model(tmp_path / "m.model", [("▁a", -1.0), ("b", -1.0)], own_specials=True)
    model = sentencepiece_model_pb2.ModelProto.FromString(path.read_bytes())
    craft(model)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UsageError, match=rf"m\.model: not a SentencePiece model, or a {message}") as error:
        SentencePieceTokenizer(path)
    assert "\n" not in str(error.value)


def test_a_model_that_crashes_its_library_is_an_error(tmp_path):
    # No model is known that crashes this version of SentencePiece, so the process that tries it is struck.
    path = write_model(tmp_path / "m.model", [(f"x{i}", -1.0) for i in range(100_000)], own_specials=True)

    def strike() -> None:
        while True:
            for child in Path(f"/proc/self/task/{main_thread}/children").read_text().split():
                if b"crash_test.py" in Path(f"/proc/{child}/cmdline").read_bytes():
                    return os.kill(int(child), signal.SIGSEGV)
            time.sleep(0.001)

    main_thread = threading.get_native_id()
    striker = threading.Thread(target=strike, daemon=True)
    striker.start()
    with pytest.raises(UsageError, match=r"m\.model: .*; found it crashed with SIGSEGV when it was tried"):
        SentencePieceTokenizer(path)
    striker.join(PATIENCE)
    assert SentencePieceTokenizer(path).vocab_size == 100_005  # it is tried again


def test_a_model_is_tried_once_in_a_process(tmp_path, monkeypatch):
    path = write_model(tmp_path / "m.model", [("▁once", -1.0)], own_specials=True)
    SentencePieceTokenizer(path)
    monkeypatch.setattr(sys, "executable", "/nowhere")
    assert SentencePieceTokenizer(path).vocab_size == 6
    write_model(path, [("▁twice", -1.0)], own_specials=True)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        SentencePieceTokenizer(path)


@pytest.mark.parametrize("make", [SentencePieceTokenizer, lambda path: NemoBertTokenizer(vocab_file=path)])
def test_a_missing_file_or_a_folder_is_refused_by_name(make, tmp_path):
    with pytest.raises(MissingFileError, match="nowhere: no such file"):
        make(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="cannot be read"):
        make(tmp_path)

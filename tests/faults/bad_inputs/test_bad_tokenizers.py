"""Vocabularies, models and folders of tokenizers."""

import base64
import json
from pathlib import Path

import numpy as np
import pytest

from tests.faults.bad_inputs.commands import (
    CHECKPOINT,
    DATA,
    ON_TEXT,
    SPECIALS,
    USAGE,
    assert_one_clear_line,
    faults,
    shards,
    tokenizer,
    write,
)

FAULTS = [
    # Vocabularies and models of tokenizers (5, 23, 25).
    (tokenizer("bom.txt"), USAGE, "bom.txt:1: begins with a byte order mark"),
    (tokenizer("pieces.txt"), USAGE, "pieces.txt: SentencePiece pieces, not WordPieces"),
    (tokenizer("latin1.txt"), USAGE, "latin1.txt:7: not UTF-8; found byte 0xe9"),
    (tokenizer("empty.txt"), USAGE, "empty.txt: the file is empty"),
    (tokenizer("one.txt"), USAGE, r"one.txt: special tokens are missing"),
    (tokenizer("utf16.txt"), USAGE, "utf16.txt:1: not UTF-8"),
    *[
        (tokenizer(name), USAGE, f"{name}/tokenizer.model: ")
        for name in ("sp_empty", "sp_cut", "sp_text", "sp_bytes", "sp_huge_piece", "sp_twice")
    ],
    (tokenizer("hf_broken"), USAGE, "hf_broken/tokenizer.json: not JSON"),
    (tokenizer("hf_list"), USAGE, "hf_list/tokenizer.json: not a JSON object"),
    (tokenizer("hf_nested"), USAGE, "hf_nested/tokenizer.json: not JSON; found nested too deeply"),
    (tokenizer("hf_code"), USAGE, "hf_code"),
    (
        tokenizer("hf_panic"),
        USAGE,
        "hf_panic/tokenizer.json: the tokenizer cannot be read; found index out of",
    ),
    (
        tokenizer("hf_abort"),
        USAGE,
        "hf_abort/tokenizer.json: .*; found it crashed with SIGABRT when it was tried",
    ),
    (tokenizer("vocab_and_bad_config"), USAGE, "tokenizer_config.json: not JSON"),
    (f"{shards('shards')} --tokenizer tokenizers/small.txt", DATA, "beyond the vocabulary"),
    ("export run out --tokenizer tokenizers/small.txt", USAGE, "has its own tokenizer"),
    (
        f"{ON_TEXT} --train_data text/train.txt --work_dir run --tokenizer tokenizers/other.txt",
        CHECKPOINT,
        "a run with a different tokenizer; found [0-9a-f]+, expected [0-9a-f]+",
    ),
    ("tokenizer text/train.txt --out tokenizers/hf_list", USAGE, "tokenizer.json: already exists"),
]


def make_faults() -> None:
    from nemo.collections.nlp.data.tokenizers.vocabulary import learn_sentencepiece

    lines = Path("text/train.txt").read_text().splitlines()
    model = learn_sentencepiece(lines, SPECIALS.split(), 60)
    from sentencepiece import sentencepiece_model_pb2

    def crafted(piece: str) -> bytes:
        proto = sentencepiece_model_pb2.ModelProto.FromString(model)
        proto.pieces.add(piece=piece, score=-1.0)
        return proto.SerializeToString()

    again = sentencepiece_model_pb2.ModelProto.FromString(model).pieces[-1].piece
    description = json.loads(Path("hf/tokenizer.json").read_text())
    charsmap = base64.b64encode(b"\0\4\0\0" + b"\x7f" * 1024 + b"ab\0").decode()
    wild_trie = {"type": "Precompiled", "precompiled_charsmap": charsmap}
    padding = {
        "strategy": {"Fixed": 10**9},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "[PAD]",
    }
    write(
        "tokenizers",
        {
            "bom.txt": b"\xef\xbb\xbf" + SPECIALS.encode(),
            "pieces.txt": f"{SPECIALS}▁the\n▁cat\n▁sees\ns\n",
            "latin1.txt": f"{SPECIALS}the\ncaf\xe9\n".encode("latin-1"),
            "empty.txt": b"",
            "one.txt": "the\n",
            "utf16.txt": f"{SPECIALS}the\n".encode("utf-16"),
            "small.txt": f"{SPECIALS}the\n",
            "other.txt": f"{SPECIALS}" + "".join(f"{chr(n)}\n##{chr(n)}\n" for n in range(33, 127)),
            "sp_empty/tokenizer.model": b"",
            "sp_cut/tokenizer.model": model[: len(model) // 2],
            "sp_text/tokenizer.model": "not a model\n" * 100,
            "sp_bytes/tokenizer.model": np.random.default_rng(0).bytes(10_000),
            "sp_huge_piece/tokenizer.model": crafted("x" * 300_000),
            "sp_twice/tokenizer.model": crafted(again),
            "hf_broken/tokenizer.json": '{"model": ',
            "hf_list/tokenizer.json": "[1, 2]",
            "hf_nested/tokenizer.json": "[" * 100_000,
            "hf_panic/tokenizer.json": json.dumps({**description, "normalizer": wild_trie}),
            "hf_abort/tokenizer.json": json.dumps({**description, "padding": padding}),
            "hf_code/tokenizer.json": json.dumps(description),
            "hf_code/tokenizer_config.json": json.dumps({"auto_map": {"AutoTokenizer": ["code.Code", None]}}),
            "hf_code/config.json": json.dumps(
                {"model_type": "other", "auto_map": {"AutoConfig": "code.Code"}}
            ),
            "hf_code/code.py": "import os\nos.mkdir('code-was-run')\n",
            "vocab_and_bad_config/vocab.txt": f"{SPECIALS}the\n",
            "vocab_and_bad_config/tokenizer_config.json": "{'a': 1}",
        },
    )


@pytest.mark.slow
@faults(FAULTS)
def test_a_fault_ends_in_one_clear_line(folder, monkeypatch, capsys, words, exit_code, message):
    assert_one_clear_line(folder, monkeypatch, capsys, words, exit_code, message)

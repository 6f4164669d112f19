"""Hostile and broken input, of every command: one line, the right exit code, nothing run, nothing followed.

What a beginner gets wrong is in tests/cli/test_bad_input.py; this table is what files can do to us. Each case
is a command line in a folder with:
    text/            good text, and `run`, a work folder that was trained on it
    shards/          good shards of 60 tokens, and `vocab60.txt` for them
    hf/              `run`, exported
    what `_make_*`   adds, one file or folder per fault
"""

import base64
import gzip
import hashlib
import io
import json
import lzma
import os
import pickle
import re
import resource
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from nemo.cli.main import main
from nemo.collections.nlp.data.hdf5.shard import FIELDS
from nemo.utils.lock import WorkFolderLock
from tests.cli.outcome import error_of
from tests.conftest import PATIENCE, write_english
from tests.shards import make_rows, write_shard, write_variable_shard

ROOT = Path(__file__).parents[2]
SECONDS = PATIENCE  # after which a command counts as hanging
MEMORY = 512 << 20  # that bad input may cost

SIZES = (
    "--hidden_size 32 --num_hidden_layers 1 --num_attention_heads 2 --intermediate_size 64 --batch_size 8 "
    "--optimizer adam_w --lr 1e-3 --eval_step_freq -1 --threads 1 --num_iters 2 --work_dir out"
)
ON_TEXT = f"pretrain {SIZES} --tokenizer word-piece --vocab_size 80 --max_seq_length 32 data_text"
ON_SHARDS = f"pretrain {SIZES} --vocab_size 60"
SPECIALS = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n"
USAGE, DATA, CHECKPOINT, STORAGE, BUSY = 2, 3, 4, 5, 8
CODES = {USAGE: "USAGE", DATA: "DATA", CHECKPOINT: "CHECKPOINT", STORAGE: "STORAGE", BUSY: "BUSY"}


def train(file: str) -> str:
    """Trains on a text."""
    return f"{ON_TEXT} --train_data text/train.txt --train_data {file}"


def shards(file: str) -> str:
    """Trains on shards."""
    return f"{ON_SHARDS} --train_data {file}"


def config(file: str) -> str:
    """Takes a model's sizes from a JSON file."""
    return f"{ON_TEXT} --train_data text/train.txt --config_file configs/{file}"


def options(file: str) -> str:
    """Takes options from a YAML file."""
    without = SIZES.replace("--batch_size 8", "").replace("--lr 1e-3", "")
    return f"pretrain {without} --train_data text/train.txt --config configs/{file} data_text"


def tokenizer(place: str) -> str:
    """Opens a tokenizer."""
    return f"show-batch text/train.txt --tokenizer tokenizers/{place}"


def weights(file: str) -> str:
    """Starts from the weights in a file."""
    return f"{ON_TEXT} --train_data text/train.txt --tokenizer run/tokenizer --bert_checkpoint weights/{file}"


def huggingface(folder: str) -> str:
    """Starts from the model in a Hugging Face folder."""
    return f"pretrain --train_data text/train.txt --work_dir out --bert_checkpoint hfs/{folder} data_text"


def fill(folder: str) -> str:
    """Opens a checkpoint."""
    return f"fill-mask {folder} '[MASK]'"


FAULTS = [
    # Text: files without any, and what is no UTF-8 (rows 1, 3 to 5 of the matrix of faults).
    ("prepare texts/empty.txt --out out", DATA, "empty.txt"),
    ("prepare texts/blank.txt --out out", DATA, "blank.txt|no text"),
    ("tokenizer texts/blank.txt --out out", DATA, "blank.txt"),
    ("inspect texts/empty.txt", DATA, "empty.txt"),
    ("show-batch texts/blank.txt --tokenizer run/tokenizer", DATA, "blank.txt"),
    ("evaluate run --eval_data texts/empty.txt", DATA, "empty.txt"),
    ("evaluate run --eval_data texts/blank.txt", DATA, "blank.txt"),
    (f"{train('text/train.txt')} --eval_data texts/blank.txt", DATA, "blank.txt"),
    (train("texts/lone.txt"), DATA, r"lone.txt:2: .*0x80"),
    (train("texts/overlong.txt"), DATA, r"overlong.txt:2: .*0xc0"),
    (train("texts/surrogate.txt"), DATA, r"surrogate.txt:2: .*0xed"),
    ("prepare texts/cut.txt --out out", DATA, r"cut.txt:2: .*0xe4"),
    ("tokenizer texts/overlong.txt --out out", DATA, "overlong.txt:2"),
    ("evaluate run --eval_data texts/overlong.txt", DATA, "overlong.txt:2"),
    ("inspect texts/utf16le.txt", DATA, "utf16le.txt: text in UTF-16; .*iconv -f utf-16-le"),
    ("prepare texts/utf16.txt --out out", DATA, "utf16.txt: text in UTF-16"),
    (train("texts/nul.txt"), DATA, "nul.txt: binary"),
    ("prepare texts/nul.txt --out out", DATA, "nul.txt: binary"),
    (train("texts/elf.txt"), DATA, "elf.txt: a program"),
    ("show-batch texts/elf.txt --tokenizer run/tokenizer", DATA, "elf.txt: a program"),
    (train("texts/pickle.txt"), DATA, "pickle.txt: a pickle"),
    (train("texts/page.txt"), DATA, "page.txt: HTML or XML"),
    # Archives are never unpacked (79).
    (train("texts/a.zip"), DATA, r"a.zip: an archive \(zip\); .*fix: unpack it"),
    (train("texts/a.tar"), DATA, r"a.tar: an archive \(tar\); .*fix: unpack it"),
    ("prepare texts/a.tar.gz --out out", DATA, r"a.tar.gz: an archive \(tar\)"),
    ("inspect texts/a.tar.gz", DATA, r"a.tar.gz: an archive \(tar\)"),
    (train("texts/not.gz"), DATA, "not.gz: named as gzip, and is not"),
    (train("texts/cut.xz"), DATA, "cut.xz: "),
    (train("texts/not.parquet"), DATA, "not.parquet: named as Parquet, and is not"),
    (train("texts/cut.parquet"), DATA, "cut.parquet"),
    # JSON lines (10, 11).
    (train("json/surrogate.jsonl"), DATA, r"surrogate.jsonl:2: text that is not Unicode; .*ud83d"),
    (train("json/null.jsonl"), DATA, "null.jsonl:2: no text in 'text'; found NoneType"),
    (train("json/number.jsonl"), DATA, "number.jsonl:2: no text in 'text'; found int"),
    (train("json/missing.jsonl"), DATA, "missing.jsonl:2: no field 'text'; found 'title'"),
    (train("json/brackets.jsonl"), DATA, "brackets.jsonl:2: not JSON"),
    (train("json/cut.jsonl"), DATA, "cut.jsonl:2: not JSON"),
    (train("json/array.jsonl"), DATA, "array.jsonl:2: not a JSON object"),
    ("prepare json/null.jsonl --out out", DATA, "null.jsonl:2"),
    ("inspect json/cut.jsonl", DATA, "cut.jsonl:2: not JSON"),
    ("tokenizer json/missing.jsonl --out out", DATA, "missing.jsonl:2: no field 'text'"),
    # Entries of the file system (14, 34).
    (train("entries/pipe.txt"), DATA, "pipe.txt: not a regular file"),
    (train("entries/socket.txt"), DATA, "socket.txt: not a regular file"),
    (train("entries/loop.txt"), DATA, "loop.txt"),
    (train("with_pipe"), DATA, "pipe.txt: not a regular file"),
    ("prepare with_pipe --out out", DATA, "pipe.txt: not a regular file"),
    ("inspect with_pipe", DATA, "pipe.txt: not a regular file"),
    ("prepare with_link --out out", DATA, "link.txt: a link, not a file"),
    (train("with_loop"), DATA, "a link"),
    (train("with_link_to_folder"), DATA, "a link, not a file"),
    ("tokenizer entries/pipe.txt --out out", DATA, "pipe.txt: not a regular file"),
    (shards("entries/pipe.hdf5"), DATA, "pipe.hdf5: not a regular file"),
    (options("pipe.yaml"), DATA, "pipe.yaml"),
    (config("pipe.json"), DATA, "pipe.json"),
    (weights("pipe.pt"), DATA, "pipe.pt|no such file"),
    (f"{ON_TEXT} --train_data text/train.txt --tokenizer entries/pipe.txt", USAGE, "pipe.txt"),
    (train("/dev/null"), DATA, "/dev/null"),
    (train("/dev/zero"), DATA, "/dev/zero: not a regular file"),
    (train("'entries/new\nline.txt'"), DATA, r"new\\nline.txt:2: "),
    (train("'entries/\x1b[31mred.txt'"), DATA, r"entries/\\x1b\[31mred.txt:2: "),
    (train(f"entries/{'x' * 300}.txt"), DATA, "xxx"),
    (train("'entries/a\0b.txt'"), DATA, "entries"),
    # Too little text (20, 22).
    (train("texts/one.txt"), DATA, "one.txt"),
    ("evaluate run --eval_data texts/one.txt", DATA, "one.txt"),
    ("evaluate run --eval_data texts/unknown.txt", DATA, "unknown.txt"),
    ("prepare texts/one.txt --phases 32/5 --out out", DATA, ""),
    *[
        (f"tokenizer text/train.txt --vocab_size {n} --out out", USAGE, "vocab_size")
        for n in (0, 1, 4, 5, 10)
    ],
    (
        "tokenizer text/train.txt --kind sentence-piece --vocab_size 10 --out out",
        USAGE,
        "vocab_size|vocabulary",
    ),
    # Vocabularies and models of tokenizers (5, 23, 25).
    (tokenizer("bom.txt"), USAGE, "bom.txt:1: begins with a byte order mark"),
    (tokenizer("pieces.txt"), USAGE, "pieces.txt: SentencePiece's pieces, not WordPieces"),
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
    # Shards (27, 29 to 31).
    *[(shards(f"bad_shards/cut{n}.hdf5"), DATA, f"cut{n}.hdf5: ") for n in range(5)],
    (shards("bad_shards/empty.hdf5"), DATA, "empty.hdf5: an empty file"),
    (shards("bad_shards/text.hdf5"), DATA, "text.hdf5: this is a text file"),
    (shards("only_readme"), DATA, "only_readme: no HDF5 shards in this folder"),
    (shards("bad_shards/missing.hdf5"), DATA, "missing.hdf5: a missing field; expected segment_ids"),
    (shards("bad_shards/rank.hdf5"), DATA, "rank.hdf5 next_sentence_labels: another shape"),
    (shards("bad_shards/lengths.hdf5"), DATA, "lengths.hdf5 masked_lm_ids: another shape"),
    (shards("bad_shards/float.hdf5"), DATA, "float.hdf5 input_ids: another type; found float32"),
    (shards("bad_shards/objects.hdf5"), DATA, "objects.hdf5 input_ids: another type"),
    (shards("bad_shards/no_rows.hdf5"), DATA, "no_rows.hdf5: a shard without rows"),
    (shards("bad_shards/id.hdf5"), DATA, "id.hdf5 row 19 input_ids: beyond the vocabulary; found 60"),
    (shards("bad_shards/negative.hdf5"), DATA, "negative.hdf5 row 9 input_ids: .*found -1"),
    (shards("bad_shards/position.hdf5"), DATA, "position.hdf5 row 0 masked_lm_positions: .*found 16"),
    (shards("bad_shards/label.hdf5"), DATA, "label.hdf5 row 19 next_sentence_labels: .*found 7"),
    (shards("bad_shards/external_link.hdf5"), DATA, "external_link.hdf5 input_ids: a link to elsewhere"),
    (shards("bad_shards/soft_link.hdf5"), DATA, "soft_link.hdf5 input_ids: a link to elsewhere"),
    (shards("bad_shards/external.hdf5"), DATA, "external.hdf5 input_ids: data that lies in another file"),
    (shards("bad_shards/virtual.hdf5"), DATA, "virtual.hdf5 input_ids: data that lies in another file"),
    (shards("bad_shards/long_row.hdf5"), DATA, "long_row.hdf5 .*longer than any sequence"),
    (shards("bad_shards/named.hdf5"), DATA, "named.hdf5"),
    (f"{shards('shards')} --max_predictions_per_seq 2", DATA, "max_predictions_per_seq"),
    (f"{shards('shards')} --max_seq_length 12", USAGE, "max_seq_length"),
    (f"{shards('shards')} --config_file configs/short.json", USAGE, "max_position_embeddings|positions"),
    ("inspect bad_shards/negative.hdf5", DATA, "negative.hdf5 row 9 input_ids: .*found -1"),
    (
        "show-batch bad_shards/float.hdf5 --tokenizer run/tokenizer",
        DATA,
        "float.hdf5 input_ids: another type",
    ),
    ("evaluate run --eval_data bad_shards/virtual.hdf5", DATA, "virtual.hdf5"),
    ("inspect bad_shards/external_link.hdf5", DATA, "external_link.hdf5"),
    # Manifests of shards and stores (55, 57).
    *[
        (shards(f"manifests/{name}"), DATA, f"manifests/{name}.*: ")
        for name in ("newer", "broken", "twice", "outside", "absolute", "nul", "nested", "list_of_files")
    ],
    (
        f"{shards('manifests/other')} --tokenizer run/tokenizer",
        DATA,
        "manifest.json: made with another tokenizer",
    ),
    *[(train(f"stores/{name}"), DATA, f"stores/{name}") for name in ("newer", "broken", "outside", "cut")],
    # Sizes (32).
    (f"{train('text/train.txt')} --max_seq_length 100000", USAGE, "--max_seq_length"),
    (f"{train('text/train.txt')} --hidden_size 1000000", USAGE, "memory"),
    (f"{train('text/train.txt')} --intermediate_size 100000000000", USAGE, "memory"),
    (
        f"{ON_TEXT.replace('--batch_size 8', '')} --train_data text/train.txt --tokens_per_batch 16",
        USAGE,
        "tokens_per_batch",
    ),
    # Configurations (33).
    (options("nan.yaml"), USAGE, "--lr: out of range; found nan"),
    (options("inf.yaml"), USAGE, "--lr: out of range; found inf"),
    (
        options("true.yaml"),
        USAGE,
        "true.yaml batch_size: a value of the wrong type; found True, expected int",
    ),
    (options("text.yaml"), USAGE, "text.yaml lr: a value of the wrong type; found '1e-3', expected float"),
    (options("twice.yaml"), USAGE, "twice.yaml:3: not YAML: 'batch_size' is there twice"),
    (options("tab.yaml"), USAGE, "tab.yaml:2: not YAML"),
    (options("nested.yaml"), USAGE, "nested.yaml: not YAML: nested too deeply"),
    (options("code.yaml"), USAGE, "code.yaml:1: not YAML: could not determine a constructor"),
    (options("list.yaml"), USAGE, "list.yaml: not a configuration"),
    (options("empty.yaml"), USAGE, "empty.yaml: not a configuration"),
    (options("nul.yaml"), USAGE, "nul.yaml: not YAML"),
    (options("latin1.yaml"), USAGE, "latin1.yaml: not YAML"),
    (options("bomb.yaml"), USAGE, "bomb.yaml batch_size: a value of the wrong type"),
    (options("long.yaml"), USAGE, "long.yaml: too large"),
    (options("number.yaml"), USAGE, "number.yaml: not YAML"),
    (options("key.yaml"), USAGE, "key.yaml: unknown name; found 7"),
    (
        config("twice.json"),
        USAGE,
        "twice.json: not a configuration of a BERT; found 'hidden_size' is there twice",
    ),
    (config("nan.json"), USAGE, "nan.json: not a configuration of a BERT; found NaN is not finite"),
    (config("inf.json"), USAGE, "inf.json: not a configuration of a BERT; found 1e999 is not finite"),
    (config("nested.json"), USAGE, "nested.json: not a configuration of a BERT; found nested too deeply"),
    (config("true.json"), USAGE, "true.json"),
    (config("text.json"), USAGE, "text.json"),
    (config("negative.json"), USAGE, "hidden_size|negative.json"),
    (config("float.json"), USAGE, "float.json"),
    (config("list.json"), USAGE, "list.json: not a configuration of a BERT"),
    (config("empty.json"), USAGE, "empty.json: not a configuration of a BERT"),
    (config("heads.json"), USAGE, "num_attention_heads"),
    (config("dropout.json"), USAGE, "hidden_dropout_prob"),
    (config("act.json"), USAGE, "hidden_act|activation"),
    (config("huge.json"), USAGE, "--vocab_size: out of range; found 1000000000000"),
    (
        f"{config('other_vocabulary.json')} --tokenizer run/tokenizer",
        USAGE,
        "other_vocabulary.json: the tokenizer has ids that the model has not",
    ),
    (config("decoder.json"), USAGE, "decoder.json: not a BERT: is_decoder"),
    # Weights and what is pickled (56).
    *[
        (weights(name), CHECKPOINT, f"{name}: cannot be read as weights")
        for name in (
            "code.pt",
            "code.safetensors",
            "objects.pt",
            "plain.pickle.pt",
            "cut.safetensors",
            "bomb.safetensors",
        )
    ],
    (weights("objects.npy.pt"), CHECKPOINT, "objects.npy.pt"),
    (weights("nan.safetensors"), CHECKPOINT, "nan.safetensors .*: weights that are not finite numbers"),
    (weights("half.safetensors"), CHECKPOINT, "half.safetensors|another shape or type|missing"),
    (train("texts/code.npy.txt"), DATA, "code.npy.txt"),
    # Checkpoints (39, 52, 55, 57, 73 to 76).
    (fill("runs/no_weights"), CHECKPOINT, "BERT.safetensors: damaged"),
    (fill("runs/no_manifest"), CHECKPOINT, "manifest.json: damaged"),
    (fill("runs/no_config"), CHECKPOINT, "bert-config.json: damaged"),
    (fill("runs/swapped_vocabulary"), CHECKPOINT, "vocab.txt: damaged|tokenizer.json: damaged"),
    (fill("runs/nan"), CHECKPOINT, "nan"),
    ("evaluate runs/nan --eval_data text/valid.txt", CHECKPOINT, "nan"),
    ("export runs/nan out", CHECKPOINT, "nan"),
    (fill("runs/sizes"), CHECKPOINT, "another intermediate_size; found 64, expected 128"),
    ("export runs/sizes out", CHECKPOINT, "another intermediate_size; found 64, expected 128"),
    ("evaluate runs/sizes --eval_data text/valid.txt", CHECKPOINT, "another intermediate_size"),
    (fill("runs/huge"), USAGE, "a model that is larger than the memory"),
    (fill("runs/newer"), CHECKPOINT, "manifest.json: a checkpoint of another version; found 2, expected 1"),
    (fill("runs/outside"), CHECKPOINT, "the manifest of something else"),
    (fill("runs/absolute"), CHECKPOINT, "the manifest of something else"),
    (fill("runs/nul"), CHECKPOINT, "the manifest of something else"),
    (fill("runs/unsealed"), CHECKPOINT, "manifest.json: damaged"),
    (fill("runs/nested"), CHECKPOINT, "manifest.json: not good JSON"),
    (fill("runs/link"), CHECKPOINT, "BERT.safetensors: not an ordinary file"),
    (fill("runs/pipe"), CHECKPOINT, "BERT.safetensors: not an ordinary file"),
    (fill("runs/pickle"), CHECKPOINT, "runs/pickle"),
    ("export runs/no_step out", CHECKPOINT, "state.json: not the state of a run; found no 'step'"),
    (
        f"{ON_TEXT} --train_data text/train.txt --num_iters 5 --load_dir runs/no_step",
        CHECKPOINT,
        "state.json",
    ),
    (fill("runs/bad_config"), USAGE, "bert-config.json: not a configuration .*hidden_size.*expected int"),
    (fill("runs/bad_state"), CHECKPOINT, "state.json"),
    ("export runs/bad_state out", CHECKPOINT, "state.json"),
    (
        f"{ON_TEXT} --train_data text/train.txt --num_iters 5 --load_dir runs/bad_state",
        CHECKPOINT,
        "state.json",
    ),
    (f"{ON_TEXT} --train_data text/train.txt --num_iters 5 --load_dir runs/nan", CHECKPOINT, "nan"),
    (
        f"{ON_TEXT} --train_data text/train.txt --num_iters 5 --load_dir runs/no_optimizer",
        CHECKPOINT,
        "optimizer",
    ),
    (
        f"{ON_TEXT} --train_data text/train.txt --num_iters 5 --load_dir runs/newer",
        CHECKPOINT,
        "another version",
    ),
    (f"{ON_TEXT} --train_data text/valid.txt --work_dir run", USAGE, "trained with another text"),
    (
        f"{ON_TEXT} --train_data text/train.txt --work_dir run --tokenizer tokenizers/other.txt",
        CHECKPOINT,
        "a run with another tokenizer; found [0-9a-f]+, expected [0-9a-f]+",
    ),
    ("export run text/train.txt", USAGE, "train.txt"),
    ("export run hf", USAGE, "hf: "),
    ("export run text --force", USAGE, "text: "),
    (huggingface("no_weights"), CHECKPOINT, "hfs/no_weights"),
    (huggingface("cut"), CHECKPOINT, "hfs/cut"),
    (huggingface("sizes"), CHECKPOINT, "hfs/sizes"),
    (huggingface("pickle"), CHECKPOINT, "hfs/pickle"),
    (huggingface("bad_config"), CHECKPOINT, "hfs/bad_config"),
    # Command lines.
    ("fill-mask run", USAGE, "a model and a sentence are needed"),
    (f"fill-mask run '{'[MASK] ' * 100}'", USAGE, "the text is too long"),
    ("fill-mask run '\udce8 [MASK]'", USAGE, "the text is not UTF-8"),
    ("fill-mask run '[MASK]' --top 0", USAGE, "--top: out of range"),
    ("fill-mask run [MASK] more", USAGE, "not an option"),
    ("export run", USAGE, "a model and a folder are needed"),
    ("inspect", USAGE, "nothing to inspect"),
    ("inspect nowhere.txt", DATA, "nowhere.txt: no such file"),
    ("inspect text/train.txt --workers 0", USAGE, "--workers: out of range"),
    ("show-batch", USAGE, "nothing to show"),
    ("show-batch text/train.txt", USAGE, "tokenizer"),
    ("show-batch shards --max_seq_length 7", USAGE, "--max_seq_length: out of range"),
    ("show-batch text/train.txt --tokenizer nowhere", USAGE, "nowhere"),
    ("demo more", USAGE, "more"),
    ("demo --num_iters 0", USAGE, "num_iters"),
    ("prepare", USAGE, "no text"),
    ("prepare text/train.txt --phases 128 --out out", USAGE, "--phases: not tokens/predictions"),
    ("prepare text/train.txt --phases 1/1 --out out", USAGE, "--phases"),
    ("prepare text/train.txt --phases 99999999/20 --out out", USAGE, "--phases"),
    ("prepare text/train.txt --test_fraction 0.9 --out out", USAGE, "--test_fraction: out of range"),
    ("prepare text/train.txt --out text", STORAGE, "text: not an empty folder"),
    ("prepare text/train.txt --out text/train.txt", STORAGE, "train.txt"),
    ("prepare text/train.txt --out busy", BUSY, "busy: "),
    ("prepare text/train.txt --engine slurm --out out", USAGE, "--slurm_partition"),
    ("prepare http://user:secret@127.0.0.1:1/a.txt --out out", DATA, r"(?!.*secret)http://127.0.0.1:1/a.txt"),
    ("prepare ftpp://somewhere/a.txt --out out", USAGE, "ftpp://somewhere/a.txt"),
    ("tokenizer", USAGE, "no text"),
    ("tokenizer text/train.txt --out text/train.txt", STORAGE, "train.txt"),
    ("tokenizer text/train.txt --out tokenizers/hf_list", USAGE, "tokenizer.json: there already"),
    ("tokenizer text/train.txt --kind bpe --out out", USAGE, "--kind: not one of the choices; found 'bpe'"),
    (
        "evaluate run --eval_data text/valid.txt --mask_probability 1",
        USAGE,
        "--mask_probability: out of range",
    ),
    ("evaluate run --eval_data text/valid.txt --masking stored", USAGE, "stored"),
]


class _Code:
    """A pickle that would leave a file behind if it were run."""

    def __reduce__(self):
        return os.mkdir, ("code-was-run",)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faults")
    write_english(folder / "text")
    before = Path.cwd()
    os.chdir(folder)
    try:
        assert main(shlex.split(f"{train('text/train.txt')} --work_dir run")) == 0
        assert main(["export", "run", "hf"]) == 0
        for make in (
            _make_texts,
            _make_entries,
            _make_tokenizers,
            _make_shards,
            _make_configs,
            _make_weights,
        ):
            make()
        _make_manifests()
        _make_runs()
    finally:
        os.chdir(before)
    return folder


def _write(folder: str, files: dict[str, bytes | str]) -> None:
    for name, content in files.items():
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def _make_texts() -> None:
    import pyarrow
    import pyarrow.parquet

    good = Path("text/train.txt").read_text()
    archive, packed, table = io.BytesIO(), io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        member = tarfile.TarInfo("../../outside.txt")
        member.size = len(good)
        tar.addfile(member, io.BytesIO(good.encode()))
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr("../outside.txt", good)
    pyarrow.parquet.write_table(pyarrow.table({"text": [good] * 3}), table)
    _write(
        "texts",
        {
            "empty.txt": b"",
            "blank.txt": b"\n \n\t\n",
            "one.txt": "The cat sees the dog.\n",
            "unknown.txt": "\U000e0000\n\U000e0001 \U000e0000\n\n" * 20,
            "lone.txt": b"Good words.\n\x80\n",
            "overlong.txt": b"Good words.\n\xc0\xaf\n",
            "surrogate.txt": b"Good words.\n\xed\xa0\xbd\n",
            "cut.txt": b"Good words.\n\xe4\xbb",
            "utf16le.txt": good.encode("utf-16-le"),
            "utf16.txt": good.encode("utf-16"),
            "nul.txt": bytes(1 << 20),
            "elf.txt": b"\x7fELF\x02\x01\x01" + bytes(57),
            "pickle.txt": pickle.dumps(_Code()),
            "page.txt": "<!DOCTYPE html>\n<html><body>404 not found</body></html>\n",
            "a.zip": packed.getvalue(),
            "a.tar": archive.getvalue(),
            "a.tar.gz": gzip.compress(archive.getvalue()),
            "not.gz": good,
            "cut.xz": lzma.compress(good.encode())[:-40],
            "not.parquet": good,
            "cut.parquet": table.getvalue()[:-9],
        },
    )
    np.save("texts/code.npy", np.array([_Code()], dtype=object), allow_pickle=True)
    os.rename("texts/code.npy", "texts/code.npy.txt")
    _write(
        "json",
        {
            f"{name}.jsonl": f'{{"text": "Good words."}}\n{line}'
            for name, line in {
                "surrogate": '{"text": "half \\ud83d"}\n',
                "null": '{"text": null}\n',
                "number": '{"text": 7}\n',
                "missing": '{"title": "Cats"}\n',
                "brackets": f'{{"text": {"[" * 100_000}\n',
                "cut": '{"text": "Good wo',
                "array": '["Good words."]\n',
            }.items()
        },
    )


def _make_entries() -> None:
    good = Path("text/train.txt").read_text()
    latin1 = "Good words.\nUn café.\n".encode("latin-1")
    _write("entries", {"new\nline.txt": latin1, "\x1b[31mred.txt": latin1})
    _write(
        ".",
        {f"{name}/a.txt": good for name in ("with_pipe", "with_link", "with_loop", "with_link_to_folder")},
    )
    for place in ("entries/pipe.txt", "entries/pipe.hdf5", "with_pipe/pipe.txt"):
        os.mkfifo(place)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("entries/socket.txt")
    os.symlink("loop.txt", "entries/loop.txt")
    os.symlink("../text/valid.txt", "with_link/link.txt")
    os.symlink("../with_loop", "with_loop/again")
    os.symlink("../text", "with_link_to_folder/more")


def _make_tokenizers() -> None:
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
    _write(
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


def _make_shards() -> None:
    rows = make_rows(20)
    good = write_shard(Path("shards/a_training.hdf5"), rows).read_bytes()
    bad = Path("bad_shards")
    _write("only_readme", {"README.md": "Shards were here.", ".DS_Store": b"\0\0\0\1Bud1"})
    _write("bad_shards", {"empty.hdf5": b"", "text.hdf5": "Good words.\n" * 100})
    _write(
        "bad_shards",
        {
            f"cut{n}.hdf5": good[: int(len(good) * share)]
            for n, share in enumerate((0.02, 0.3, 0.6, 0.9, 0.999))
        },
    )

    def put(field: str, place, value) -> Callable[[dict], None]:
        return lambda arrays: arrays[field].__setitem__(place, value)

    def alter(field: str, how: Callable) -> Callable[[dict], None]:
        return lambda arrays: arrays.update({field: how(arrays[field])})

    for name, change in {
        "missing": lambda arrays: arrays.pop("segment_ids"),
        "rank": alter("next_sentence_labels", lambda values: values[:, None]),
        "lengths": alter("masked_lm_ids", lambda values: values[:-1]),
        "float": alter("input_ids", lambda values: values.astype("f4")),
        "objects": alter("input_ids", lambda values: values.astype("S5")),
        "id": put("input_ids", (19, 3), 60),
        "negative": put("input_ids", (9, 3), -1),
        "position": put("masked_lm_positions", (0, 0), 16),
        "label": put("next_sentence_labels", 19, 7),
    }.items():
        write_shard(bad / f"{name}.hdf5", rows, change=change)
    write_shard(
        bad / "no_rows.hdf5",
        rows,
        change=lambda arrays: arrays.update({name: values[:0] for name, values in arrays.items()}),
        compression=None,
    )
    write_variable_shard(bad / "long_row.hdf5", rows)
    with h5py.File(bad / "long_row.hdf5", "r+") as file:
        file["input_ids"][3] = np.ones(100_000, "i4")
    secret = Path("shards/a_training.hdf5").absolute()
    for name in ("external_link", "soft_link", "external", "virtual", "named"):
        shutil.copy(secret, bad / f"{name}.hdf5")
        with h5py.File(bad / f"{name}.hdf5", "r+") as file:
            shape, dtype = file["input_ids"].shape, file["input_ids"].dtype
            file.move("input_ids", "moved")
            if name == "external_link":
                file["input_ids"] = h5py.ExternalLink(str(secret), "/input_ids")
            elif name == "soft_link":
                file["input_ids"] = h5py.SoftLink("/moved")
            elif name == "external":
                file.create_dataset(
                    "input_ids", shape, dtype, external=[(str(secret), 0, h5py.h5f.UNLIMITED)]
                )
            elif name == "virtual":
                layout = h5py.VirtualLayout(shape, dtype)
                layout[:] = h5py.VirtualSource(str(secret), "input_ids", shape)
                file.create_virtual_dataset("input_ids", layout)
            else:
                file["input_ids"] = np.dtype("i4")


def _make_manifests() -> None:
    shard = Path("shards/a_training.hdf5").read_bytes()
    whole = {"format": "nemo-bert shards", "version": 1, "tokenizer": "x", "files": {}}
    size = {"bytes": len(shard)}
    for name, manifest in {
        "other": json.dumps(whole),
        "newer": json.dumps({**whole, "version": 2}),
        "broken": json.dumps(whole)[:-4],
        "twice": json.dumps(whole)[:-1] + ', "version": 1}',
        "outside": json.dumps({**whole, "files": {"../../shards/a_training.hdf5": size}}),
        "absolute": json.dumps({**whole, "files": {"/etc/passwd": size}}),
        "nul": json.dumps({**whole, "files": {"a\0b": size}}),
        "nested": "[" * 100_000,
        "list_of_files": json.dumps({**whole, "files": ["a"]}),
    }.items():
        _write(f"manifests/{name}", {"a.hdf5": shard, "manifest.json": manifest})
    store, _ = sorted(Path("text/bert").glob("store-*"))
    manifest = json.loads((store / "manifest.json").read_text())
    for name in ("newer", "broken", "outside", "cut"):
        shutil.copytree(store, f"stores/{name}")
        shutil.copytree("run/tokenizer", "stores/bert", dirs_exist_ok=True)
    _write("stores/newer", {"manifest.json": json.dumps({**manifest, "version": 99})})
    _write("stores/broken", {"manifest.json": json.dumps({"format": manifest["format"]})})
    arrays = {"../../../etc/passwd": manifest["arrays"]["tokens"], **manifest["arrays"]}
    _write("stores/outside", {"manifest.json": json.dumps({**manifest, "arrays": arrays})})
    _write("stores/cut", {"tokens.bin": (store / "tokens.bin").read_bytes()[:-2]})


def _make_configs() -> None:
    good = json.loads(Path("hf/config.json").read_text())
    levels = ", ".join(
        f"&{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefghi", "bcdefghij", strict=True)
    )
    _write(
        "configs",
        {
            "nan.yaml": "lr: .nan",
            "inf.yaml": "lr: .inf",
            "true.yaml": "batch_size: true",
            "text.yaml": "lr: '1e-3'",
            "twice.yaml": "batch_size: 8\nlr: 0.1\nbatch_size: 16\n",
            "tab.yaml": "lr: 0.1\n\tbatch_size: 8\n",
            "nested.yaml": "lr: " + "[" * 100_000,
            "code.yaml": "lr: !!python/object/apply:os.mkdir ['code-was-run']",
            "list.yaml": "- lr\n- 0.1\n",
            "empty.yaml": "",
            "nul.yaml": "lr: \0",
            "latin1.yaml": b"dataset_name: caf\xe9",
            "bomb.yaml": f"batch_size: [&a [x], {levels}]",
            "long.yaml": "dataset_name: " + "x" * (1 << 20),
            "number.yaml": "batch_size: " + "9" * 10_000,
            "key.yaml": "7: 8",
            "twice.json": '{"hidden_size": 32, "hidden_size": 64}',
            "nan.json": '{"initializer_range": NaN}',
            "inf.json": '{"initializer_range": 1e999}',
            "nested.json": '{"hidden_size": ' + "[" * 100_000,
            "list.json": "[1]",
            "empty.json": b"",
        },
    )
    for name, changes in {
        "true": {"num_hidden_layers": True},
        "text": {"hidden_size": "32"},
        "negative": {"hidden_size": -32},
        "float": {"hidden_size": 32.5},
        "heads": {"num_attention_heads": 5},
        "dropout": {"hidden_dropout_prob": 2.0},
        "act": {"hidden_act": "gello"},
        "huge": {"vocab_size": 10**12},
        "other_vocabulary": {"vocab_size": 20},
        "decoder": {"is_decoder": True},
        "short": {"vocab_size": 60, "max_position_embeddings": 12},
    }.items():
        _write("configs", {f"{name}.json": json.dumps({**good, **changes})})
    os.mkfifo("configs/pipe.yaml")
    os.mkfifo("configs/pipe.json")


def _make_weights() -> None:
    (step,) = Path("run/checkpoints").glob("STEP-*")
    good = load_file(step / "BERT.safetensors")
    Path("weights").mkdir()
    shutil.copy(step / "bert-config.json", "weights")
    torch.save({"weights": _Code()}, "weights/code.pt")
    torch.save({"weights": _Code()}, "weights/code.safetensors")
    torch.save({"weights": np.array([_Code()], dtype=object)}, "weights/objects.pt")
    _write("weights", {"plain.pickle.pt": pickle.dumps({"weights": _Code()})})
    np.save("weights/objects.npy", np.array([_Code()], dtype=object), allow_pickle=True)
    os.rename("weights/objects.npy", "weights/objects.npy.pt")
    whole = (step / "BERT.safetensors").read_bytes()
    header = json.dumps({"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}).encode()
    _write(
        "weights",
        {
            "cut.safetensors": whole[:-100],
            "bomb.safetensors": len(header).to_bytes(8, "little") + header,
        },
    )
    first = next(iter(good))
    save_file({**good, first: torch.full_like(good[first], float("nan"))}, "weights/nan.safetensors")
    save_file({name: good[name] for name in list(good)[::2]}, "weights/half.safetensors")
    os.mkfifo("weights/pipe.pt")


def _make_runs() -> None:
    (step,) = (path.name for path in Path("run/checkpoints").glob("STEP-*"))

    def new(name: str) -> Path:
        shutil.copytree("run", f"runs/{name}")
        return Path(f"runs/{name}/checkpoints/{step}")

    for name, file in (
        ("weights", "BERT.safetensors"),
        ("manifest", "manifest.json"),
        ("config", "bert-config.json"),
    ):
        (new(f"no_{name}") / file).unlink()
    for name in ("link", "pipe"):
        at = new(name) / "BERT.safetensors"
        at.rename(Path("runs", name, "BERT.safetensors"))
        os.symlink(Path("runs", name, "BERT.safetensors").absolute(), at) if name == "link" else os.mkfifo(at)
    vocabulary = new("swapped_vocabulary") / "tokenizer.json"
    vocabulary.write_bytes(vocabulary.read_bytes().replace(b"cat", b"act"))

    nan = load_file(new("nan") / "BERT.safetensors")
    first = next(iter(nan))
    nan[first].view(-1)[7] = float("nan")
    save_file(nan, f"runs/nan/checkpoints/{step}/BERT.safetensors")
    for name, size in (("sizes", 128), ("huge", 1 << 30)):
        at = new(name) / "bert-config.json"
        at.write_text(json.dumps({**json.loads(at.read_text()), "intermediate_size": size}))
    (new("bad_config") / "bert-config.json").write_text('{"hidden_size": "many"}')
    (new("bad_state") / "state.json").write_text("[]")
    at = new("no_step")
    at.joinpath("state.json").write_text("{}")
    torch.save(_Code(), new("pickle") / "BERT.safetensors")
    save_file({}, new("no_optimizer") / "optimizer.safetensors")
    for name in ("nan", "sizes", "huge", "bad_config", "bad_state", "no_step", "pickle", "no_optimizer"):
        _seal(Path(f"runs/{name}/checkpoints/{step}"))

    record = {"size": 5, "sha256": hashlib.sha256(b"").hexdigest()}
    for name, change in {
        "newer": {"version": 2},
        "outside": {"files": {"../../../../text/train.txt": record}},
        "absolute": {"files": {"/etc/passwd": record}},
        "nul": {"files": {"a\0b": record}},
    }.items():
        _seal(new(name), change)
    at = new("unsealed") / "manifest.json"
    at.write_text(json.dumps({**json.loads(at.read_text()), "step": 1}))
    (new("nested") / "manifest.json").write_text("[" * 100_000)

    for name in ("no_weights", "cut", "sizes", "pickle", "bad_config"):
        shutil.copytree("hf", f"hfs/{name}")
    weights = Path("hf/model.safetensors").read_bytes()
    Path("hfs/no_weights/model.safetensors").unlink()
    Path("hfs/cut/model.safetensors").write_bytes(weights[: len(weights) // 2])
    settings = json.loads(Path("hf/config.json").read_text())
    Path("hfs/sizes/config.json").write_text(json.dumps({**settings, "intermediate_size": 128}))
    Path("hfs/bad_config/config.json").write_text('{"hidden_size": ')
    Path("hfs/pickle/model.safetensors").unlink()
    torch.save({"bert.embeddings.word_embeddings.weight": _Code()}, "hfs/pickle/pytorch_model.bin")


def _seal(checkpoint: Path, change: dict | None = None) -> None:
    """Write a manifest that vouches for whatever is in the folder now."""
    path = checkpoint / "manifest.json"
    content = json.loads(path.read_text())
    del content["sha256"]
    for name in content["files"]:
        data = (checkpoint / name).read_bytes()
        content["files"][name] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    content |= change or {}

    def as_json(value: dict) -> bytes:
        return json.dumps(value, indent=1, sort_keys=True).encode()

    path.write_bytes(as_json({**content, "sha256": hashlib.sha256(as_json(content)).hexdigest()}))


@pytest.fixture(autouse=True)
def _nothing_hangs():
    def stop(number, frame):
        raise AssertionError(f"still running after {SECONDS} s")

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)


@pytest.mark.slow
@pytest.mark.parametrize(("words", "exit_code", "message"), FAULTS, ids=[words[-60:] for words, *_ in FAULTS])
def test_a_fault_ends_in_one_clear_line(folder, monkeypatch, capsys, words, exit_code, message):
    monkeypatch.chdir(folder)
    shutil.rmtree(folder / "out", ignore_errors=True)
    with WorkFolderLock(folder / "busy"):
        found = main(shlex.split(words))
    line = error_of(capsys)
    assert line.startswith(f"error[{CODES[exit_code]}] ") and found == exit_code, line
    assert re.search(message, line), line
    assert len(line) < 2000
    assert not list(folder.glob("out/checkpoints/STEP-*")) and not (folder / "code-was-run").exists()
    assert not list(folder.rglob("outside.txt"))


BOMBS = [
    ("inspect bombs/zeros.txt.gz", DATA, "zeros.txt.gz: binary"),
    ("inspect bombs/zeros.txt.xz", DATA, "zeros.txt.xz: binary"),
    (
        "inspect bombs/record.jsonl",
        DATA,
        "record.jsonl:2: a line is too long for a record; found more than 64 MiB",
    ),
    ("inspect bombs/quote.csv", DATA, "quote.csv"),
    ("inspect bombs/shape.hdf5", DATA, "shape.hdf5 input_ids: declares more than it stores"),
    (
        "show-batch text/train.txt --tokenizer bombs/sparse",
        USAGE,
        "tokenizer.model: too large for a tokenizer",
    ),
    ("show-batch text/train.txt --tokenizer bombs/sparse/vocab.txt", USAGE, "vocab.txt: too large"),
    ("inspect bombs/line.txt", 0, ""),
    ("inspect bombs/characters.txt", 0, ""),
]


@pytest.fixture(scope="module")
def bombs(folder):
    there = folder / "bombs"
    (there / "sparse").mkdir(parents=True)
    with gzip.open(there / "zeros.txt.gz", "wb", 1) as file:
        file.write(bytes(200_000_000))
    with lzma.open(there / "zeros.txt.xz", "wb", preset=0) as file:
        file.write(bytes(200_000_000))
    with (there / "record.jsonl").open("wb") as file:
        file.write(b'{"text": "Good words."}\n{"text": "' + b"words " * 12_000_000)
    (there / "quote.csv").write_bytes(b'text\n"' + b"words\n" * 12_000_000)
    (there / "line.txt").write_bytes(b"The cat sees the dog. " * 1_000_000)
    (there / "characters.txt").write_bytes(b"a\n" * 100_000)
    for name in ("tokenizer.model", "vocab.txt"):
        with (there / "sparse" / name).open("wb") as file:
            file.truncate(1 << 40)
    with h5py.File(there / "shape.hdf5", "w") as file:
        for name in FIELDS:
            shape = (10**8,) if name == "next_sentence_labels" else (10**8, 50)
            file.create_dataset(name, shape, "i4", chunks=(1000, *shape[1:]), compression="gzip")
    return there


def outcome(words: str, folder: Path, **limits: int) -> tuple[int, list[str], int]:
    """Exit code, what was written to stderr, and the most memory of a command in a process of its own."""

    def limit() -> None:
        for name, value in limits.items():
            resource.setrlimit(getattr(resource, name), (value, value))

    command = [sys.executable, "-m", "nemo.cli.main", *shlex.split(words)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with (folder / "told.txt").open("w+") as told:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=told, preexec_fn=limit
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        told.seek(0)
        lines = [line for line in told.read().splitlines() if not re.match(r"\d\d:\d\d:\d\d ", line)]
    return process.returncode, lines, usage.ru_maxrss << 10


@pytest.fixture(scope="module")
def usual_memory(folder) -> int:
    """What `inspect` takes for a small text."""
    code, _, memory = outcome("inspect text/train.txt --workers 1", folder)
    assert code == 0
    return memory


@pytest.mark.slow
@pytest.mark.parametrize(("words", "exit_code", "message"), BOMBS, ids=[words for words, *_ in BOMBS])
def test_a_bomb_takes_little_memory(folder, bombs, usual_memory, words, exit_code, message):
    code, lines, memory = outcome(words + " --workers 1" * words.startswith("inspect"), folder)
    assert code == exit_code, lines
    assert memory - usual_memory < MEMORY
    if exit_code:
        (line,) = lines
        assert line.startswith(f"error[{CODES[exit_code]}] ") and re.search(message, line), line


@pytest.mark.slow
def test_too_little_memory_is_told_with_what_to_do(folder):
    sizes = "--hidden_size 4096 --intermediate_size 200000 --work_dir out"
    code, (line,), _ = outcome(f"{train('text/train.txt')} {sizes}", folder, RLIMIT_AS=4 << 30)
    assert code == 1
    assert re.match(r"error\[MEMORY\] not enough memory: .*; fix: a smaller --batch_size, ", line), line


GOOD_NAMES = [
    "a\tb.txt",
    "a\nb.txt",
    "中文 文件.txt",
    "🙂.txt",
    "a'b\"c.txt",
    "-x.txt",
    "x" * 251 + ".txt",
    "x.txt/part.txt",
]


@pytest.mark.slow
@pytest.mark.parametrize("name", GOOD_NAMES)
def test_an_odd_name_is_a_name(folder, monkeypatch, capsys, name):
    path = folder / "names" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(folder / "text/train.txt", path)
    monkeypatch.chdir(folder)
    assert main(["inspect", f"names/{name}", "--workers", "1"]) == 0, capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("file", ["text/bom.txt", "configs/bom.json", "configs/bom.yaml"])
def test_a_byte_order_mark_does_no_harm(folder, monkeypatch, file):
    monkeypatch.chdir(folder)
    whole = {
        "text/bom.txt": "text/train.txt",
        "configs/bom.json": "hf/config.json",
        "configs/bom.yaml": "configs/good.yaml",
    }
    Path("configs/good.yaml").write_text("batch_size: 8\n")
    Path(file).write_bytes(b"\xef\xbb\xbf" + Path(whole[file]).read_bytes())
    command = {
        "text/bom.txt": train(file),
        "configs/bom.json": f"{config('bom.json')} --tokenizer run/tokenizer",
        "configs/bom.yaml": options("bom.yaml"),
    }[file]
    shutil.rmtree("out", ignore_errors=True)
    assert main(shlex.split(command)) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "words", "exit_code"),
    [
        ("text.txt", "inspect locked/text.txt", DATA),
        ("folder", "inspect locked/folder", DATA),
        ("model/tokenizer.model", "show-batch text/train.txt --tokenizer locked/model", USAGE),
        ("shard.hdf5", "inspect locked/shard.hdf5", DATA),
        ("run.yaml", "pretrain --config locked/run.yaml", DATA),
        ("run", "fill-mask locked/run '[MASK]'", DATA),
    ],
)
def test_what_may_not_be_read_is_told(folder, monkeypatch, capsys, place, words, exit_code):
    path = folder / "locked" / place
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix:
        path.write_text("Good words.\n")
    else:
        path.mkdir()
    path.chmod(0)
    try:
        if os.access(path, os.R_OK):
            pytest.skip("whoever runs the tests may read everything")
        monkeypatch.chdir(folder)
        assert main(shlex.split(words)) == exit_code
    finally:
        path.chmod(0o700)
    assert str(path.relative_to(folder)) in error_of(capsys)

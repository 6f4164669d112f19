"""Sizes, and files of options and of sizes."""

import json
import shlex
import shutil
from pathlib import Path

import pytest

from nemo.cli.main import main
from tests.faults.bad_inputs.commands import (
    ON_TEXT,
    USAGE,
    assert_one_clear_line,
    config,
    faults,
    options,
    shards,
    train,
    write,
)

FAULTS = [
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
    (options("nan.yaml"), USAGE, "nan.yaml lr: out of range; found nan"),
    (options("inf.yaml"), USAGE, "inf.yaml lr: out of range; found inf"),
    (
        options("true.yaml"),
        USAGE,
        "true.yaml batch_size: wrong type of value; found True, expected int",
    ),
    (options("text.yaml"), USAGE, "text.yaml lr: wrong type of value; found '1e-3', expected float"),
    (options("masks.yaml"), USAGE, "masks.yaml mask_probability: out of range; found 2"),
    (options("twice.yaml"), USAGE, "twice.yaml:3: not YAML: 'batch_size' appears twice"),
    (options("tab.yaml"), USAGE, "tab.yaml:2: not YAML"),
    (options("nested.yaml"), USAGE, "nested.yaml: not YAML: nested too deeply"),
    (options("code.yaml"), USAGE, "code.yaml:1: not YAML: could not determine a constructor"),
    (options("list.yaml"), USAGE, "list.yaml: not a configuration"),
    (options("empty.yaml"), USAGE, "empty.yaml: not a configuration"),
    (options("nul.yaml"), USAGE, "nul.yaml: not YAML"),
    (options("latin1.yaml"), USAGE, "latin1.yaml: not YAML"),
    (options("bomb.yaml"), USAGE, "bomb.yaml batch_size: wrong type of value"),
    (options("long.yaml"), USAGE, "long.yaml: too large"),
    (options("number.yaml"), USAGE, "number.yaml: not YAML"),
    (options("key.yaml"), USAGE, "key.yaml: unknown name; found 7"),
    (
        config("twice.json"),
        USAGE,
        "twice.json: not a BERT configuration; found 'hidden_size' appears twice",
    ),
    (config("nan.json"), USAGE, "nan.json: not a BERT configuration; found NaN is not finite"),
    (config("inf.json"), USAGE, "inf.json: not a BERT configuration; found 1e999 is not finite"),
    (config("nested.json"), USAGE, "nested.json: not a BERT configuration; found nested too deeply"),
    (config("true.json"), USAGE, "true.json"),
    (config("text.json"), USAGE, "text.json"),
    (config("negative.json"), USAGE, "hidden_size|negative.json"),
    (config("float.json"), USAGE, "float.json"),
    (config("list.json"), USAGE, "list.json: not a BERT configuration"),
    (config("empty.json"), USAGE, "empty.json: not a BERT configuration"),
    (config("heads.json"), USAGE, "num_attention_heads"),
    (config("dropout.json"), USAGE, "hidden_dropout_prob"),
    (config("act.json"), USAGE, "hidden_act|activation"),
    (config("huge.json"), USAGE, "--vocab_size: out of range; found 1000000000000"),
    (
        f"{config('other_vocabulary.json')} --tokenizer run/tokenizer",
        USAGE,
        "other_vocabulary.json: the tokenizer has more entries than the model",
    ),
    (config("decoder.json"), USAGE, "decoder.json: not a BERT: is_decoder"),
    (f"{shards('shards')} --config_file configs/short.json", USAGE, "longer than the model allows"),
]


def make_faults() -> None:
    good = json.loads(Path("hf/config.json").read_text())
    levels = ", ".join(
        f"&{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefghi", "bcdefghij", strict=True)
    )
    write(
        "configs",
        {
            "nan.yaml": "lr: .nan",
            "inf.yaml": "lr: .inf",
            "true.yaml": "batch_size: true",
            "text.yaml": "lr: '1e-3'",
            "masks.yaml": "mask_probability: '2'",
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
        write("configs", {f"{name}.json": json.dumps({**good, **changes})})


@pytest.mark.slow
@faults(FAULTS)
def test_a_fault_ends_in_one_clear_line(folder, monkeypatch, capsys, words, exit_code, message):
    assert_one_clear_line(folder, monkeypatch, capsys, words, exit_code, message)


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

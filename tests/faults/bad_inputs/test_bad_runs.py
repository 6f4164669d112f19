"""Checkpoints, work folders and Hugging Face folders."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.faults.bad_inputs.commands import (
    CHECKPOINT,
    ON_TEXT,
    USAGE,
    Code,
    assert_one_clear_line,
    faults,
    fill,
    huggingface,
)

FAULTS = [
    # Checkpoints (39, 52, 55, 57, 73 to 76).
    (fill("runs/no_weights"), CHECKPOINT, "BERT.safetensors: damaged"),
    (fill("runs/no_manifest"), CHECKPOINT, "manifest.json: damaged"),
    (fill("runs/no_config"), CHECKPOINT, "bert-config.json: damaged"),
    (fill("runs/swapped_vocabulary"), CHECKPOINT, "vocab.txt: damaged|tokenizer.json: damaged"),
    (fill("runs/nan"), CHECKPOINT, "nan"),
    ("evaluate runs/nan --eval_data text/valid.txt", CHECKPOINT, "nan"),
    ("export runs/nan out", CHECKPOINT, "nan"),
    (fill("text/train.txt"), CHECKPOINT, "text/train.txt: a file, not a run"),
    (fill("runs/sizes"), CHECKPOINT, "a different intermediate_size; found 64, expected 128"),
    ("export runs/sizes out", CHECKPOINT, "a different intermediate_size; found 64, expected 128"),
    ("evaluate runs/sizes --eval_data text/valid.txt", CHECKPOINT, "a different intermediate_size"),
    (fill("runs/huge"), USAGE, "the model is larger than the memory"),
    (fill("runs/newer"), CHECKPOINT, "manifest.json: unsupported checkpoint version; found 2, expected 1"),
    (fill("runs/outside"), CHECKPOINT, "the manifest of a different checkpoint"),
    (fill("runs/absolute"), CHECKPOINT, "the manifest of a different checkpoint"),
    (fill("runs/nul"), CHECKPOINT, "the manifest of a different checkpoint"),
    (fill("runs/unsealed"), CHECKPOINT, "manifest.json: damaged"),
    (fill("runs/nested"), CHECKPOINT, "manifest.json: invalid JSON"),
    (fill("runs/link"), CHECKPOINT, "BERT.safetensors: not a regular file"),
    (fill("runs/pipe"), CHECKPOINT, "BERT.safetensors: not a regular file"),
    (fill("runs/pickle"), CHECKPOINT, "runs/pickle"),
    ("export runs/no_step out", CHECKPOINT, "state.json: not the state of a run; found no 'step'"),
    (
        f"{ON_TEXT} --train_data text/train.txt --num_iters 5 --load_dir runs/no_step",
        CHECKPOINT,
        "state.json",
    ),
    (fill("runs/bad_config"), USAGE, "bert-config.json: not a BERT configuration.*hidden_size.*expected int"),
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
        "unsupported checkpoint version",
    ),
    (f"{ON_TEXT} --train_data text/valid.txt --work_dir run", USAGE, "trained with a different text"),
    ("export run text/train.txt", USAGE, "train.txt"),
    ("export run hf", USAGE, "hf: "),
    ("export run text --force", USAGE, "text: "),
    (huggingface("no_weights"), CHECKPOINT, "hfs/no_weights"),
    (huggingface("cut"), CHECKPOINT, "hfs/cut"),
    (huggingface("sizes"), CHECKPOINT, "hfs/sizes"),
    (huggingface("pickle"), CHECKPOINT, "hfs/pickle"),
    (huggingface("bad_config"), CHECKPOINT, "hfs/bad_config"),
]


def make_faults() -> None:
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
    torch.save(Code(), new("pickle") / "BERT.safetensors")
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
    torch.save({"bert.embeddings.word_embeddings.weight": Code()}, "hfs/pickle/pytorch_model.bin")


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


@pytest.mark.slow
@faults(FAULTS)
def test_a_fault_ends_in_one_clear_line(folder, monkeypatch, capsys, words, exit_code, message):
    assert_one_clear_line(folder, monkeypatch, capsys, words, exit_code, message)

"""Files of weights, and what is pickled: never run."""

import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.faults.bad_inputs.commands import (
    CHECKPOINT,
    DATA,
    Code,
    assert_one_clear_line,
    faults,
    train,
    weights,
    write,
)

FAULTS = [
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
    (weights("nan.safetensors"), CHECKPOINT, "nan.safetensors .*: weights are not finite"),
    (weights("half.safetensors"), CHECKPOINT, "half.safetensors|a different shape or type|missing"),
    (train("texts/code.npy.txt"), DATA, "code.npy.txt"),
]


def make_faults() -> None:
    (step,) = Path("run/checkpoints").glob("STEP-*")
    good = load_file(step / "BERT.safetensors")
    Path("weights").mkdir()
    shutil.copy(step / "bert-config.json", "weights")
    torch.save({"weights": Code()}, "weights/code.pt")
    torch.save({"weights": Code()}, "weights/code.safetensors")
    torch.save({"weights": np.array([Code()], dtype=object)}, "weights/objects.pt")
    write("weights", {"plain.pickle.pt": pickle.dumps({"weights": Code()})})
    np.save("weights/objects.npy", np.array([Code()], dtype=object), allow_pickle=True)
    os.rename("weights/objects.npy", "weights/objects.npy.pt")
    whole = (step / "BERT.safetensors").read_bytes()
    header = json.dumps({"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}).encode()
    write(
        "weights",
        {
            "cut.safetensors": whole[:-100],
            "bomb.safetensors": len(header).to_bytes(8, "little") + header,
        },
    )
    first = next(iter(good))
    save_file({**good, first: torch.full_like(good[first], float("nan"))}, "weights/nan.safetensors")
    save_file({name: good[name] for name in list(good)[::2]}, "weights/half.safetensors")
    Path("texts").mkdir()
    np.save("texts/code.npy", np.array([Code()], dtype=object), allow_pickle=True)
    os.rename("texts/code.npy", "texts/code.npy.txt")


@pytest.mark.slow
@faults(FAULTS)
def test_a_fault_ends_in_one_clear_line(folder, monkeypatch, capsys, words, exit_code, message):
    assert_one_clear_line(folder, monkeypatch, capsys, words, exit_code, message)

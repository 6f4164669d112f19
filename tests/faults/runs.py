"""Trainings of a second or two in processes of their own, and what is left of them."""

import hashlib
import json
import os
import resource
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from nemo.backends.pytorch.checkpoints.checkpoint import list_checkpoints
from nemo.backends.pytorch.checkpoints.manifest import verify
from tests.conftest import PATIENCE

ROOT = Path(__file__).parents[2]
STRIKE = ROOT / "tests/faults/strike.py"
NUM_STEPS = 60
TEXT = shlex.split("--tokenizer word-piece --vocab_size 80 --max_seq_length 32 data_text")
TINY = shlex.split(
    "--no-report --hidden_size 32 --num_hidden_layers 2 --num_attention_heads 2 --intermediate_size 64 "
    "--batches_per_step 2 --optimizer adam_w --beta2 0.98 --lr 1e-3 --lr_policy CosineAnnealing "
    "--train_step_freq 1 --eval_step_freq -1 --save_step_freq 7 --checkpoints_to_keep 2 --threads 1 "
    f"--num_iters {NUM_STEPS}"
)


def words(data: Path, work_dir: Path, *more: str) -> list[str]:
    """The command line of a training, after `nemo-bert`."""
    mode = () if "data_preprocessed" in more else TEXT
    batch = () if "--tokens_per_batch" in more else ("--batch_size", "4")
    return ["pretrain", "--data_dir", str(data), "--work_dir", str(work_dir), *TINY, *batch, *mode, *more]


def prepared(data: Path, folder: Path) -> Path:
    """The folder of shards that `nemo-bert prepare` makes of `data / "train.txt"`."""
    sizes = shlex.split("--vocab_size 80 --workers 1 --phases 32/5 --test_fraction 0")
    code, told = outcome(start(["prepare", str(data / "train.txt"), "--out", str(folder), *sizes]))
    assert code == 0, told
    (shards,) = folder.glob("hdf5_*")
    return shards


def start(
    command: Sequence[str], *program: str, file_size: int | None = None, cwd: Path | None = None
) -> subprocess.Popen[str]:
    """Start `python *program *command`; the program is nemo-bert unless given.

    Args:
        file_size: bytes that a file may have, as a stand-in for a disk that is full.
        cwd: the folder to start it in.
    """

    def prepare() -> None:
        for number in (signal.SIGINT, signal.SIGHUP):  # which a shell, or nohup, may have ignored
            signal.signal(number, signal.SIG_DFL)
        if file_size is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))

    return subprocess.Popen(
        [sys.executable, *(program or ("-m", "nemo.cli.main")), *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        preexec_fn=prepare,
        cwd=cwd,
    )


def outcome(run: subprocess.Popen[str], seconds: float = PATIENCE) -> tuple[int, str]:
    """Exit code, and what was printed."""
    try:
        told = run.communicate(timeout=seconds)[0]
    except subprocess.TimeoutExpired:
        run.kill()
        raise AssertionError(f"still running after {seconds} s: {run.communicate()[0]}") from None
    return run.returncode, told


def wait_for_step(run: subprocess.Popen[str], work_dir: Path, step: int) -> None:
    """Until step `step` is written down, or the run has ended."""
    metrics = work_dir / "metrics.jsonl"
    while run.poll() is None:
        lines = metrics.read_text().splitlines() if metrics.is_file() else []
        if any(f'"step": {number},' in line for line in lines[-3:] for number in range(step, step + 9)):
            return
        time.sleep(0.002)


def final_hash(work_dir: Path) -> str:
    """SHA-256 over weights, optimizer, step and place in the data of the newest checkpoint."""
    newest = list_checkpoints(work_dir / "checkpoints")[-1]
    verify(newest)
    state = json.loads((newest / "state.json").read_text())
    digest = hashlib.sha256(json.dumps(state, sort_keys=True).encode())
    for path in sorted(newest.glob("*.safetensors")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def leftovers(work_dir: Path) -> list[str]:
    """Names of hidden files below `checkpoints`."""
    return [path.name for path in (work_dir / "checkpoints").iterdir() if path.name.startswith(".")]

"""Text that several processes train on, and what trainings that nothing disturbed made of it."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nemo.collections.nlp.data.tokenizers.vocabulary import train_tokenizer
from tests.conftest import made_once, write_english
from tests.distributed.launching import TORCHRUN, Job, Versions, by_hand, free_port, pretraining

NUM_STEPS = 50
BATCH = 32  # of all processes together
LAUNCH = ("-m", "torch.distributed.launch", "--nproc_per_node=2")


@pytest.fixture(scope="session")
def text(shared_folder) -> Path:
    """A folder with text, and a vocabulary in `bert`."""

    def make(folder: Path) -> None:
        write_english(folder)
        train_tokenizer("sentence-piece", [folder / "train.txt"], folder / "bert", vocab_size=200)

    return made_once(shared_folder / "english", make)


@pytest.fixture(scope="session")
def undisturbed(text, shared_folder) -> Callable[[str], Path]:
    """Name -> the work folder of a run of 50 steps; every one is made when it is first asked for."""

    def words(work_dir: Path, batch_size: int, *more: str, data: Path = text):
        sizes = ("--num_iters", NUM_STEPS, "--batch_size", batch_size)
        return pretraining(data, work_dir, *sizes, *more)

    def make(folder: Path) -> None:
        match folder.name:
            case "one":
                commands = words(folder, BATCH)
            case "two":
                commands = [*LAUNCH, f"--master_port={free_port()}", *words(folder, 16, "--num_gpus=2")]
            case "four":  # which starts from nothing but text; what it makes of that is noted
                _make_four(folder, words)
                return
            case "accumulated":  # by nothing but the environment
                logs = folder.with_suffix(".told")
                with by_hand(logs, [words(folder, 8, "--batches_per_step=2")] * 2) as jobs:
                    for job in jobs:
                        job.succeed()
                return
        with Job(folder.with_suffix(".told"), *commands) as job:
            job.succeed()

    def run(name: str) -> Path:
        runs = shared_folder / "undisturbed_processes"
        runs.mkdir(exist_ok=True)
        return made_once(runs / name, make)

    return run


def _make_four(folder: Path, words: Callable[..., list[Any]]) -> None:
    data = write_english(folder.with_suffix(".text"))
    commands = [*TORCHRUN, "--nproc_per_node=4", *words(folder, 8, data=data)]
    with Job(folder.with_suffix(".told"), *commands) as job:
        made = Versions(data, folder / "tokenizer")
        while job.is_running():
            made.look()
            time.sleep(0.02)
        job.succeed()
    (folder / "made.json").write_text(json.dumps(made.number()))
    (folder / "log").write_text(job.out)

"""Text that several processes train on, and what trainings that nothing disturbed made of it."""

import json
import time
from functools import cache
from pathlib import Path

import pytest

from nemo.collections.nlp.data.tokenizers.vocabulary import train_tokenizer
from tests.conftest import write_english
from tests.distributed.launching import TORCHRUN, Job, Versions, by_hand, free_port, pretraining

UPDATES = 50
BATCH = 32  # of all processes together
LAUNCH = ("-m", "torch.distributed.launch", "--nproc_per_node=2")


@pytest.fixture(scope="session")
def text(tmp_path_factory) -> Path:
    """A folder with text, and a vocabulary in `bert`."""
    folder = write_english(tmp_path_factory.mktemp("distributed") / "english")
    train_tokenizer("sentence-piece", [folder / "train.txt"], folder / "bert", vocab_size=200)
    return folder


@pytest.fixture(scope="session")
def undisturbed(text, tmp_path_factory):
    """Name -> the work folder of a run of 50 steps; every one is made when it is first asked for."""
    folder = tmp_path_factory.mktemp("undisturbed")

    def words(name: str, batch_size: int, *more: str, data: Path = text):
        sizes = ("--num_iters", UPDATES, "--batch_size", batch_size)
        return pretraining(data, folder / name, *sizes, *more)

    @cache
    def run(name: str) -> Path:
        match name:
            case "one":
                commands = words(name, BATCH)
            case "two":
                commands = [*LAUNCH, f"--master_port={free_port()}", *words(name, 16, "--num_gpus=2")]
            case "four":  # which starts from nothing but text; what it makes of that is noted
                data = write_english(folder / "fresh")
                commands = [*TORCHRUN, "--nproc_per_node=4", *words(name, 8, data=data)]
                with Job(folder, *commands) as job:
                    made = Versions(data, folder / name / "tokenizer")
                    while job.is_running():
                        made.look()
                        time.sleep(0.02)
                    job.succeed()
                (folder / name / "made.json").write_text(json.dumps(made.number()))
                (folder / name / "log").write_text(job.out)
                return folder / name
            case "accumulated":  # by nothing but the environment
                with by_hand(folder, [words(name, 8, "--batches_per_step=2")] * 2) as jobs:
                    for job in jobs:
                        job.succeed()
                return folder / name
        with Job(folder, *commands) as job:
            job.succeed()
        return folder / name

    return run

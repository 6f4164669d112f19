"""The folder that all cases start from."""

import os
import shlex
import shutil
import signal
from pathlib import Path

import pytest

from nemo.cli.main import main
from tests.conftest import PATIENCE, made_once, write_english
from tests.faults.bad_inputs.commands import train
from tests.shards import make_rows, write_shard


@pytest.fixture(scope="session")
def base(shared_folder) -> Path:
    """See commands.py."""
    return made_once(shared_folder / "faults", _make_base)


def _make_base(folder: Path) -> None:
    write_english(folder / "text")
    before = Path.cwd()
    os.chdir(folder)
    try:
        assert main(shlex.split(f"{train('text/train.txt')} --work_dir run")) == 0
        assert main(["export", "run", "hf"]) == 0
        write_shard(Path("shards/a_training.hdf5"), make_rows(20))
    finally:
        os.chdir(before)


@pytest.fixture(scope="module")
def folder(base, tmp_path_factory, request) -> Path:
    """A copy of it, in which the module has made its faults."""
    folder = tmp_path_factory.mktemp(request.module.__name__.rpartition(".")[2]) / "faults"
    shutil.copytree(base, folder)
    before = Path.cwd()
    os.chdir(folder)
    try:
        if (make_faults := getattr(request.module, "make_faults", None)) is not None:
            make_faults()
    finally:
        os.chdir(before)
    return folder


@pytest.fixture(autouse=True)
def _nothing_hangs():
    def stop(number, frame):
        raise AssertionError(f"still running after {PATIENCE} s")

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(PATIENCE)
    yield
    signal.alarm(0)

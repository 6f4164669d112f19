"""Starts processes that train together, and sees to it that none of them outlives its test."""

import contextlib
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.conftest import PATIENCE

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples/nlp/language_modeling/bert_pretraining.py"
WORKER = Path(__file__).parent / "worker.py"
TORCHRUN = ("-m", "torch.distributed.run", "--standalone")
TINY = shlex.split(
    "--no-report --hidden_size 32 --num_hidden_layers 2 --num_attention_heads 2 "
    "--intermediate_size 64 --max_seq_length 32 --hidden_dropout_prob 0 --attention_probs_dropout_prob 0 "
    "--optimizer adam_w --beta2 0.98 --lr 1e-3 --train_step_freq 1 --eval_step_freq -1 --save_step_freq 7 "
    "--checkpoints_to_keep 1000"
)
_MARK = "NEMO_TEST_JOB"
_OF_LAUNCHERS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class Job:
    """A command and all that it starts; `with` ends what is left of it.

    Args:
        folder: where it works, and what it prints goes.
        words: of the command, after `python`.
        settings: environment variables.
    """

    def __init__(self, folder: Path, *words: Any, **settings: Any):
        folder.mkdir(parents=True, exist_ok=True)
        self._mark = uuid.uuid4().hex
        self._paths = [folder / f"{self._mark}.{stream}" for stream in ("out", "err")]
        inherited = {name: value for name, value in os.environ.items() if name not in _OF_LAUNCHERS}
        environment = {**inherited, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), _MARK: self._mark}
        environment |= {name: str(value) for name, value in settings.items()}
        with open(self._paths[0], "wb") as out, open(self._paths[1], "wb") as err:
            self._process = subprocess.Popen(
                [sys.executable, *map(str, words)], stdout=out, stderr=err, env=environment, cwd=folder
            )
        self.pid = self._process.pid

    @property
    def out(self) -> str:
        return self._paths[0].read_text(errors="replace")

    @property
    def err(self) -> str:
        return self._paths[1].read_text(errors="replace")

    def __enter__(self) -> "Job":
        return self

    def __exit__(self, *_: Any) -> None:
        for pid in self.pids():
            _kill(pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait(PATIENCE)

    def wait(self) -> int:
        """Its exit code, when it has ended."""
        try:
            return self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {PATIENCE} s\n{self.out}\n{self.err}") from None

    def is_running(self) -> bool:
        return self._process.poll() is None

    def succeed(self) -> "Job":
        code = self.wait()
        assert code == 0, f"exit code {code}\n{self.out[-2000:]}\n{self.err[-5000:]}"
        return self

    def pids(self, rank: int | None = None) -> list[int]:
        """Its living processes; or those of one rank, the first of them before what it has forked."""
        wanted = [f"{_MARK}={self._mark}", *([] if rank is None else [f"RANK={rank}"])]
        found = []
        for folder in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if folder.name.isdigit():
                    has = (folder / "environ").read_bytes().decode(errors="replace").split("\0")
                    if all(word in has for word in wanted):
                        found.append(int(folder.name))
        return sorted(found)

    def kill(self, rank: int | None = None, how: int = signal.SIGKILL) -> None:
        """Send a signal to a rank; or to all there are."""
        pids = self.pids(rank)[: None if rank is None else 1]
        assert pids, "nothing to be killed is left"
        for pid in pids:
            _kill(pid, how)

    def kill_first(self, how: int = signal.SIGKILL) -> None:
        """Send a signal to the process that was started, and not to those that it has started."""
        self._process.send_signal(how)
        self._process.wait(PATIENCE)

    def errors(self) -> list[str]:
        """The lines that tell why it ended."""
        return [line for line in self.err.splitlines() if line.startswith("error[")]


def _kill(pid: int, how: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, how)


@contextlib.contextmanager
def by_hand(folder: Path, commands: list[list[Any]], size: int = 0, **settings: Any) -> Iterator[list[Job]]:
    """A job for each command, its rank in its environment as a launcher would put it; each in its folder."""
    shared = {"WORLD_SIZE": size or len(commands), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(
                Job(folder / str(rank), *words, RANK=rank, LOCAL_RANK=rank, **(shared | settings))
            )
            for rank, words in enumerate(commands)
        ]


def free_port() -> int:
    with socket.socket() as some:
        some.bind(("127.0.0.1", 0))
        return some.getsockname()[1]


def pretraining(data: Path, work_dir: Path, *more: Any) -> list[Any]:
    """The words of a tiny pretraining, after `python` or a launcher."""
    return [EXAMPLE, "--data_dir", data, "--work_dir", work_dir, *TINY, *more, "data_text"]


def rows(work_dir: Path) -> list[dict[str, Any]]:
    """What a run has written down of its steps."""
    path = work_dir / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [row for row in map(json.loads, lines) if "loss" in row]


class Versions:
    """How often files were made: what is written anew is another file of the same name."""

    def __init__(self, *folders: Path):
        self._folders = folders
        self._seen: dict[str, set[int]] = {}

    def look(self) -> None:
        found = (os.walk(folder) for folder in self._folders)  # which minds nothing that vanishes
        paths = [Path(where, name) for walk in found for where, _, names in walk for name in names]
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                if "/." not in str(path):  # not in the making
                    self._seen.setdefault(str(path), set()).add(path.stat().st_ino)

    def number(self) -> dict[str, int]:
        """By path."""
        return {name: len(files) for name, files in self._seen.items()}


def wait_until(is_so: Callable[[], Any], job: Job) -> None:
    """Raise an AssertionError if it does not come to that, or the job ends before."""
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert job.is_running(), f"ended too early\n{job.out}\n{job.err}"
        assert time.monotonic() < deadline, f"nothing within {PATIENCE} s\n{job.out}\n{job.err}"
        time.sleep(0.02)


def wait_for_steps(work_dir: Path, steps: int, job: Job) -> None:
    wait_until(lambda: checkpoint_at(work_dir) >= steps, job)


def checkpoint_at(work_dir: Path) -> int:
    """The step of the newest checkpoint; 0 if there is none."""
    names = [path.name for path in (work_dir / "checkpoints").glob("STEP-*")]
    return max((int(name.removeprefix("STEP-")) for name in names if name[5:].isdigit()), default=0)

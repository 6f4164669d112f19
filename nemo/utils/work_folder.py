"""The work folder of a run: how it was started, its progress and its checkpoints."""

import json
import math
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

from nemo.utils.errors import StorageError
from nemo.utils.files import storage_errors, write_atomically
from nemo.utils.logging import LogMode, logging

LOG_FILES = "log_globalrank-*_localrank-*.txt"
MADE_AT_ONCE = ("checkpoints", "cmd-args_*.log", "git-info_*.log", "tensorboard", "tensorboard/events.out.*")
"""Glob patterns of the files created before a run begins."""


class WorkFolder:
    """The folder with all records of a run.

    Created at once: `cmd-args_<time>.log`, `git-info_<time>.log` (inside a git checkout), a copy of each of
    `files_to_copy`, and the log `log_globalrank-<r>_localrank-<l>.txt`. Created later: `config.yaml`,
    `status.json`, `metrics.jsonl`, `about.json`, `guesses.json`, `report.html`, and `bad_steps.jsonl` if
    needed. Each rank writes a log; all other files are written by rank 0.

    Args:
        work_dir: created if needed.
        files_to_copy: copied as `<stem>_<time><suffix>`; anything that is not a file is skipped and logged.
        add_time: use the subfolder `<time>` of `work_dir`.
        global_rank, local_rank: None takes torchrun's, or 0.
        timestamp: `<time>`; None means now. All ranks of a run must pass the same.

    Attributes:
        work_dir, checkpoint_dir, tensorboard_dir: paths; the first two exist.

    Raises:
        StorageError: the folder cannot be written to.
    """

    # Each line belongs to one run's log, so a process's next folder closes the log of the previous one.
    _logged: ClassVar["WorkFolder | None"] = None

    def __init__(
        self,
        work_dir: str | os.PathLike[str],
        *,
        files_to_copy: Iterable[str | os.PathLike[str] | None] = (),
        add_time: bool = False,
        global_rank: int | None = None,
        local_rank: int | None = None,
        timestamp: str | None = None,
    ):
        self.timestamp = timestamp or time.strftime("%Y-%m-%d_%H-%M-%S")
        self.work_dir = Path(work_dir, self.timestamp) if add_time else Path(work_dir)
        self.checkpoint_dir = self.work_dir / "checkpoints"
        self.tensorboard_dir = self.work_dir / "tensorboard"
        self.metrics_path = self.work_dir / "metrics.jsonl"
        self.bad_steps_path = self.work_dir / "bad_steps.jsonl"
        self.global_rank = int(os.environ.get("RANK", 0)) if global_rank is None else global_rank
        self.local_rank = int(os.environ.get("LOCAL_RANK", 0)) if local_rank is None else local_rank
        self._status: dict[str, Any] = {}

        with storage_errors(self.work_dir):
            self.checkpoint_dir.mkdir(parents=True, exist_ok=True)
            self._start_log()
            if self.global_rank == 0:
                self._write_origin(files_to_copy)

    def write_config(self, config: Mapping[str, Any], remarks: str = "") -> None:
        """Write `config.yaml`, in the order given.

        Args:
            remarks: lines for the top of the file, as comments.

        Raises:
            StorageError: the file cannot be written.
        """
        import yaml

        if self.global_rank == 0:
            comments = "".join(f"# {line}".rstrip() + "\n" for line in remarks.splitlines())
            text = comments + yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
            write_atomically(self.work_dir / "config.yaml", text.encode())

    def write_status(self, **fields: Any) -> None:
        """Update `fields` of `status.json`, atomically."""
        self._status |= fields
        if self.global_rank == 0:
            path = self.work_dir / "status.json"
            content = _to_json(self._status, indent=1)
            with _at_most_a_warning(path):
                try:
                    write_atomically(path, content, durable=False)
                except StorageError:
                    _overwrite(path, content)
                    raise

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write `content` to the file `name`; a failure is logged and does not stop training."""
        if self.global_rank == 0:
            path = self.work_dir / name
            with _at_most_a_warning(path):
                write_atomically(path, _to_json(content, indent=1), durable=False)

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        """Add a line to `metrics.jsonl`; NaN and infinity are written as null."""
        self._append(self.metrics_path, row)

    def append_bad_step(self, row: Mapping[str, Any]) -> None:
        """Add a line to `bad_steps.jsonl`."""
        self._append(self.bad_steps_path, row)

    def truncate_metrics(self, step: int) -> None:
        """Drop lines after `step`, and a line truncated by a crash, before a run resumes there."""
        if self.global_rank == 0 and self.metrics_path.is_file():
            with storage_errors(self.metrics_path):
                lines = self.metrics_path.read_text(encoding="utf-8", errors="replace").splitlines()
            kept = [f"{line}\n" for line in lines if _is_row_until(step, line)]
            write_atomically(self.metrics_path, "".join(kept).encode())

    def _append(self, path: Path, row: Mapping[str, Any]) -> None:
        if self.global_rank == 0:
            with _at_most_a_warning(path), open(path, "ab") as file:
                file.write(_to_json(row) + b"\n")

    def close(self) -> None:
        """Stop logging to this folder."""
        if WorkFolder._logged is self:
            logging.remove_handler(self._handler)
            self._handler.close()
            WorkFolder._logged = None

    def _start_log(self) -> None:
        if WorkFolder._logged is not None:
            WorkFolder._logged.close()
        name = f"log_globalrank-{self.global_rank}_localrank-{self.local_rank}.txt"
        self._handler = logging.add_file_handler(self.work_dir / name)
        WorkFolder._logged = self

    def _write_origin(self, files_to_copy: Iterable[str | os.PathLike[str] | None]) -> None:
        """Record the command, the version of the code, and copies of `files_to_copy`."""
        # File names may contain bytes that are not UTF-8.
        self._path_with_time("cmd-args.log").write_bytes(os.fsencode(f"{shlex.join(sys.argv)}\n"))
        if git_info := _git_info():
            self._path_with_time("git-info.log").write_bytes(git_info)
        for file in files_to_copy:
            if file is None or not Path(file).is_file():  # in a notebook, for example
                logging.info(f"files_to_copy: skipped {file}, which is not a file")
            else:
                shutil.copyfile(file, self._path_with_time(Path(file).name))

    def _path_with_time(self, name: str) -> Path:
        stem, suffix = os.path.splitext(name)
        return self.work_dir / f"{stem}_{self.timestamp}{suffix}"


def _overwrite(path: Path, content: bytes) -> None:
    """Overwrite a small file in place, in its existing block; this works even on a full disk."""
    if len(content) <= 4096:
        with suppress(OSError), open(path, "r+b") as file:
            file.write(content)
            file.truncate()


@contextmanager
def _at_most_a_warning(path: Path) -> Iterator[None]:
    """Log a failure to write records; it does not stop training."""
    try:
        with storage_errors(path):
            yield
    except StorageError as error:
        logging.warning(f"{error}; training continues", mode=LogMode.ONCE)


def _git_info() -> bytes | None:
    """The current folder's commit and uncommitted changes; None outside a git checkout."""
    commands = (["rev-parse", "HEAD"], ["diff", "--no-ext-diff", "--no-textconv", "HEAD"])
    try:
        outputs = [
            subprocess.run(["git", *command], capture_output=True, check=True, timeout=30).stdout
            for command in commands
        ]
    except (OSError, subprocess.SubprocessError):
        return None
    return b"\n".join(outputs)


def _is_row_until(step: int, line: str) -> bool:
    try:
        row = json.loads(line)
    except ValueError:
        return False
    return isinstance(row, dict) and row.get("step", 0) <= step


def _to_json(row: Mapping[str, Any], indent: int | None = None) -> bytes:
    """JSON in UTF-8; file names that are not UTF-8 are escaped, and NaN and infinity become null."""
    finite = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in row.items()
    }
    text = json.dumps(finite, indent=indent, allow_nan=False, ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace")

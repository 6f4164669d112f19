"""Shared tools of the benchmarks: alternating windows, tables and JSON.

Every way to train has a separate process; one runs while the others wait. So the ways share no allocators,
threads, compiler settings or environment variables.
"""

import json
import math
import os
import resource
import sys
import time
import traceback
import warnings
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from importlib import import_module
from itertools import cycle
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import torch
from machine import synchronize
from ways import Batch, Shape, Way, train

WARM_UP_STEPS = 2
SYNC_STEPS = 5
PATIENCE = 1800.0  # seconds


# Windows


@dataclass(frozen=True)
class Job:
    """The work of a process."""

    way: Way
    shape: Shape
    batches: Sequence[Batch]
    device: str = "cpu"
    threads: int | None = None


@dataclass(frozen=True)
class Ready:
    """Timings before the first window.

    Attributes:
        start: seconds to create the model and make the first step, including compilation, but not imports.
        step: seconds of the last step of the warm-up.
    """

    start: float
    step: float


@dataclass(frozen=True)
class Window:
    """A measurement of consecutive steps."""

    seconds: float
    steps: int
    tokens: int
    flops: float


class WorkerError(RuntimeError):
    """A way could not be measured."""


class Worker:
    """A process that trains on request.

    Args:
        patience: seconds to wait for it to become ready.

    Attributes:
        windows: the measured windows.

    Raises:
        WorkerError: the process failed or timed out.
    """

    def __init__(self, job: Job, patience: float = PATIENCE):
        self.job = job
        self.windows: list[Window] = []
        context = get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, job), daemon=True)
        with _variables(job.way.environment):
            self._process.start()
        theirs.close()
        try:
            self.ready: Ready = self._answer(patience)
        except WorkerError:
            self.stop()
            raise
        self._step = self.ready.step

    def window(self, seconds: float) -> None:
        """Measure a window of about `seconds`, at least one step."""
        window: Window = self._ask("window", max(1, round(seconds / self._step)))
        self._step = window.seconds / window.steps
        self.windows.append(window)

    def syncs(self) -> float | None:
        """How often a step makes the CPU wait for the GPU; None without a GPU."""
        if self.job.device == "cpu":
            return None
        return self._ask("syncs", SYNC_STEPS) / SYNC_STEPS

    def peak_memory(self) -> int:
        """Peak memory in bytes, of the GPU if there is one."""
        return self._ask("memory")

    def stop(self, patience: float = 5) -> None:
        """End the process; kill it if it does not end within `patience` seconds."""
        with suppress(OSError):
            self._connection.send(("stop", 0))
        self._process.join(patience)
        self._process.terminate()
        self._process.join()
        self._connection.close()

    def _ask(self, what: str, steps: int = 0) -> Any:
        self._connection.send((what, steps))
        return self._answer(PATIENCE)

    def _answer(self, patience: float) -> Any:
        if not self._connection.poll(patience):
            raise WorkerError(f"no answer for {patience:.0f} s")
        try:
            answer = self._connection.recv()
        except EOFError:
            raise WorkerError("its process has ended") from None
        if isinstance(answer, str):
            raise WorkerError(answer)
        return answer


@contextmanager
def _variables(variables: Iterable[tuple[str, str]]) -> Iterator[None]:
    """Set environment variables for processes that are started inside the block."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


class _Stop(BaseException):
    """Ends a training from within its loop."""


def _serve(connection: Connection, job: Job) -> None:
    """Run in the worker's process."""
    if job.threads is not None:
        torch.set_num_threads(job.threads)
    try:
        _import_libraries(job.way)
        steps = _steps(job, connection)
        next(steps)
        train(job.way, job.shape.model, job.batches, job.device, lambda: next(steps))
    except _Stop:
        pass
    except Exception as problem:
        traceback.print_exc()
        connection.send(f"{type(problem).__name__}: {problem}")


def _import_libraries(way: Way) -> None:
    """Import the libraries before the measurement."""
    import_module(
        "nemo.collections.nlp.nm.pretraining_model" if way.loop == "ours" else "transformers.trainer"
    )


def _steps(job: Job, connection: Connection) -> Generator[None, None, None]:
    """A generator advanced after every step; it blocks training between windows."""
    work = cycle([(batch.tokens, job.shape.flops(batch)) for batch in job.batches])
    times = [time.perf_counter()]
    for _ in range(WARM_UP_STEPS):
        yield
        next(work)
        synchronize(job.device)
        times.append(time.perf_counter())
    connection.send(Ready(times[1] - times[0], times[-1] - times[-2]))
    while True:
        what, steps = connection.recv()
        if what == "window":
            synchronize(job.device)
            began = time.perf_counter()
            done = []
            for _ in range(steps):
                yield
                done.append(next(work))
            synchronize(job.device)
            tokens, flops = (sum(values) for values in zip(*done, strict=True))
            connection.send(Window(time.perf_counter() - began, steps, tokens, flops))
        elif what == "syncs":
            with _synchronizations() as found:
                for _ in range(steps):
                    yield
                    next(work)
            connection.send(len(found))
        elif what == "memory":
            connection.send(_peak_memory(job.device))
        else:
            raise _Stop


@contextmanager
def _synchronizations() -> Iterator[list[Any]]:
    """Collects a warning for each time the CPU waits for the GPU."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        found: list[Any] = []
        try:
            yield found
        finally:
            torch.cuda.set_sync_debug_mode("default")
            found += [warning for warning in caught if "synchroniz" in str(warning.message)]


def _peak_memory(device: str) -> int:
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


# Comparing


def compare(
    jobs: Sequence[Job], seconds: float, windows: int, deadline: float = math.inf
) -> tuple[list[dict[str, Any]], list[str]]:
    """Measure ways in alternation: A B C A B C ...; prints a line for each window.

    Args:
        seconds: length of a window.
        deadline: by `time.monotonic()`; ways that would begin later are skipped.

    Returns:
        The results of the measured ways, and a line for each way that could not be measured.
    """
    workers: list[Worker] = []
    problems: list[str] = []

    @contextmanager
    def noting(job: Job) -> Iterator[None]:
        """Record a failure, and continue with the other ways."""
        try:
            yield
        except (WorkerError, OSError) as problem:
            problems.append(f"{job.shape.name}, {job.way.name}: {problem}")

    try:
        for job in jobs:
            with noting(job):
                left = deadline - time.monotonic()
                if left < 0:
                    raise WorkerError("no time was left")
                workers.append(Worker(job, min(left + 60, PATIENCE)))
                progress(job, f"ready after {workers[-1].ready.start:.1f} s")
        for number in range(windows):
            for worker in workers:
                with noting(worker.job):
                    worker.window(seconds)
                    window = worker.windows[-1]
                    rate = f"{window.tokens / window.seconds:,.0f} tokens/s"
                    progress(worker.job, f"window {number + 1} of {windows}, {rate}")
        found = []
        for worker in workers:
            with noting(worker.job):
                found.append(found_by(worker))
        return found, problems
    finally:
        for worker in workers:
            worker.stop()


def progress(job: Job, what: str) -> None:
    """Print a line of progress, with the time of day."""
    print(f"{datetime.now():%H:%M:%S} {job.shape.name}, {job.way.name}: {what}", file=sys.stderr, flush=True)


def found_by(worker: Worker) -> dict[str, Any]:
    """The results of a worker, for the record."""
    windows = worker.windows
    return {
        "way": worker.job.way.name,
        "dtype": worker.job.way.dtype,
        "environment": dict(worker.job.way.environment),
        "tokens_per_s": median(w.tokens / w.seconds for w in windows),
        "flops_per_s": median(w.flops / w.seconds for w in windows),
        "ms_per_step": 1e3 * median(w.seconds / w.steps for w in windows),
        "start_s": worker.ready.start,
        "peak_memory": worker.peak_memory(),
        "syncs_per_step": worker.syncs(),
        "windows": [asdict(w) for w in windows],
    }


def about(shape: Shape, batches: Sequence[Batch]) -> dict[str, Any]:
    """A shape, and statistics of its batches."""
    tokens = sum(batch.tokens for batch in batches)
    positions = sum(batch.input_mask.size for batch in batches)
    return {
        **asdict(shape),
        "tokens_per_batch": tokens / len(batches),
        "padding_counted": 1 - tokens / positions,
        "masked_counted": sum(int(batch.output_mask.sum()) for batch in batches) / tokens,
    }


# Reports


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table: the first column is left-aligned, the others right-aligned."""
    lines = [header, ["---", *["--:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def way_rows(found: Iterable[Mapping[str, Any]], rates: Mapping[str, float]) -> list[list[str]]:
    """Rows for `WAY_HEADER`."""
    return [
        [
            str(way["way"]),
            f"{way['tokens_per_s']:,.0f}",
            f"{_spread(way):.0%}",
            f"{way['ms_per_step']:,.1f}",
            f"{way['flops_per_s'] / 1e12:.4g}",
            f"{way['flops_per_s'] / rates[way['dtype']]:.0%}",
            f"{way['start_s']:.1f}",
            f"{way['peak_memory'] / 2**30:.1f}",
        ]
        for way in found
    ]


WAY_HEADER = ("way", "tokens/s", "spread", "ms/step", "TFLOP/s", "of GEMM", "start s", "GiB")


def _spread(way: Mapping[str, Any]) -> float:
    """The difference of the fastest and the slowest window, relative to the median."""
    rates = [window["tokens"] / window["seconds"] for window in way["windows"]]
    return (max(rates) - min(rates)) / way["tokens_per_s"]


def write_json(path: Path | None, report: Mapping[str, Any]) -> None:
    """Write a report, unless `path` is None."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")

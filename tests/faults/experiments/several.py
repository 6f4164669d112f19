"""Trainings of several processes, of which one is lost or their number changes."""

import contextlib
import math
import os
import signal
import time
from pathlib import Path
from typing import Any

from nemo.backends.pytorch.checkpoints.checkpoint import latest_good
from tests.distributed.launching import TORCHRUN, Job, by_hand, pretraining, rows, wait_until
from tests.faults.experiments.bench import (
    Bench,
    Trials,
    has_come_to,
    identity,
    job_alone,
    last_row,
    newest_step,
)
from tests.faults.runs import final_hash, outcome, start, words


def kills_of_two(bench: Bench, number: int) -> Trials:
    """SIGKILL of one of two processes at random; torchrun ends the other, and the same command resumes."""
    undisturbed = bench.new_folder()
    with Job(bench.folder / "logs", *_two(bench, undisturbed)) as job:
        job.succeed()
    expected = final_hash(undisturbed)
    struck, pending, work_dir = 0, 0, bench.new_folder()
    while struck < number or pending:
        done, rows_before = newest_step(work_dir), identity(work_dir)
        with Job(bench.folder / "logs", *_two(bench, work_dir)) as job:
            if struck < number:
                step = done + bench.rng.randint(1, 25)
                while job.is_running() and not has_come_to(step, work_dir, rows_before):
                    time.sleep(0.005)
            if struck < number and job.is_running() and (pids := job.pids(bench.rng.randrange(2))):
                signal_at = time.monotonic()
                _send(pids[0], signal.SIGKILL)
                struck, pending = struck + 1, pending + 1
                job.wait()
                bench.note("seconds from a dead process to the exit of all", time.monotonic() - signal_at)
                latest_good(work_dir / "checkpoints")
                continue
            code = job.wait()
        is_same = code == 0 and final_hash(work_dir) == expected
        for _ in range(pending):
            yield "" if is_same else f"{work_dir.name}: exit code {code}, another end: {job.err[-300:]}"
        pending, work_dir = 0, bench.new_folder()


def dead_processes(bench: Bench, number: int) -> Trials:
    """One of two processes is killed: the other is gone within 10 s, and names the missing rank."""
    for _ in range(number):
        yield _lose_one(bench, signal.SIGKILL, seconds=10, told="rank 0|rank 1")


def stopped_processes(bench: Bench, number: int) -> Trials:
    """One of two processes is stopped (SIGSTOP), with a timeout of 10 s: both are gone within 20 s."""
    for _ in range(number):
        yield _lose_one(bench, signal.SIGSTOP, seconds=20, told="was killed or stopped")


def _lose_one(bench: Bench, how: int, seconds: float, told: str) -> str:
    work_dir = bench.new_folder()
    command = pretraining(bench.data, work_dir, "--vocab_size=80", "--num_iters=100000", "--hang_timeout=10")
    with by_hand(work_dir.with_suffix(".logs"), [command] * 2) as jobs:
        wait_until(lambda: len(rows(work_dir)) > bench.rng.randint(1, 30), jobs[0])
        lost = bench.rng.randrange(2)
        jobs[lost].kill(lost, how)
        began = time.monotonic()
        codes = [job.wait() for job in jobs]
        took = time.monotonic() - began
        bench.note(f"seconds to the end after {signal.Signals(how).name}", took)
        says = any(word in jobs[1 - lost].err for word in told.split("|"))
        is_fine = took <= seconds and codes[1 - lost] == 7 and says and not any(job.pids() for job in jobs)
        return "" if is_fine else f"{took:.0f} s, exit codes {codes}: {jobs[1 - lost].err[-300:]}"


def other_numbers_of_processes(bench: Bench, number: int) -> Trials:
    """One process resumes with two, and two with one: losses within 1e-4 of an uninterrupted run."""
    no_dropout = ("--hidden_dropout_prob", "0", "--attention_probs_dropout_prob", "0")
    one = [*no_dropout, "--batch_size", "8", "--batches_per_step", "1"]
    half = [*no_dropout, "--batch_size", "4", "--batches_per_step", "1"]
    alone = bench.new_folder()
    code, told = outcome(start(words(bench.data, alone, *one)))
    assert code == 0, told
    expected = {row["step"]: row["loss"] for row in rows(alone)}
    for i in range(number):
        work_dir, step = bench.new_folder(), bench.rng.randint(5, 50)
        for size in ((1, 2), (2, 1))[i % 2]:
            is_first = not work_dir.exists()
            command = words(bench.data, work_dir, *(one if size == 1 else half))
            program = ["-m", "nemo.cli.main", *command]
            with (
                by_hand(work_dir.with_suffix(".logs"), [program] * size)
                if size > 1
                else job_alone(work_dir, program) as jobs
            ):
                if is_first:
                    wait_until(lambda: last_row(work_dir) >= step, jobs[0])  # noqa: B023
                    jobs[0].kill(0 if size > 1 else None, signal.SIGTERM)
                codes = [job.wait() for job in jobs]
        found = {row["step"]: row["loss"] for row in rows(work_dir)}
        worst = max(abs(found.get(s, math.inf) - loss) / loss for s, loss in expected.items())
        bench.note("relative difference of losses after another number of processes", worst)
        yield "" if worst <= 1e-4 and set(codes) == {0} else f"{work_dir.name}: {worst}, exit codes {codes}"


def _two(bench: Bench, work_dir: Path) -> list[Any]:
    return [*TORCHRUN, "--nproc_per_node=2", "-m", "nemo.cli.main", *words(bench.data, work_dir)]


def _send(pid: int, how: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, how)

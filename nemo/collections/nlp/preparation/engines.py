"""Who runs the tasks: this process, or by datatrove other local ones, Ray or Slurm.

datatrove's own notes of what is completed are not used: a task looks at its result itself (see steps.py), and
tells how it fares (see tasks.py).
"""

import _thread
import contextlib
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event, Thread
from typing import Any

from nemo.collections.nlp.preparation.options import PrepareOptions
from nemo.collections.nlp.preparation.plan import Plan
from nemo.collections.nlp.preparation.steps import Step, Tokenise
from nemo.collections.nlp.preparation.tasks import FAILED, RUNNING, Notes, is_gone, vanished
from nemo.utils.children import bound_children
from nemo.utils.errors import NemoError, UsageError
from nemo.utils.logging import logging

SECONDS_BETWEEN_GLANCES, SECONDS_BETWEEN_LOOKS, SECONDS_BETWEEN_REPORTS = 0.05, 0.5, 10.0
MEMORY_GB = 2  # that a task asks a cluster for; it takes less than one

_Report = Callable[[dict[int, dict[str, Any]]], None]
"""Told the notes of the tasks that run."""


def run_steps(steps: Sequence[type[Step]], plan: Plan, work: Path, options: PrepareOptions) -> None:
    """Run steps one after another, all tasks of each.

    One worker is this process; what it makes is what others make, to the byte. Unless `options` name a
    number, one does for text that it is done with in some seconds, which is what others take to start.

    Raises:
        NemoError: what a task ended with; or its process was killed.
        UsageError: the engine is not there.
    """
    if options.engine == "slurm":
        _run_on_slurm(steps, plan, work, options)
        return
    workers = _num_workers(plan, options)
    with contextlib.ExitStack() as stack:
        if options.engine == "ray":
            stack.enter_context(_ray(workers))
        for step in steps:
            if num_tasks := step.num_tasks(plan):
                _run_step(step, plan, num_tasks, work, workers, options)


def _num_workers(plan: Plan, options: PrepareOptions) -> int:
    """How many tasks may run at the same time."""
    if options.workers is not None:
        return options.workers
    return 1 if options.engine == "local" and plan.is_small else os.cpu_count() or 1


def _executor(
    step: type[Step], num_tasks: int, work: Path, workers: int, options: PrepareOptions, **more: Any
) -> Any:
    from datatrove.executor import LocalPipelineExecutor, RayPipelineExecutor, SlurmPipelineExecutor

    from nemo.collections.nlp.preparation.pipeline import PipelineStep

    kinds = {"local": LocalPipelineExecutor, "ray": RayPipelineExecutor, "slurm": SlurmPipelineExecutor}
    return kinds[options.engine](
        pipeline=[PipelineStep(step(work))],
        tasks=num_tasks,
        workers=min(workers, num_tasks),
        logging_dir=str(work / "logs" / step.name),
        skip_completed=False,
        **more,
    )


def _run_step(
    step: type[Step], plan: Plan, num_tasks: int, work: Path, workers: int, options: PrepareOptions
) -> None:
    notes = Notes(work, step.name, num_tasks)
    notes.forget()
    logging.info("%s: %d task(s)", step.name, num_tasks)
    report = _report(step, plan, notes)
    if options.engine == "local" and workers == 1:
        _run_alone(step(work), notes, report)
        return
    more = {"mem_per_cpu_gb": MEMORY_GB} if options.engine == "ray" else {}
    executor = _executor(step, num_tasks, work, workers, options, **more)
    run = _run_here if options.engine == "ray" else _run_apart
    # Whatever datatrove makes of a task that failed: what the task said is what the user needs.
    try:
        lost = run(executor, notes, report)
    except Exception as error:
        raise (notes.problem() or error) from error
    if problem := vanished(lost) if lost else notes.problem():
        raise problem


def _run_alone(step: Step, notes: Notes, report: _Report) -> None:
    """Run a step in this process, one task after another; what a task ends with ends this, too."""
    with _Watch(notes, report):
        for number in range(notes.num_tasks):
            step(number)


def _run_here(executor: Any, notes: Notes, report: _Report) -> str | None:
    """Run a step by Ray; returns the name of a task that is lost, as its process was killed."""
    lost: list[str] = []

    def give_up(task: str) -> None:
        lost.append(task)
        _thread.interrupt_main()

    try:
        with _Watch(notes, report, give_up):
            executor.run()
    except KeyboardInterrupt:
        if not lost:
            raise
    return lost[0] if lost else None


def _run_apart(executor: Any, notes: Notes, report: _Report) -> str | None:
    """The same in a process that can be killed together with its workers.

    A worker that is killed may hold the lock of the queue that datatrove's pool needs even to be ended.
    """
    ours, theirs = multiprocessing.Pipe(duplex=False)

    def run() -> None:
        os.setpgrp()  # killed as one, the workers have no time to complain of one another's death
        with _Watch(notes, report, give_up=theirs.send), bound_children():
            try:
                executor.run()
            except Exception as error:
                theirs.send(NemoError(f"{type(error).__name__}: {error}", where=notes.step))
            else:
                theirs.send(None)

    with bound_children():
        process = multiprocessing.get_context("fork").Process(target=run)
        process.start()
    assert process.pid is not None
    try:
        theirs.close()
        outcome = ours.recv()
        if not isinstance(outcome, str):
            process.join()
    except EOFError:
        raise NemoError("the process that runs the tasks was killed, or died", where=notes.step) from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()  # it may have no group of its own yet
        process.join()
    if isinstance(outcome, NemoError):
        raise outcome
    return outcome


class _Watch:
    """Looks at the tasks of a step while they run: reports, and tells of a process that was killed.

    Args:
        give_up: given the name of the task that is lost; none is that this process runs itself.
    """

    def __init__(self, notes: Notes, report: _Report, give_up: Callable[[str], None] = lambda task: None):
        self._notes, self._report, self._give_up = notes, report, give_up
        self._stop = Event()
        self._thread = Thread(target=self._look, daemon=True)

    def __enter__(self) -> "_Watch":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        workers, last = _PoolWorkers(), time.monotonic()
        while not self._stop.wait(SECONDS_BETWEEN_GLANCES):
            is_one_gone = workers.is_one_gone()
            if time.monotonic() - last < SECONDS_BETWEEN_LOOKS:
                continue
            last = time.monotonic()
            notes = self._notes.look()
            self._report(notes)
            for number, note in notes.items():
                if is_gone(note) and self._notes.look().get(number) == note:
                    self._give_up(self._notes.name_of(number))
                    return
            # A pool that ends, well or with an error of its own, has lost its workers, too: it ends soon.
            if is_one_gone and not self._stop.wait(SECONDS_BETWEEN_LOOKS) and (task := self._lost_task()):
                self._give_up(task)
                return

    def _lost_task(self) -> str | None:
        """What a process that is gone may have had: what it noted, else the first task without a note.

        None where every task is accounted for: it had none.
        """
        notes = self._notes.look()
        if any(note["state"] == FAILED for note in notes.values()):
            return None
        if noted := sorted(number for number, note in notes.items() if is_gone(note)):
            return self._notes.name_of(noted[0])
        unknown = set(range(self._notes.num_tasks)) - self._notes.done - notes.keys()
        return f"{self._notes.name_of(min(unknown))} or a later one" if unknown else None


class _PoolWorkers:
    """The worker processes of datatrove's pool, which replaces one that was killed, but not its task.

    A worker may have taken a task and be killed before the task has noted anything, while it still imports.
    """

    def __init__(self) -> None:
        self._others = self._children()
        self._seen: set[Any] = set()

    def is_one_gone(self) -> bool:
        """Has a process ended that was there at an earlier look?"""
        alive = self._children() - self._others
        self._seen |= alive
        return alive != self._seen

    @staticmethod
    def _children() -> set[Any]:
        multiprocess = sys.modules.get("multiprocess")  # what datatrove starts its processes by
        return set(multiprocess.active_children()) if multiprocess else set()


def _report(step: type[Step], plan: Plan, notes: Notes) -> _Report:
    """What tells in the log how far a step has come."""
    sizes = [sum(max(piece.num_bytes, 0) for piece in group) for group in plan.groups]
    start = last = time.monotonic()

    def report(running: dict[int, dict[str, Any]]) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < SECONDS_BETWEEN_REPORTS:
            return
        last = now
        if step is not Tokenise:
            if notes.num_tasks > 1:
                logging.info("%s: %d of %d tasks done", step.name, len(notes.done), notes.num_tasks)
            return
        done = sum(sizes[number] for number in notes.done)
        done += sum(note["bytes"] for note in running.values() if note["state"] == RUNNING)
        speed, total = done / (now - start), sum(sizes)
        left = f", {max(total - done, 0) / speed:.0f} s left" if speed else ""
        logging.info("tokenised %d of %d MB, %.1f MB/s%s", done / 1e6, total / 1e6, speed / 1e6, left)

    return report


# Ray.


@contextlib.contextmanager
def _ray(workers: int) -> Any:
    """The cluster that RAY_ADDRESS names, or one on this machine for as long as the block lasts."""
    try:
        import ray
    except ImportError:
        raise UsageError(
            "Ray is not installed", where="--engine ray", fix="pip install 'nemo-bert[ray]'"
        ) from None
    quiet: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    if "RAY_ADDRESS" in os.environ:
        ray.init(**quiet)
    else:
        ray.init(num_cpus=workers, include_dashboard=False, **quiet)
    try:
        yield
    finally:
        ray.shutdown()


# Slurm.


def _run_on_slurm(steps: Sequence[type[Step]], plan: Plan, work: Path, options: PrepareOptions) -> None:
    """Submit a job array for each step, which waits for the one before; then wait for all of them."""
    if shutil.which("sbatch") is None:
        raise UsageError(
            "there is no sbatch here", where="--engine slurm", fix="run it where jobs are submitted"
        )
    all_notes, executor = [], None
    for step in steps:
        if num_tasks := step.num_tasks(plan):
            notes = Notes(work, step.name, num_tasks)
            notes.forget()
            all_notes.append(notes)
            executor = _executor(
                step,
                num_tasks,
                work,
                _num_workers(plan, options),
                options,
                time=options.slurm_time,
                partition=options.slurm_partition,
                qos=options.slurm_qos,
                mem_per_cpu_gb=MEMORY_GB,
                job_name=f"prepare-{step.name}",
                env_command=f'export PATH="{Path(sys.executable).parent}:$PATH"',
                sbatch_args={"kill-on-invalid-dep": "yes"},
                depends=executor,
            )
    assert executor is not None  # there is text
    try:
        executor.run()
    except subprocess.CalledProcessError as error:
        raise NemoError(
            "sbatch failed", where="--engine slurm", found=f"exit code {error.returncode}"
        ) from None
    logging.info("submitted; the last job is %s. Waiting; the jobs go on if you stop this.", executor.job_id)
    _wait_for_job(str(executor.job_id), all_notes)


def _wait_for_job(job: str, all_notes: Sequence[Notes]) -> None:
    """Return when the last job is no longer in the queue; raise what a task ended with."""
    last = time.monotonic()
    while _is_queued(job) and any(len(notes.done) < notes.num_tasks for notes in all_notes):
        time.sleep(SECONDS_BETWEEN_LOOKS * 4)
        for notes in all_notes:
            notes.look()
        if time.monotonic() - last > SECONDS_BETWEEN_REPORTS:
            last = time.monotonic()
            told = (f"{notes.step} {len(notes.done)}/{notes.num_tasks}" for notes in all_notes)
            logging.info("tasks done: %s", ", ".join(told))
    for notes in all_notes:
        if problem := notes.problem():
            raise problem


def _is_queued(job: str) -> bool:
    queue = subprocess.run(["squeue", "--noheader", "--jobs", job], capture_output=True, text=True)
    return queue.returncode == 0 and bool(queue.stdout.strip())

"""Engines that run the tasks: this process, or by datatrove other local ones, Ray or Slurm.

datatrove's own notes of what is completed are not used: a task looks at its result itself (see steps.py), and
tells how it fares (see tasks.py).
"""

import contextlib
import importlib.util
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from threading import Timer
from typing import Any

from nemo.collections.nlp.preparation.options import PrepareOptions
from nemo.collections.nlp.preparation.plan import Plan
from nemo.collections.nlp.preparation.steps import Step, Tokenise
from nemo.collections.nlp.preparation.tasks import RUNNING, Notes, process_lost
from nemo.collections.nlp.preparation.watch import SECONDS_BETWEEN_LOOKS, GiveUp, Report, Watch
from nemo.utils.children import bound_children
from nemo.utils.errors import UsageError, reason
from nemo.utils.failures import as_error
from nemo.utils.logging import logging
from nemo.utils.progress import working
from nemo.utils.wording import quantity

SECONDS_BETWEEN_REPORTS = 10.0
MEMORY_GB = 2  # that a task asks a cluster for; it takes less than one
# Tasks hand over nothing but files. Ray would map 30 % of the memory, twice, and dies where that is refused.
RAY_OBJECT_STORE_BYTES = 80_000_000
SECONDS_TO_ANSWER, SECONDS_TO_START = 10.0, 60.0  # of Ray


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
    if options.engine == "ray":
        if importlib.util.find_spec("ray") is None:
            fix = "pip install 'nemo-bert[ray]'"
            raise UsageError("Ray is not installed", where="--engine ray", fix=fix)
        _apart(partial(_run_on_ray, steps, plan, work, options), where="--engine ray")
        return
    workers = _num_workers(plan, options)
    for step in steps:
        if step.num_tasks(plan):
            _run_here(step, plan, work, workers, options)


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


def _run_here(step: type[Step], plan: Plan, work: Path, workers: int, options: PrepareOptions) -> None:
    """Run a step on this machine: in this process, or by datatrove in others."""
    notes = _begin(step, plan, work)
    if workers == 1:
        with _working(step, plan, notes) as report, Watch(notes, report):
            for number in range(notes.num_tasks):
                step(work)(number)
        return
    executor = _executor(step, notes.num_tasks, work, workers, options)
    _apart(lambda give_up: _execute(executor, step, plan, notes, give_up), where=step.name)


def _begin(step: type[Step], plan: Plan, work: Path) -> Notes:
    """The notes of the tasks of a step, none of which has begun."""
    notes = Notes(work, step.name, step.num_tasks(plan), lambda number: step.subject(plan, number))
    notes.forget()
    logging.info("%s: %s", step.name, quantity(notes.num_tasks, "task"))
    return notes


def _execute(executor: Any, step: type[Step], plan: Plan, notes: Notes, give_up: GiveUp) -> None:
    """Have datatrove run a step.

    Raises:
        NemoError: the error of the failed task, not datatrove's.
    """
    try:
        with _working(step, plan, notes) as report, Watch(notes, report, give_up):
            executor.run()
    except Exception as error:
        raise (notes.problem() or error) from error
    if problem := notes.problem():
        raise problem


def _apart(run: Callable[[GiveUp], None], where: str) -> None:
    """Run something in a process that can be killed together with its workers.

    A worker that is killed may hold the lock of the queue that datatrove's pool needs even to be ended, and
    Ray ends the process that uses it when it is killed itself.

    Args:
        run: given what ends the process at once, with an error.

    Raises:
        NemoError: what it ended with.
    """
    ours, theirs = multiprocessing.Pipe(duplex=False)

    def run_and_tell() -> None:
        os.setpgrp()  # killed as one, the workers have no time to complain of one another's death
        with bound_children():
            try:
                run(theirs.send)
            except Exception as error:
                theirs.send(as_error(error))
            else:
                theirs.send(None)

    with bound_children():
        process = multiprocessing.get_context("fork").Process(target=run_and_tell)
        process.start()
    assert process.pid is not None
    try:
        theirs.close()
        problem = ours.recv()
        if problem is None:
            process.join()
    except EOFError:
        ended = f"process {process.pid}, which hands out the tasks, was killed"
        raise process_lost(ended, where) from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()  # it may have no group of its own yet
        process.join()
    if problem is not None:
        raise problem


@contextlib.contextmanager
def _working(step: type[Step], plan: Plan, notes: Notes) -> Iterator[Report]:
    """Shows the progress of a step; the block receives the function to report it with."""
    sizes = [sum(max(piece.num_bytes, 0) for piece in group) for group in plan.groups]
    is_by_bytes = step is Tokenise
    total, unit = (sum(sizes) / 1e6, "MB") if is_by_bytes else (notes.num_tasks, "tasks")
    with working(step.name, total, unit) as work:

        def report(running: dict[int, dict[str, Any]]) -> None:
            if not is_by_bytes:
                work.done = len(notes.done)
                return
            done = sum(sizes[number] for number in notes.done)
            done += sum(note["bytes"] for note in running.values() if note["state"] == RUNNING)
            work.done = done / 1e6

        yield report


# Ray.


def _run_on_ray(
    steps: Sequence[type[Step]], plan: Plan, work: Path, options: PrepareOptions, give_up: GiveUp
) -> None:
    """Run steps by the cluster that RAY_ADDRESS names, or one started on this machine for the duration.

    Raises:
        UsageError: there is no such cluster, or it does not start.
    """
    import ray

    workers = _num_workers(plan, options)
    cluster: dict[str, Any] = {}
    if "RAY_ADDRESS" in os.environ:
        _check_ray_answers(os.environ["RAY_ADDRESS"])
    else:
        # What tasks ask for is there, however small the machine: a task that fits nowhere waits for ever.
        memory = workers * MEMORY_GB << 30
        cluster = {"num_cpus": workers, "_memory": memory, "object_store_memory": RAY_OBJECT_STORE_BYTES}

    def no_cluster(found: str) -> UsageError:
        return UsageError(
            "Ray does not start, or its cluster does not respond",
            where="--engine ray" if cluster else f"RAY_ADDRESS={os.environ['RAY_ADDRESS']}",
            found=found,
            fix="use --engine local" if cluster else "unset RAY_ADDRESS to start one on this machine",
        )

    # Where memory is short Ray tries again for ever.
    late = Timer(SECONDS_TO_START, give_up, [no_cluster(f"nothing for {SECONDS_TO_START:.0f} s")])
    late.start()
    try:
        ray.init(logging_level=logging.ERROR, log_to_driver=False, include_dashboard=False, **cluster)
    except Exception as error:  # there is a class of its own for each way to fail
        raise no_cluster(reason(error)) from error
    finally:
        late.cancel()
    try:
        for step in steps:
            if num_tasks := step.num_tasks(plan):
                notes = _begin(step, plan, work)
                executor = _executor(step, num_tasks, work, workers, options, mem_per_cpu_gb=MEMORY_GB)
                _execute(executor, step, plan, notes, give_up)
    finally:
        ray.shutdown()


def _check_ray_answers(address: str) -> None:
    """Raise a UsageError if nothing listens where a cluster should be; Ray itself tries for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdecimal()):
        return  # "auto" and the like
    try:
        socket.create_connection((host, int(port)), timeout=SECONDS_TO_ANSWER).close()
    except OSError as error:
        raise UsageError(
            "no Ray cluster responds there",
            where=f"RAY_ADDRESS={address}",
            found=reason(error),
            fix="name one that runs, or unset RAY_ADDRESS to start one on this machine",
        ) from error


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
            all_notes.append(_begin(step, plan, work))
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
        raise UsageError(
            "sbatch failed, see above",
            where="--engine slurm",
            found=f"exit code {error.returncode}",
            fix="check --slurm_partition, --slurm_time and --slurm_qos",
        ) from None
    logging.info("submitted, last job %s; waiting (the jobs continue if you stop this)", executor.job_id)
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

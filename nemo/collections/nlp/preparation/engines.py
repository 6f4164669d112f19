"""Engines that run the tasks: this process, or, with datatrove, other local processes, Ray or Slurm.

datatrove's record of completed tasks is not used: each task checks its own result (see stages.py) and reports
its status (see tasks.py).
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
from nemo.collections.nlp.preparation.plan import PreparationPlan
from nemo.collections.nlp.preparation.stages import Stage, Tokenize
from nemo.collections.nlp.preparation.tasks import RUNNING, Notes, process_lost
from nemo.collections.nlp.preparation.watch import SECONDS_BETWEEN_LOOKS, GiveUp, Report, Watch
from nemo.utils.children import bound_children
from nemo.utils.errors import UsageError, reason
from nemo.utils.failures import as_error
from nemo.utils.logging import logging
from nemo.utils.progress import working
from nemo.utils.wording import quantity

SECONDS_BETWEEN_REPORTS = 10.0
MEMORY_GB = 2  # requested from a cluster per task; a task needs less than 1 GB
# Tasks exchange only files. By default, Ray maps 30% of the memory, twice, and dies if that is refused.
RAY_OBJECT_STORE_BYTES = 80_000_000
SECONDS_TO_ANSWER, SECONDS_TO_START = 10.0, 60.0  # of Ray


def run_stages(
    stages: Sequence[type[Stage]], plan: PreparationPlan, work: Path, options: PrepareOptions
) -> None:
    """Run stages one after another, all tasks of each.

    A single worker is this process. The output does not depend on the number of workers. By default there is
    one for text that takes a few seconds, which is as long as other processes take to start.

    Raises:
        NemoError: a task failed, or its process was killed.
        UsageError: the engine is not available.
    """
    if options.engine == "slurm":
        _run_on_slurm(stages, plan, work, options)
        return
    if options.engine == "ray":
        if importlib.util.find_spec("ray") is None:
            fix = "pip install 'nemo-bert[ray]'"
            raise UsageError("Ray is not installed", where="--engine ray", fix=fix)
        _apart(partial(_run_on_ray, stages, plan, work, options), where="--engine ray")
        return
    workers = _num_workers(plan, options)
    for stage in stages:
        if stage.num_tasks(plan):
            _run_here(stage, plan, work, workers, options)


def _num_workers(plan: PreparationPlan, options: PrepareOptions) -> int:
    """The number of tasks that may run at the same time."""
    if options.workers is not None:
        return options.workers
    return 1 if options.engine == "local" and plan.is_small else os.cpu_count() or 1


def _executor(
    stage: type[Stage], num_tasks: int, work: Path, workers: int, options: PrepareOptions, **more: Any
) -> Any:
    from datatrove.executor import LocalPipelineExecutor, RayPipelineExecutor, SlurmPipelineExecutor

    from nemo.collections.nlp.preparation.pipeline import PipelineStep

    kinds = {"local": LocalPipelineExecutor, "ray": RayPipelineExecutor, "slurm": SlurmPipelineExecutor}
    return kinds[options.engine](
        pipeline=[PipelineStep(stage(work))],
        tasks=num_tasks,
        workers=min(workers, num_tasks),
        logging_dir=str(work / "logs" / stage.name),
        skip_completed=False,
        **more,
    )


def _run_here(
    stage: type[Stage], plan: PreparationPlan, work: Path, workers: int, options: PrepareOptions
) -> None:
    """Run a stage on this machine: in this process, or in others with datatrove."""
    notes = _begin(stage, plan, work)
    if workers == 1:
        with _working(stage, plan, notes) as report, Watch(notes, report):
            for number in range(notes.num_tasks):
                stage(work)(number)
        return
    executor = _executor(stage, notes.num_tasks, work, workers, options)
    _apart(lambda give_up: _execute(executor, stage, plan, notes, give_up), where=stage.name)


def _begin(stage: type[Stage], plan: PreparationPlan, work: Path) -> Notes:
    """Empty notes for the tasks of a stage."""
    notes = Notes(work, stage.name, stage.num_tasks(plan), lambda number: stage.subject(plan, number))
    notes.forget()
    logging.info("%s: %s", stage.name, quantity(notes.num_tasks, "task"))
    return notes


def _execute(executor: Any, stage: type[Stage], plan: PreparationPlan, notes: Notes, give_up: GiveUp) -> None:
    """Run a stage with datatrove.

    Raises:
        NemoError: the error of the failed task, not datatrove's.
    """
    try:
        with _working(stage, plan, notes) as report, Watch(notes, report, give_up):
            executor.run()
    except Exception as error:
        raise (notes.problem() or error) from error
    if problem := notes.problem():
        raise problem


def _apart(run: Callable[[GiveUp], None], where: str) -> None:
    """Run a function in a process that can be killed together with its workers.

    A killed worker may hold the lock of a queue that datatrove's pool needs even to shut down; and when Ray
    is killed, it ends the process that uses it.

    Args:
        run: the function; its argument ends the process at once, with an error.

    Raises:
        NemoError: the function failed, or its process was killed.
    """
    ours, theirs = multiprocessing.Pipe(duplex=False)

    def run_and_tell() -> None:
        os.setpgrp()  # killed as a group, the workers have no time to report each other's death
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
        process.kill()  # it may not have its own group yet
        process.join()
    if problem is not None:
        raise problem


@contextlib.contextmanager
def _working(stage: type[Stage], plan: PreparationPlan, notes: Notes) -> Iterator[Report]:
    """Show the progress of a stage; yields the function that reports it."""
    sizes = [sum(max(section.num_bytes, 0) for section in group) for group in plan.groups]
    is_by_bytes = stage is Tokenize
    total, unit = (sum(sizes) / 1e6, "MB") if is_by_bytes else (notes.num_tasks, "tasks")
    with working(stage.name, total, unit) as work:

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
    stages: Sequence[type[Stage]], plan: PreparationPlan, work: Path, options: PrepareOptions, give_up: GiveUp
) -> None:
    """Run stages on the cluster named by RAY_ADDRESS, or on a temporary one on this machine.

    Raises:
        UsageError: there is no such cluster, or it does not start.
    """
    import ray

    workers = _num_workers(plan, options)
    cluster: dict[str, Any] = {}
    if "RAY_ADDRESS" in os.environ:
        _check_ray_answers(os.environ["RAY_ADDRESS"])
    else:
        # Declare what tasks request, even on a smaller machine: a task that does not fit waits forever.
        memory = workers * MEMORY_GB << 30
        cluster = {"num_cpus": workers, "_memory": memory, "object_store_memory": RAY_OBJECT_STORE_BYTES}

    def no_cluster(found: str) -> UsageError:
        return UsageError(
            "Ray does not start, or its cluster does not respond",
            where="--engine ray" if cluster else f"RAY_ADDRESS={os.environ['RAY_ADDRESS']}",
            found=found,
            fix="use --engine local" if cluster else "unset RAY_ADDRESS to start one on this machine",
        )

    # With too little memory, Ray retries forever.
    late = Timer(SECONDS_TO_START, give_up, [no_cluster(f"nothing for {SECONDS_TO_START:.0f} s")])
    late.start()
    try:
        ray.init(logging_level=logging.ERROR, log_to_driver=False, include_dashboard=False, **cluster)
    except Exception as error:  # each kind of failure has its own class
        raise no_cluster(reason(error)) from error
    finally:
        late.cancel()
    try:
        for stage in stages:
            if num_tasks := stage.num_tasks(plan):
                notes = _begin(stage, plan, work)
                executor = _executor(stage, num_tasks, work, workers, options, mem_per_cpu_gb=MEMORY_GB)
                _execute(executor, stage, plan, notes, give_up)
    finally:
        ray.shutdown()


def _check_ray_answers(address: str) -> None:
    """Raise a UsageError if nothing listens at the address of the cluster; Ray itself tries for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdecimal()):
        return  # "auto" and the like
    try:
        socket.create_connection((host, int(port)), timeout=SECONDS_TO_ANSWER).close()
    except OSError as error:
        raise UsageError(
            "no Ray cluster responds at this address",
            where=f"RAY_ADDRESS={address}",
            found=reason(error),
            fix="name a running cluster, or unset RAY_ADDRESS to start one on this machine",
        ) from error


# Slurm.


def _run_on_slurm(
    stages: Sequence[type[Stage]], plan: PreparationPlan, work: Path, options: PrepareOptions
) -> None:
    """Submit a job array for each stage, each depending on the previous one; then wait for all."""
    if shutil.which("sbatch") is None:
        raise UsageError(
            "sbatch not found", where="--engine slurm", fix="run the command where jobs are submitted"
        )
    all_notes, executor = [], None
    for stage in stages:
        if num_tasks := stage.num_tasks(plan):
            all_notes.append(_begin(stage, plan, work))
            executor = _executor(
                stage,
                num_tasks,
                work,
                _num_workers(plan, options),
                options,
                time=options.slurm_time,
                partition=options.slurm_partition,
                qos=options.slurm_qos,
                mem_per_cpu_gb=MEMORY_GB,
                job_name=f"prepare-{stage.name}",
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
    """Return when the last job has left the queue; raise the error of a failed task."""
    last = time.monotonic()
    while _is_queued(job) and any(len(notes.done) < notes.num_tasks for notes in all_notes):
        time.sleep(SECONDS_BETWEEN_LOOKS * 4)
        for notes in all_notes:
            notes.look()
        if time.monotonic() - last > SECONDS_BETWEEN_REPORTS:
            last = time.monotonic()
            counts = (f"{notes.stage} {len(notes.done)}/{notes.num_tasks}" for notes in all_notes)
            logging.info("tasks done: %s", ", ".join(counts))
    for notes in all_notes:
        if problem := notes.problem():
            raise problem


def _is_queued(job: str) -> bool:
    queue = subprocess.run(["squeue", "--noheader", "--jobs", job], capture_output=True, text=True)
    return queue.returncode == 0 and bool(queue.stdout.strip())

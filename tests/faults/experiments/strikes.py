"""Trainings that are killed, stopped and started again."""

import contextlib
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any

from nemo.backends.pytorch.checkpoints.checkpoint import latest_good
from tests.distributed.launching import rows
from tests.faults.experiments.bench import (
    SAVE_STEP_FREQ,
    Bench,
    Trials,
    has_come_to,
    identity,
    last_row,
    newest_step,
)
from tests.faults.runs import NUM_STEPS, STRIKE, final_hash, outcome, start, wait_for_step, words


def kills(bench: Bench, number: int) -> Trials:
    """SIGKILL at random moments, including startup; the same command resumes until the run is complete.

    Text and shards, batches by sequences and by tokens, 1 to 4 batches per step, several epochs.
    """
    yield from _strike_often(bench, number, _kill)


def signals(bench: Bench, number: int) -> Trials:
    """SIGUSR1, SIGINT, SIGTERM in turn: exit code 75 (SIGINT may give 130); no finished step is lost."""
    yield from _strike_often(bench, number, _ask_to_stop)


def _strike_often(bench: Bench, number: int, strike: Callable[[Bench, Any, Path, int], str]) -> Trials:
    """Strike trainings until there were so many strikes; then let the last one come to its end.

    A trial is a strike, and the hash that its training ends with counts for all of its strikes.
    """
    trainings = cycle(bench.trainings())
    struck, pending, work_dir, training = 0, [], bench.new_folder(), next(trainings)
    while struck < number or pending:
        done, rows_before = newest_step(work_dir), identity(work_dir)
        run = start(training.words(work_dir))
        # In its last steps a training is spared more and more often, so that it comes to its end.
        is_early, step = bench.rng.random() < 0.2, done + bench.rng.randint(1, 25)
        is_struck = struck < number and (is_early or step <= NUM_STEPS)
        if is_struck and is_early:  # while it starts, or at any time
            time.sleep(bench.rng.uniform(0, 4))
        elif is_struck:
            while run.poll() is None and not has_come_to(step, work_dir, rows_before):
                time.sleep(0.002)
            time.sleep(bench.rng.uniform(0, 0.04))
        if is_struck and run.poll() is None:
            struck += 1
            pending.append(strike(bench, run, work_dir, struck))
            continue
        code, told = outcome(run)
        is_same = code == 0 and final_hash(work_dir) == training.expected
        for problem in pending:
            yield problem or (
                "" if is_same else f"{training.more}: exit code {code}, another end: {told[-300:]}"
            )
        pending, work_dir, training = [], bench.new_folder(), next(trainings)


def _kill(bench: Bench, run: Any, work_dir: Path, number: int) -> str:
    run.kill()
    outcome(run)
    latest_good(work_dir / "checkpoints")  # raises if there are some and none is good
    bench.note("step at which a kill came", last_row(work_dir))
    lost = last_row(work_dir) - newest_step(work_dir)
    bench.note("steps lost by a kill", lost)
    # One checkpoint may have been in the making when the next was due.
    return "" if lost <= 2 * SAVE_STEP_FREQ else f"{work_dir.name}: {lost} steps lost"


def _ask_to_stop(bench: Bench, run: Any, work_dir: Path, number: int) -> str:
    asked_at = time.monotonic()
    while not _takes_signals(run.pid) and run.poll() is None:
        time.sleep(0.01)  # Python itself is still starting: nothing of ours could answer
    asked_after = last_row(work_dir)
    run.send_signal((signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)[number % 3])
    code, told = outcome(run)
    bench.note("seconds from a signal to the exit", time.monotonic() - asked_at)
    if code == 0 and asked_after >= NUM_STEPS - 3:
        return ""  # it came with the last step
    is_interrupted = code == 130 and number % 3 == 2  # Ctrl-C before or after the training itself
    if code != 75 and not is_interrupted:
        return f"{work_dir.name}: exit code {code}: {told[-300:]}"
    lost = last_row(work_dir) - newest_step(work_dir)
    return "" if lost <= 0 else f"{work_dir.name}: {lost} steps lost"


def _takes_signals(pid: int) -> bool:
    """Has the process a handler for SIGTERM?"""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


def restarts(bench: Bench, number: int) -> Trials:
    """From the command to the first step of a resumed run: at most 10 s, for a BERT-base 60 s."""
    vocabulary = bench.folder / "vocab.txt"
    known = sorted(
        {*["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], *(bench.data / "train.txt").read_text().split()}
    )
    vocabulary.write_text("\n".join([*known, *(f"unused{i}" for i in range(30_522 - len(known)))]))
    layers = ("--hidden_size", "768", "--num_hidden_layers", "12", "--num_attention_heads", "12")
    base = (*layers, "--intermediate_size", "3072", "--tokenizer", str(vocabulary), "--vocab_size", "30522")
    for name, more, limit in (("tiny", (), 10), ("base", base, 60)):
        for _ in range(number):
            work_dir = bench.new_folder()
            command = words(bench.data, work_dir, *more, "--num_iters", "100000")
            run = start(command)
            wait_for_step(run, work_dir, 1)
            run.send_signal(signal.SIGTERM)
            code, told = outcome(run)
            assert code == 75, told
            step, rows_before = newest_step(work_dir) + 1, identity(work_dir)
            began = time.monotonic()
            run = start(command)
            while run.poll() is None and not has_come_to(step, work_dir, rows_before):
                time.sleep(0.01)
            took = time.monotonic() - began
            is_running = run.poll() is None
            run.kill()
            told = outcome(run)[1]
            bench.note(f"seconds from the command to the first step, {name}", took)
            yield "" if is_running and took <= limit else f"{name}: {took:.1f} s: {told[-300:]}"
            shutil.rmtree(work_dir)


def kills_in_saves(bench: Bench, number: int) -> Trials:
    """SIGKILL at disk operations on checkpoints, evenly spaced over a run."""
    work_dir = bench.new_folder()
    counted = bench.folder / "touches"
    code, told = outcome(start(words(bench.data, work_dir), str(STRIKE), "kill", "0", "0", str(counted)))
    assert code == 0, told
    num_touches = int(counted.read_text())
    bench.note("disk operations in a run", num_touches)
    for i in range(number):
        touch = 1 + (num_touches - 1) * i // number
        work_dir = bench.new_folder()
        program = (str(STRIKE), "kill", str(touch), str(touch), str(counted))
        code, told = outcome(start(words(bench.data, work_dir), *program))
        if code != -signal.SIGKILL:
            yield f"touch {touch}: exit code {code}: {told[-300:]}"
            continue
        latest_good(work_dir / "checkpoints")
        set_aside = list((work_dir / "checkpoints").glob("bad-*"))
        code, told = outcome(start(words(bench.data, work_dir)))
        is_same = code == 0 and final_hash(work_dir) == bench.expected and not set_aside
        yield "" if is_same else f"touch {touch}: exit code {code}, {set_aside}: {told[-300:]}"


def soak(bench: Bench, number: int) -> Trials:
    """A run of several minutes; about every 30 s SIGKILL, SIGTERM, or SIGSTOP and then SIGKILL."""
    work_dir, long = bench.new_folder(), bench.new_folder()
    rate = NUM_STEPS / _seconds_of(bench.run)
    sizes = (
        "--num_iters",
        str(int(60 * number * rate)),
        "--save_step_freq",
        "200",
        "--train_step_freq",
        "10",
    )
    began = time.monotonic()
    code, told = outcome(start(words(bench.data, long, *sizes)), seconds=600 * number)
    undisturbed = time.monotonic() - began
    assert code == 0, told
    began, faults = time.monotonic(), 0
    while True:
        run = start(words(bench.data, work_dir, *sizes))
        wait = bench.rng.expovariate(1 / 30)
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = run.wait(wait)
            break
        faults += 1
        how = bench.rng.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP])
        run.send_signal(how)
        if how == signal.SIGSTOP:
            time.sleep(1)
            run.kill()
        outcome(run)
    share = undisturbed / (time.monotonic() - began)
    bench.note("faults in the soak", faults)
    bench.note("share of useful time in the soak", share)
    is_fine = code == 0 and final_hash(work_dir) == final_hash(long)
    yield "" if is_fine else f"exit code {code}, or another end"


def _seconds_of(run: Path) -> float:
    return rows(run)[-1]["seconds"]

"""What is done to trainings, many times over, and what must be true afterwards.

An experiment is a generator: it yields once for every trial, "" if all was as it must be, else what was not.
"""

import contextlib
import json
import math
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count, cycle
from pathlib import Path
from typing import Any

import numpy as np

from nemo.backends.pytorch.checkpoints.checkpoint import latest_good, list_checkpoints
from nemo.backends.pytorch.checkpoints.manifest import verify
from nemo.collections.nlp.data.tokenizers import load_tokenizer
from nemo.collections.nlp.nm.data_layers import BertPretrainingDataLayer
from nemo.utils.errors import CheckpointError
from tests.conftest import write_english
from tests.distributed.launching import TORCHRUN, Job, by_hand, pretraining, rows, wait_until
from tests.faults.command_lines import make_folder, problem_of
from tests.faults.mutants import try_mutants
from tests.faults.readers import readers
from tests.faults.runs import (
    STRIKE,
    UPDATES,
    final_hash,
    leftovers,
    outcome,
    prepared,
    start,
    wait_for_step,
    words,
)

Trials = Iterator[str]
SAVE_STEP_FREQ = 7  # of all trainings here
# Both roads of data, several lengths of a step; the text by tokens goes through more than two epochs.
ROADS = (
    (),
    ("--tokens_per_batch", "256", "--batches_per_step", "3"),
    ("data_preprocessed", "--batches_per_step", "1"),
    ("data_preprocessed", "--masking", "span", "--batches_per_step", "4"),
)


@dataclass
class Training:
    """A training that nothing disturbed.

    Attributes:
        data: text or shards.
        more: options beside those of all.
        run: its work folder.
        expected: the hash it ended with.
    """

    data: Path
    more: tuple[str, ...]
    run: Path
    expected: str

    @classmethod
    def make(cls, data: Path, run: Path, *more: str) -> "Training":
        code, told = outcome(start(words(data, run, *more)))
        assert code == 0, told
        return cls(data, more, run, final_hash(run))

    def words(self, work_dir: Path) -> list[str]:
        """The command line of the same training in another folder."""
        return words(self.data, work_dir, *self.more)


@dataclass
class Bench:
    """What experiments share.

    Attributes:
        folder: where they work.
        data: text.
        run, expected: a training on it that nothing disturbed, and the hash it ended with.
        notes: figures beside success and failure, by name.
        numbers: of the folders of trials.
    """

    folder: Path
    rng: random.Random
    data: Path
    run: Path
    expected: str
    notes: dict[str, list[float]]
    numbers: Iterator[int] = field(default_factory=count)

    @classmethod
    def make(cls, folder: Path, seed: int) -> "Bench":
        data, run = write_english(folder / "data"), folder / "undisturbed"
        return cls(folder, random.Random(seed), data, run, Training.make(data, run).expected, {})

    def trainings(self) -> list[Training]:
        """One on each road."""
        shards = prepared(self.data, self.folder / "prepared")
        data = [shards if "data_preprocessed" in more else self.data for more in ROADS]
        return [
            Training.make(place, self.new_folder(), *more) for place, more in zip(data, ROADS, strict=True)
        ]

    def new_folder(self) -> Path:
        """A place that nobody has had before; the folder itself is not made."""
        return self.folder / f"trial-{next(self.numbers)}"

    def note(self, name: str, value: float) -> None:
        self.notes.setdefault(name, []).append(value)


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
        done, rows_before = _newest_step(work_dir), _identity(work_dir)
        run = start(training.words(work_dir))
        # In its last steps a training is spared more and more often, so that it comes to its end.
        is_early, step = bench.rng.random() < 0.2, done + bench.rng.randint(1, 25)
        is_struck = struck < number and (is_early or step <= UPDATES)
        if is_struck and is_early:  # while it starts, or at any time
            time.sleep(bench.rng.uniform(0, 4))
        elif is_struck:
            while run.poll() is None and not _has_come_to(step, work_dir, rows_before):
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
    bench.note("step at which a kill came", _last_row(work_dir))
    lost = _last_row(work_dir) - _newest_step(work_dir)
    bench.note("steps lost by a kill", lost)
    # One checkpoint may have been in the making when the next was due.
    return "" if lost <= 2 * SAVE_STEP_FREQ else f"{work_dir.name}: {lost} steps lost"


def _ask_to_stop(bench: Bench, run: Any, work_dir: Path, number: int) -> str:
    asked_at = time.monotonic()
    while not _takes_signals(run.pid) and run.poll() is None:
        time.sleep(0.01)  # Python itself is still starting: nothing of ours could answer
    asked_after = _last_row(work_dir)
    run.send_signal((signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)[number % 3])
    code, told = outcome(run)
    bench.note("seconds from a signal to the exit", time.monotonic() - asked_at)
    if code == 0 and asked_after >= UPDATES - 3:
        return ""  # it came with the last step
    is_interrupted = code == 130 and number % 3 == 2  # Ctrl-C before or after the training itself
    if code != 75 and not is_interrupted:
        return f"{work_dir.name}: exit code {code}: {told[-300:]}"
    lost = _last_row(work_dir) - _newest_step(work_dir)
    return "" if lost <= 0 else f"{work_dir.name}: {lost} steps lost"


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
            step, rows_before = _newest_step(work_dir) + 1, _identity(work_dir)
            began = time.monotonic()
            run = start(command)
            while run.poll() is None and not _has_come_to(step, work_dir, rows_before):
                time.sleep(0.01)
            took = time.monotonic() - began
            is_running = run.poll() is None
            run.kill()
            told = outcome(run)[1]
            bench.note(f"seconds from the command to the first step, {name}", took)
            yield "" if is_running and took <= limit else f"{name}: {took:.1f} s: {told[-300:]}"
            shutil.rmtree(work_dir)


def _takes_signals(pid: int) -> bool:
    """Has the process a handler for SIGTERM?"""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


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


def kills_of_two(bench: Bench, number: int) -> Trials:
    """SIGKILL of one of two processes at random; torchrun ends the other, and the same command resumes."""
    undisturbed = bench.new_folder()
    with Job(bench.folder / "logs", *_two(bench, undisturbed)) as job:
        job.succeed()
    expected = final_hash(undisturbed)
    struck, pending, work_dir = 0, 0, bench.new_folder()
    while struck < number or pending:
        done, rows_before = _newest_step(work_dir), _identity(work_dir)
        with Job(bench.folder / "logs", *_two(bench, work_dir)) as job:
            if struck < number:
                step = done + bench.rng.randint(1, 25)
                while job.is_running() and not _has_come_to(step, work_dir, rows_before):
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


def bit_flips(bench: Bench, number: int) -> Trials:
    """A bit of the newest checkpoint is flipped: it is set aside, and the previous one is used."""

    def flip(content: bytes) -> bytes:
        changed = bytearray(content)
        changed[bench.rng.randrange(len(changed))] ^= 1 << bench.rng.randrange(8)
        return bytes(changed)

    yield from _damage(bench, number, flip)


def truncations(bench: Bench, number: int) -> Trials:
    """A file of the newest checkpoint is truncated at a random place."""
    yield from _damage(bench, number, lambda content: content[: bench.rng.randrange(len(content))])


def _damage(bench: Bench, number: int, change: Callable[[bytes], bytes]) -> Trials:
    older, newest = list_checkpoints(bench.run / "checkpoints")[-2:]
    for _ in range(number):
        folder = bench.new_folder()
        for path in (older, newest):
            shutil.copytree(path, folder / path.name)
        file = bench.rng.choice(sorted((folder / newest.name).iterdir()))
        file.write_bytes(change(file.read_bytes()))
        found = latest_good(folder)
        aside = folder / f"bad-{newest.name}"
        is_fine = found == folder / older.name and (aside / "reason.txt").is_file()
        yield "" if is_fine else f"{file.name}: {found}"
        shutil.rmtree(folder)


def all_bad(bench: Bench, number: int) -> Trials:
    """No checkpoint is good: an error, never random weights."""
    for _ in range(number):
        folder = shutil.copytree(bench.run / "checkpoints", bench.new_folder())
        for path in list_checkpoints(folder):
            file = bench.rng.choice(sorted(path.iterdir()))
            file.write_bytes(file.read_bytes()[:-1])
        try:
            yield f"{latest_good(folder)} is used"
        except CheckpointError as problem:
            yield "" if "none of the" in str(problem) else str(problem)
        shutil.rmtree(folder)


def full_disks(bench: Bench, number: int) -> Trials:
    """No file may exceed a limit (1 byte to the largest size): exit 5, and the good checkpoint stays.

    When there is room again, the run ends with the results of an undisturbed run.
    """
    largest = max(path.stat().st_size for path in list_checkpoints(bench.run / "checkpoints")[-1].iterdir())
    for i in range(number):
        work_dir = bench.new_folder()
        run = start(words(bench.data, work_dir))
        wait_for_step(run, work_dir, 3)
        run.send_signal(signal.SIGTERM)
        outcome(run)
        good = list_checkpoints(work_dir / "checkpoints")
        size = 1 + int((largest - 1) * i / number)
        code, told = outcome(start(words(bench.data, work_dir), file_size=size))
        full = code == 5 and "disk full" in told and "bytes" in told
        intact = list_checkpoints(work_dir / "checkpoints") == good and leftovers(work_dir) == []
        latest_good(work_dir / "checkpoints")
        again, more = outcome(start(words(bench.data, work_dir)))
        is_same = again == 0 and final_hash(work_dir) == bench.expected
        yield (
            ""
            if full and intact and is_same
            else f"{size} bytes: {code}, {told[-300:]}; {again}, {more[-300:]}"
        )


def failing_disks(bench: Bench, number: int) -> Trials:
    """EIO, ENOSPC or EDQUOT at one disk operation: the run continues, and its results are the same."""
    for i in range(number):
        work_dir = bench.new_folder()
        error = ("EIO", "ENOSPC", "EDQUOT")[i % 3]
        touch = bench.rng.randint(1, 150)
        program = (str(STRIKE), error, str(touch), str(touch), str(bench.folder / "touches"))
        code, told = outcome(start(words(bench.data, work_dir), *program))
        is_same = code == 0 and final_hash(work_dir) == bench.expected and leftovers(work_dir) == []
        yield "" if is_same else f"{error} at touch {touch}: exit code {code}: {told[-300:]}"


def data_order(bench: Bench, number: int) -> Trials:
    """1 to 4 processes, from anywhere in an epoch, see the same samples and masks as one process."""
    layer = _layer(bench)
    for _ in range(number):
        epoch, size = bench.rng.randrange(3), bench.rng.randint(1, 4)
        whole = [_bytes_of(batch) for batch in layer.batches(epoch)]
        first = bench.rng.randrange(len(whole))
        parts = [map(_bytes_of, _layer(bench).batches(epoch, first + r, size)) for r in range(size)]
        merged = [batch for some in _in_turn(parts) for batch in some]
        yield "" if merged == whole[first:] else f"epoch {epoch}, {size} processes from batch {first}"


def _layer(bench: Bench) -> BertPretrainingDataLayer:
    tokenizer = load_tokenizer(bench.run / "tokenizer")
    return BertPretrainingDataLayer(tokenizer, bench.data / "train.txt", 32, batch_size=4, shuffle=True)


def _bytes_of(batch: Sequence[Any]) -> bytes:
    return b"".join(np.ascontiguousarray(tensor).tobytes() for tensor in batch)


def _in_turn(parts: list[Any]) -> Iterator[list[Any]]:
    done = object()
    while True:
        some = [item for part in parts if (item := next(part, done)) is not done]
        if not some:
            return
        yield some


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
                else _alone(work_dir, program) as jobs
            ):
                if is_first:
                    wait_until(lambda: _last_row(work_dir) >= step, jobs[0])  # noqa: B023
                    jobs[0].kill(0 if size > 1 else None, signal.SIGTERM)
                codes = [job.wait() for job in jobs]
        found = {row["step"]: row["loss"] for row in rows(work_dir)}
        worst = max(abs(found.get(s, math.inf) - loss) / loss for s, loss in expected.items())
        bench.note("relative difference of losses after another number of processes", worst)
        yield "" if worst <= 1e-4 and set(codes) == {0} else f"{work_dir.name}: {worst}, exit codes {codes}"


def bad_numbers(bench: Bench, number: int) -> Trials:
    """Runs that diverge: exit 6 before the step, and only finite numbers in every checkpoint."""
    for i in range(number):
        work_dir = bench.new_folder()
        lr = f"1e{bench.rng.randint(9, 30)}"
        diverging = ("--optimizer", "sgd", "--lr", lr, "--seed", str(i), "--save_step_freq", "1")
        program = ["-m", "nemo.cli.main", *words(bench.data, work_dir, *diverging)]
        two = i % 2 == 1
        with (
            by_hand(work_dir.with_suffix(".logs"), [program] * 2)
            if two
            else _alone(work_dir, program) as jobs
        ):
            codes = {job.wait() for job in jobs}
        latest_good(work_dir / "checkpoints")  # which refuses numbers that are not finite
        set_aside = list((work_dir / "checkpoints").glob("bad-*"))
        lines = (work_dir / "bad_steps.jsonl").read_text().splitlines()
        is_fine = codes == {6} and not set_aside and len(lines) == 1 and json.loads(lines[0])["samples"]
        yield "" if is_fine else f"{work_dir.name}: lr {lr}, exit codes {codes}, {set_aside}, {lines}"


def mutants(bench: Bench, number: int) -> Trials:
    """Mutated files of every kind: refused, read as if unchanged, or recognised as different."""
    folder = bench.new_folder()
    folder.mkdir()
    for reader in readers(bench.data, bench.run, folder):
        outcomes = try_mutants(reader, number, bench.rng.randrange(10**6))
        for kind, times in outcomes.counts.items():
            bench.note(f"mutants of {reader.name}: {kind}", times)
        yield from outcomes.faults
        yield from [""] * (number - len(outcomes.faults))


def command_lines(bench: Bench, number: int) -> Trials:
    """Command lines with options, files and streams spoiled: exit code and line are those of the contract.

    No internal error, no traceback, no hang; what is refused leaves nothing behind.
    """
    world, seed = make_folder(bench.new_folder()), bench.rng.randrange(10**6)
    for i in range(number):
        yield problem_of(seed + i, world, bench.new_folder())


def soak(bench: Bench, number: int) -> Trials:
    """A run of several minutes; about every 30 s SIGKILL, SIGTERM, or SIGSTOP and then SIGKILL."""
    work_dir, long = bench.new_folder(), bench.new_folder()
    rate = UPDATES / _seconds_of(bench.run)
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


def _two(bench: Bench, work_dir: Path) -> list[Any]:
    return [*TORCHRUN, "--nproc_per_node=2", "-m", "nemo.cli.main", *words(bench.data, work_dir)]


def _alone(work_dir: Path, program: list[Any]) -> Any:
    return by_hand(work_dir.with_suffix(".logs"), [program])


def _send(pid: int, how: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, how)


def _newest_step(work_dir: Path) -> int:
    """Of the newest checkpoint that is good; 0 without any."""
    good = [path for path in list_checkpoints(work_dir / "checkpoints") if _is_good(path)]
    return int(good[-1].name.removeprefix("STEP-")) if good else 0


def _is_good(path: Path) -> bool:
    try:
        verify(path)
    except CheckpointError:
        return False
    return True


def _identity(work_dir: Path) -> int:
    """Of the rows that are written down; a run that begins or goes on writes a file of its own."""
    path = work_dir / "metrics.jsonl"
    return path.stat().st_ino if path.exists() else 0


def _has_come_to(step: int, work_dir: Path, rows_before: int) -> bool:
    return _identity(work_dir) != rows_before and _last_row(work_dir) >= step


def _last_row(work_dir: Path) -> int:
    """The last step that was written down."""
    path = work_dir / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    for line in reversed(lines):
        try:
            return json.loads(line)["step"]
        except ValueError:
            continue  # cut short by a kill
    return 0


def _seconds_of(run: Path) -> float:
    return rows(run)[-1]["seconds"]

"""Data in any order, numbers that diverge, files and command lines that are spoiled."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from nemo.backends.pytorch.checkpoints.checkpoint import latest_good
from nemo.collections.nlp.data.tokenizers import load_tokenizer
from nemo.collections.nlp.nm.data_layers import BertPretrainingDataLayer
from tests.distributed.launching import by_hand
from tests.faults.command_lines import make_folder, problem_of
from tests.faults.experiments.bench import Bench, Trials, job_alone
from tests.faults.mutants import try_mutants
from tests.faults.readers import readers
from tests.faults.runs import words


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
            else job_alone(work_dir, program) as jobs
        ):
            codes = {job.wait() for job in jobs}
        latest_good(work_dir / "checkpoints")  # which refuses numbers that are not finite
        set_aside = list((work_dir / "checkpoints").glob("bad-*"))
        lines = (work_dir / "bad_steps.jsonl").read_text().splitlines()
        is_fine = codes == {6} and not set_aside and len(lines) == 1 and json.loads(lines[0])["samples"]
        yield "" if is_fine else f"{work_dir.name}: lr {lr}, exit codes {codes}, {set_aside}, {lines}"


def mutants(bench: Bench, number: int) -> Trials:
    """Mutated files of every kind: refused, read as if unchanged, or recognized as different."""
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

"""Checkpoints that are damaged, and disks that are full or fail."""

import shutil
import signal
from collections.abc import Callable

from nemo.backends.pytorch.checkpoints.checkpoint import latest_good, list_checkpoints
from nemo.utils.errors import CheckpointError
from tests.faults.experiments.bench import Bench, Trials
from tests.faults.runs import STRIKE, final_hash, leftovers, outcome, start, wait_for_step, words


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

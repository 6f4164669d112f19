"""Files with a few bytes changed, and what becomes of them when they are read.

Every mutant is read in a process of its own, forked from this one: it may crash or hang without taking
anything along. What is read without an error must be what the original says, or be told apart from it by the
fingerprint that runs and checkpoints are held to.
"""

import json
import os
import random
import signal
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SECONDS = 120  # after which a reader hangs, however busy the machine is
_WORDS = (
    b"\x00",
    b"\xff",
    b"\n",
    b"\r\n",
    b"\xef\xbb\xbf",
    b"-1",
    b"NaN",
    b"1e999",
    b"null",
    b"[[[[",
    b"{",
    b"../",
    b"'",
)


@dataclass(frozen=True)
class Reader:
    """How a kind of file is read.

    Attributes:
        original: a good one; mutants take its place in a copy of its folder.
        read: path -> what is in it; as JSON, fit to be compared.
        tells_apart: of two things that are read, whether the program would take one for the other.
    """

    name: str
    original: Path
    read: Callable[[Path], Any]
    tells_apart: Callable[[Any, Any], bool] = lambda mine, other: False


@dataclass
class Outcomes:
    """What became of mutants: how many were `refused`, read the `same`, told to be `another`; and faults."""

    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


def mutant(content: bytes, rng: random.Random) -> bytes:
    """A copy with one to four changes."""
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        start = rng.randrange(len(changed) + 1)
        stop = min(len(changed), start + rng.choice([1, 1, 2, 4, 16, 64, 1024]))
        match rng.randrange(8):
            case 0 if start < len(changed):
                changed[start] ^= 1 << rng.randrange(8)
            case 1:
                changed[start:stop] = rng.randbytes(stop - start)
            case 2:
                del changed[start:stop]
            case 3:
                changed[start:start] = rng.randbytes(rng.choice([1, 4, 64]))
            case 4:
                changed[start:start] = changed[start:stop]
            case 5:
                changed[start:start] = rng.choice(_WORDS)
            case 6:
                del changed[start:]
            case _:
                other = rng.randrange(len(changed) + 1)
                changed[start:stop] = changed[other : other + stop - start]
    return bytes(changed)


def try_mutants(reader: Reader, number: int, seed: int) -> Outcomes:
    """Read so many mutants, the same ones for the same seed."""
    rng, outcomes = random.Random(f"{reader.name} {seed}"), Outcomes()
    content = reader.original.read_bytes()
    reader.read(reader.original)  # so that children find imported what it needs
    kind, expected = _read_apart(reader)
    assert kind == "read", expected
    try:
        for i in range(number):
            changed = mutant(content, rng)
            reader.original.write_bytes(changed)
            kind, found = _read_apart(reader)
            if kind == "read":
                kind = "same" if found == expected else "another"
                if kind == "another" and not reader.tells_apart(found, expected):
                    kind, found = "silently used", ""
            outcomes.counts[kind] += 1
            if kind not in ("refused", "same", "another"):
                outcomes.faults.append(f"{reader.name}, seed {seed}, mutant {i}: {kind} {found}")
    finally:
        reader.original.write_bytes(content)
    return outcomes


def _read_apart(reader: Reader) -> tuple[str, Any]:
    """`read` and what was; `refused` and why; else what went wrong."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(ours)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(SECONDS)  # the system's: Python's handlers would wait for a C library to return
            with open(theirs, "wb") as pipe:
                pipe.write(json.dumps(_outcome(reader)).encode())
            os._exit(0)
        finally:
            os._exit(1)
    os.close(theirs)
    with open(ours, "rb") as pipe:
        told = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status == -signal.SIGALRM:
        return "hang", ""
    if status != 0:
        return "crash", signal.Signals(-status).name if status < 0 else f"exit code {status}"
    kind, found = json.loads(told)
    return kind, found


def _outcome(reader: Reader) -> tuple[str, Any]:
    from nemo.utils.errors import NemoError

    try:
        return "read", reader.read(reader.original)
    except NemoError as problem:
        return "refused", str(problem)
    except BaseException:
        return "traceback", traceback.format_exc(limit=-3)

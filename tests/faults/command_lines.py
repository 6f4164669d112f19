"""The folder in which spoiled command lines run, and what must be true of each's end.

Each runs in a process of its own, forked from this one.
"""

import io
import json
import os
import resource
import shlex
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from nemo.cli.main import main
from tests.conftest import write_english
from tests.faults.labeled import write_labeled
from tests.faults.spoiling import TEXT, make_case

SECONDS = 180
MEMORY = 12 << 30
"""Bytes of address space; torch alone maps some."""
EXIT_CODES = {0, 2, 3, 4, 5, 6, 7, 8, 75, 130}  # 1 is an internal error, or too little memory


def make_folder(folder: Path) -> Path:
    """Everything that the right command lines name."""
    for path in write_english(folder / "text").iterdir():  # a little of it
        path.write_text("\n\n".join(path.read_text().split("\n\n")[:16]) + "\n")
    before = Path.cwd()
    os.chdir(folder)
    try:
        for line in (
            f"{TEXT} --tokenizer word-piece --work_dir run data_text",
            "export run hf",
            "prepare text/train.txt --vocab_size 80 --workers 1 --phases 32/5 --out prepared",
        ):
            assert main(shlex.split(line)) == 0, line
        (made,) = folder.glob("prepared/hdf5_*")
        shutil.copytree(made, "shards")
        shutil.copy("run/tokenizer/vocab.txt", "vocab.txt")
        shutil.copy("run/checkpoints/bert-config.json", "bert-config.json")
        documents = Path("text/train.txt").read_text().split("\n\n")
        Path("text.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in documents))
        write_labeled()
        Path("empty").mkdir()
        Path("empty.txt").touch()
        Path("loop").symlink_to("loop")
        os.mkfifo("fifo")
        Path("odd.bin").write_bytes(bytes(range(256)) * 8)
        shutil.rmtree("text/bert", ignore_errors=True)
        config = Path("run/config.yaml")  # which is to mean the copy that it is in
        config.write_text(config.read_text().replace(f"{folder}/", ""))
    finally:
        os.chdir(before)
    return folder


def problem_of(seed: int, world: Path, folder: Path) -> str:
    """What is wrong with the end of a case; "" if nothing is.

    Args:
        world: what `make_folder` made.
        folder: a place for a copy of it.
    """
    shutil.copytree(world, folder, symlinks=True, copy_function=_copy)
    case = make_case(seed, folder)
    before = _content(folder)
    code, _, err = run_apart(case.words, case.streams, folder)
    problem = _wrong_end(code, err, case.streams) or (
        _leftovers(before, folder) if code in (2, 3, 4, 8) else ""
    )
    shutil.rmtree(folder)
    return f"{case}: {problem}: {err[-1500:]!a}" if problem else ""


def _copy(source: str, target: str) -> None:
    if not os.path.exists(source) or Path(source).is_fifo():
        os.mkfifo(target)
    else:
        shutil.copy2(source, target)


def _content(folder: Path) -> set[str]:
    return {
        os.path.relpath(os.path.join(at, name), folder)
        for at, *names in os.walk(folder)
        for some in names
        for name in some
    }


def _leftovers(before: set[str], folder: Path) -> str:
    """What a refused command has made, besides caches and a checkpoint that was set aside."""
    new = sorted(
        name
        for name in _content(folder) - before
        if not any(part in name for part in ("bert/", "/bad-", "cache")) and Path(name).name != "bert"
    )
    return f"left behind: {new[:5]}" if new else ""


def _wrong_end(code: int, err: str, streams: str) -> str:
    if code == -signal.SIGALRM:
        return "it hangs"
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    for word in ("error[INTERNAL]", "Traceback", "Logging error", "Exception ignored"):
        if word in err:
            return word
    if code not in EXIT_CODES and "error[MEMORY]" not in err:
        return f"exit code {code}"
    lines = [line for line in err.splitlines() if line.startswith("error[")]
    if streams in ("plain", "ascii", "latin-1", "full") and len(lines) != (code != 0):
        return f"exit code {code} and {len(lines)} lines of error"
    return ""


def run_apart(words: list[str], streams: str, folder: Path) -> tuple[int, str, str]:
    """Exit code, minus the signal if one ended it, and what was on stdout and stderr."""
    out, err = folder.with_suffix(".out"), folder.with_suffix(".err")
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        code = 120
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(SECONDS)
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
            os.environ |= {
                "XDG_CACHE_HOME": str(folder / "cache"),
                "HF_HUB_OFFLINE": "1",
                "HOME": str(folder),
            }
            os.chdir(folder)
            with ExitStack() as stack, open(out, "wb", 0) as out_file, open(err, "wb", 0) as err_file:
                os.dup2(out_file.fileno(), 1)
                os.dup2(err_file.fileno(), 2)
                sys.stdout, sys.stderr = _streams(streams, stack)
                code = main(words)
                for stream in filter(None, (sys.stdout, sys.stderr)):
                    stream.flush()
        except BaseException as problem:
            os.write(2, f"Traceback: {type(problem).__name__}: {problem}".encode("utf-8", "backslashreplace"))
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    told = [path.read_bytes().decode("utf-8", "replace") for path in (out, err)]
    out.unlink()
    err.unlink()
    return code, told[0], told[1]


def _streams(kind: str, stack: ExitStack) -> Iterator[Any]:
    """Standard output and error of a kind."""
    for descriptor in (1, 2):
        match kind:
            case "none":
                yield None
            case "closed pipe":
                reading, writing = os.pipe()
                os.close(reading)
                yield stack.enter_context(os.fdopen(writing, "w", encoding="utf-8"))
            case "full" if descriptor == 1:
                yield stack.enter_context(os.fdopen(os.open("/dev/full", os.O_WRONLY), "w", encoding="utf-8"))
            case _:
                encoding = kind if kind in ("ascii", "latin-1") else "utf-8"
                yield io.TextIOWrapper(
                    io.FileIO(descriptor, "w", closefd=False),
                    encoding,
                    write_through=True,  # type: ignore[arg-type]
                )

"""The files that make a tokenizer, checked while they are read.

`vocab.txt` holds one token per line; its id is the line's number, counted from 0.
"""

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nemo.utils.errors import MissingFileError, UsageError
from nemo.utils.files import write_atomically
from nemo.utils.strict import parse_json

VOCABULARY_FILE = "vocab.txt"
MAX_BYTES = 64 << 20
TRIAL_SECONDS = 20  # a model with 250,000 pieces takes one
_TRIAL = Path(__file__).with_name("trial.py")
_tried: set[bytes] = set()  # SHA-256 of what went through it in this process
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read_file(path: str | os.PathLike[str]) -> bytes:
    """The content of a file that makes a tokenizer.

    Raises:
        MissingFileError: it is not there.
        UsageError: it cannot be read, is empty, or too large for what it should be.
    """
    try:
        if (size := os.stat(path).st_size) > MAX_BYTES:
            expected = f"{MAX_BYTES:,} bytes or fewer"
            raise UsageError("too large for a tokenizer", where=path, found=f"{size:,}", expected=expected)
        content = Path(path).read_bytes()
    except FileNotFoundError:
        raise MissingFileError("no such file", where=path) from None
    except OSError as error:
        raise UsageError("cannot be read", where=path, found=error.strerror) from error
    if not content:
        raise UsageError("the file is empty", where=path)
    return content


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        UsageError: it holds something else. Also as `read_file`.
    """
    content = read_file(path)
    try:
        value = parse_json(content)
    except ValueError as error:
        raise UsageError("not JSON", where=path, found=str(error)) from None
    if not isinstance(value, dict):
        raise UsageError("not a JSON object", where=path)
    return value


def try_out(library: str, content: bytes, where: Any, problem: str) -> None:
    """Let a library open what makes a tokenizer in a process of its own: in this one a crash is the end.

    Args:
        library: as trial.py takes it.
        where, problem: for the error.

    Raises:
        UsageError: it cannot be opened, crashes the library, or keeps it busy for too long.
    """
    digest = hashlib.sha256(content).digest()
    if digest in _tried:
        return
    command = [sys.executable, "-P", str(_TRIAL), library]  # -P: modules beside trial.py have such names
    try:
        done = subprocess.run(command, input=content, capture_output=True, timeout=TRIAL_SECONDS)
    except subprocess.TimeoutExpired:
        raise UsageError(problem, where=where, found=f"no answer from it in {TRIAL_SECONDS} s") from None
    if done.returncode < 0:
        found = f"it crashed with {signal.Signals(-done.returncode).name} when it was tried"
        raise UsageError(problem, where=where, found=found)
    if done.returncode > 0:
        *_, told = done.stderr.decode(errors="replace").strip().splitlines() or ["a crash when it was tried"]
        raise UsageError(problem, where=where, found=told)
    _tried.add(digest)


def read_vocabulary(path: str | os.PathLike[str], required: Iterable[str] = ()) -> list[str]:
    """The tokens of a `vocab.txt`. Only LF and CR LF end a line: other breaks may be tokens.

    Args:
        required: tokens that must be there.

    Raises:
        MissingFileError: there is no such file.
        UsageError: it is empty, begins with a byte order mark, is not UTF-8, has a blank line, spaces
            around a token, a token twice, or lacks a required one. Each of them would shift ids, or
            leave an id that no text can have.
    """
    content = read_file(path)
    if content.startswith(_BYTE_ORDER_MARK):
        raise UsageError(
            "begins with a byte order mark", where=f"{path}:1", fix="save it as UTF-8 without one"
        )
    lines: dict[str, int] = {}
    for number, line in enumerate(content.removesuffix(b"\n").split(b"\n"), start=1):
        where = f"{path}:{number}"
        try:
            token = line.removesuffix(b"\r").decode()
        except UnicodeDecodeError as error:
            found = f"byte 0x{line[error.start]:02x}"
            raise UsageError("not UTF-8", where=where, found=found, fix="convert the file") from None
        if not token.strip(" \t"):
            raise UsageError("a blank line", where=where, expected="a token", fix="delete the line")
        if token != token.strip(" \t"):
            raise UsageError("spaces around a token", where=where, found=repr(token))
        if token in lines:
            raise UsageError("a token twice", where=where, found=f"{token!r} as in line {lines[token]}")
        lines[token] = number
    missing = [token for token in required if token not in lines]
    if missing:
        raise UsageError("special tokens are missing", where=path, expected=", ".join(missing))
    return list(lines)


def write_vocabulary(path: Path, tokens: Iterable[str]) -> None:
    """Write a `vocab.txt`, whole or not at all.

    Raises:
        StorageError: it cannot be written.
    """
    write_atomically(path, "".join(f"{token}\n" for token in tokens).encode())

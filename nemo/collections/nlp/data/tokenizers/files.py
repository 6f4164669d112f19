"""Reads and validates the files of a tokenizer.

`vocab.txt` holds one token per line; its id is the line's number, counted from 0.
"""

import hashlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nemo.utils.errors import MissingFileError, UsageError
from nemo.utils.files import write_atomically
from nemo.utils.logging import logging
from nemo.utils.strict import parse_json

VOCABULARY_FILE = "vocab.txt"
TOKENIZER_FOLDER = "bert"  # beside text and prepared data, as in NeMo 0.10's tutorial
CONTINUATION = "##"  # WordPiece's mark of a token that continues a word
SPACE = "▁"  # U+2581, SentencePiece's mark of the space before a word
TRIMMED = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
"""Unicode's white space, which `tokenizers` strips from the end of a line."""
MANY_PIECES = 0.25
"""A vocab.txt with SentencePiece's mark in at least this share of its lines is not one of WordPieces."""
MAX_BYTES = 64 << 20
TRIAL_SECONDS = 20  # a model with 250,000 pieces takes one second
_CRASH_TEST = Path(__file__).with_name("crash_test.py")
_tried: set[bytes] = set()  # SHA-256 of files that passed in this process
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_PLACEHOLDER = re.compile(r"\[blank\d+\]")
_NOT_PLAIN = re.compile(f"^$|^[{TRIMMED}]|[{TRIMMED}]$", re.MULTILINE)


def read_file(path: str | os.PathLike[str]) -> bytes:
    """The content of a tokenizer file.

    Raises:
        MissingFileError: it does not exist.
        UsageError: it cannot be read, is empty, or is too large for a tokenizer.
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
        UsageError: it is not a JSON object. Also as `read_file`.
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
    """Let a library open tokenizer files in a separate process, where a crash does no harm.

    Args:
        library: the argument of crash_test.py.
        where, problem: for the error.

    Raises:
        UsageError: it cannot be opened, crashes the library, or keeps it busy for too long.
    """
    digest = hashlib.sha256(content).digest()
    if digest in _tried:
        return
    command = [
        sys.executable,
        "-P",
        str(_CRASH_TEST),
        library,
    ]  # -P: modules beside crash_test.py have the same names as libraries
    try:
        done = subprocess.run(command, input=content, capture_output=True, timeout=TRIAL_SECONDS)
    except subprocess.TimeoutExpired:
        raise UsageError(problem, where=where, found=f"no response within {TRIAL_SECONDS} s") from None
    if done.returncode < 0:
        found = f"it crashed with {signal.Signals(-done.returncode).name} when it was tried"
        raise UsageError(problem, where=where, found=found)
    if done.returncode > 0:
        *_, message = done.stderr.decode(errors="replace").strip().splitlines() or [
            "a crash when it was tried"
        ]
        raise UsageError(problem, where=where, found=message)
    _tried.add(digest)


def read_vocabulary(path: str | os.PathLike[str], required: Iterable[str] = ()) -> list[str]:
    """The lines of a `vocab.txt`, one per id. Only LF and CR LF end a line: other line breaks may be tokens.

    A line whose id can never occur (blank, or the same token as a later line) causes a warning but is kept:
    dropping it would shift all later ids.

    Args:
        required: tokens that must be present.

    Raises:
        MissingFileError: there is no such file.
        UsageError: it is empty, begins with a byte order mark, is not UTF-8, lists SentencePiece pieces, or
            lacks a required token.
    """
    content = read_file(path)
    if content.startswith(_BYTE_ORDER_MARK):
        raise UsageError(
            "begins with a byte order mark", where=f"{path}:1", fix="save it as UTF-8 without one"
        )
    try:
        content.decode()
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        found = f"byte 0x{content[error.start]:02x}"
        raise UsageError("not UTF-8", where=f"{path}:{number}", found=found, fix="convert the file") from None
    lines = vocabulary_lines(content)
    if missing := [token for token in required if token not in lines]:
        raise UsageError("special tokens are missing", where=path, expected=", ".join(missing))
    pieces = sum(line.startswith(SPACE) for line in lines)
    if pieces > len(lines) * MANY_PIECES and not any(line.startswith(CONTINUATION) for line in lines):
        raise UsageError(
            "SentencePiece pieces, not WordPieces",
            where=path,
            found=f"{pieces} of {len(lines)} tokens begin with {SPACE}, none with {CONTINUATION}",
            fix="name the tokenizer.model with these pieces",
        )
    if not are_plain(lines):
        _warn_of_lines(lines, path)
    return lines


def vocabulary_lines(content: bytes) -> list[str]:
    """The lines of a `vocab.txt`, unchecked."""
    text = content.removesuffix(b"\n").decode(errors="replace")
    return [line.removesuffix("\r") for line in text.split("\n")]


def are_plain(lines: list[str]) -> bool:
    """Whether every line of a `vocab.txt` is a token without spaces around it, and all are distinct."""
    return len(set(lines)) == len(lines) and _NOT_PLAIN.search("\n".join(lines)) is None


def _warn_of_lines(lines: list[str], path: Any) -> None:
    """Warn of suspicious lines, naming the first of each kind. Blank lines at the end are harmless."""
    numbers: dict[str, int] = {}
    blank, again, spaced = [], [], []
    last = max((number for number, line in enumerate(lines, start=1) if line.strip(" \t")), default=0)
    for number, line in enumerate(lines[:last], start=1):
        token = line.rstrip(TRIMMED)
        if not line.strip(" \t"):
            blank.append((number, "blank", number))
        elif token in numbers:
            again.append((number, f"{token!r} as in line {numbers[token]}", numbers[token]))
        elif line != line.strip(" \t"):
            spaced.append(number)
        if token:
            numbers[token] = number
    for found in filter(None, (blank, again)):
        number, problem, unused = found[0]
        logging.warning(
            "%s:%d: %s%s, so the id of line %d can never occur; fix: write a token such as %s there; "
            "deleting the line would change the ids of all later tokens",
            path,
            number,
            problem,
            _others(found),
            unused,
            placeholder(unused - 1),
        )
    if spaced:
        logging.warning("%s:%d: spaces around a token%s", path, spaced[0], _others(spaced))


def _others(found: list[Any]) -> str:
    return f" (and {len(found) - 1} more such lines)" if len(found) > 1 else ""


def placeholder(number: int) -> str:
    """The placeholder for an id without a token, given the number of its line in `vocab.txt`, from 0."""
    return f"[blank{number + 1}]"


def is_placeholder(token: str) -> bool:
    """Whether a token is a placeholder, which no text contains."""
    return token.startswith("[blank") and _PLACEHOLDER.fullmatch(token) is not None


def write_vocabulary(path: Path, tokens: Iterable[str]) -> None:
    """Write a `vocab.txt` atomically.

    Raises:
        StorageError: it cannot be written.
    """
    write_atomically(path, "".join(f"{token}\n" for token in tokens).encode())

"""The files that make a tokenizer, checked while they are read.

`vocab.txt` holds one token per line; its id is the line's number, counted from 0.
"""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nemo.utils.errors import MissingFileError, UsageError
from nemo.utils.files import write_atomically

VOCABULARY_FILE = "vocab.txt"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read_file(path: str | os.PathLike[str]) -> bytes:
    """The content of a file that makes a tokenizer.

    Raises:
        MissingFileError: it is not there.
        UsageError: it cannot be read, or is empty.
    """
    try:
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
        value = json.loads(content)
    except ValueError as error:
        raise UsageError("not JSON", where=path, found=str(error)) from None
    if not isinstance(value, dict):
        raise UsageError("not a JSON object", where=path)
    return value


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

"""The code in our documents, taken out and run."""

import re
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]


class Block(NamedTuple):
    """A fenced block of a document, and the number of lines above its code."""

    document: str
    language: str
    code: str
    line: int


def blocks(document: str | Path, *languages: str) -> list[Block]:
    """The blocks of a document, a path below the project's root, that are in one of these languages."""
    text = (ROOT / document).read_text(encoding="utf-8")
    fenced = re.finditer(rf"^```({'|'.join(languages)})\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [Block(str(document), m[1], m[2], text.count("\n", 0, m.start(2))) for m in fenced]


def commands(document: str) -> list[list[str]]:
    """The words of every command in the bash blocks of a document."""
    code = "\n".join(block.code for block in blocks(document, "bash"))
    lines = code.replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.strip()]


def run_python(python: Iterable[Block], namespace: dict[str, Any]) -> None:
    """Run blocks one after the other in one namespace; a traceback has the line numbers of the document."""
    for block in python:
        exec(compile("\n" * block.line + block.code, block.document, "exec"), namespace)

"""Files, functions and names of tests are short, but where a reason stands at the top of what is long."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
CODE = sorted(file for folder in ("nemo", "benchmarks", "examples") for file in (ROOT / folder).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
REASON = re.compile(r"^\s*(# |\"\"\"|)Long because ", re.MULTILINE)


def functions(code: str) -> Iterator[tuple[str, int, bool]]:
    """Name and lines of each function, and whether a reason for its length is at the top of its body."""
    lines = code.splitlines()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            start = node.body[1 if ast.get_docstring(node) and len(node.body) > 1 else 0].lineno
            above = lines[max(node.lineno, start - 3) : start]
            length = (node.end_lineno or 0) - node.lineno + 1
            yield node.name, length, any(REASON.match(line) for line in above)


def top(code: str) -> str:
    """The docstring of a file."""
    return ast.get_docstring(ast.parse(code)) or ""


def test_no_file_is_over_400_lines_without_a_reason_at_its_top():
    long = [
        f"{file.relative_to(ROOT)}: {code.count(chr(10))} lines"
        for file in CODE
        if (code := file.read_text(encoding="utf-8")).count("\n") > 400 and not REASON.search(top(code))
    ]
    assert long == []


def test_no_function_is_over_60_lines_without_a_reason_at_its_top():
    long = [
        f"{file.relative_to(ROOT)}: {name}, {length} lines"
        for file in CODE + TESTS
        for name, length, has_reason in functions(file.read_text(encoding="utf-8"))
        if length > 60 and not has_reason
    ]
    assert long == []


def test_no_file_of_tests_has_500_lines():
    assert [str(file) for file in TESTS if file.read_text(encoding="utf-8").count("\n") >= 500] == []


def test_every_name_of_a_test_has_fewer_than_seventy_characters():
    names = [
        name
        for file in TESTS
        for name in re.findall(r"^\s*def (test_\w+)", file.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert len(names) > 1000
    assert [name for name in names if len(name) >= 70] == []

"""Names of tests are short enough for one line of a report."""

import re
from pathlib import Path


def test_no_name_of_a_test_is_longer_than_seventy_characters():
    names = [
        name
        for file in Path(__file__).parent.rglob("test_*.py")
        for name in re.findall(r"^\s*def (test_\w+)", file.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert len(names) > 1000
    assert [name for name in names if len(name) > 70] == []

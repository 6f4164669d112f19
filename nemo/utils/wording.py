"""Numbers as text."""


def quantity(number: int, noun: str) -> str:
    """`1 file`, `2 files`, `1,000 files`."""
    return f"{number:,} {noun}{'s' * (number != 1)}"

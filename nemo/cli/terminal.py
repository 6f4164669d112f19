"""Console output: at most 100 columns, in color on a terminal and plain in a pipe."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

WIDTH = 100
LABEL_WIDTH = 14
TEXT_WIDTH = 80
MOST_BAR_WIDTH = 40
LABEL, STRONG, FAINT, BAR, WARNING = "cyan", "bold", "dim", "cyan", "yellow"
_EIGHTHS = " ▏▎▍▌▋▊▉"


def make_console() -> "Console":
    """A console on the current stdout, without markup."""
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False)
    console.width = min(console.width, WIDTH) if console.is_terminal else WIDTH
    return console


def safe(text: str) -> str:
    """`text` with control characters escaped, as those of untrusted text must not reach a terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def cut(text: str, width: int = TEXT_WIDTH) -> str:
    """`text`, escaped and truncated to `width` columns."""
    from rich.cells import cell_len, set_cell_size

    shown = safe(text[: width + 1])
    return shown if cell_len(shown) <= width else set_cell_size(shown, width - 1).rstrip() + "…"


def print_labeled(console: "Console", label: str, value: "Text | str", style: str = LABEL) -> None:
    """Print a label and a value, which may take several lines."""
    from rich.text import Text

    value = Text(value) if isinstance(value, str) else value
    for number, line in enumerate(value.wrap(console, console.width - LABEL_WIDTH)):
        line.rstrip()
        head = label if number == 0 else ""
        console.print(Text.assemble((f"{head:<{LABEL_WIDTH}}", style), line), soft_wrap=True)


def print_bars(console: "Console", rows: Iterable[tuple[str, float, str]]) -> None:
    """Print a bar chart; a row is a label, a share from 0 to 1, and a remark."""
    from rich.text import Text

    rows = list(rows)
    longest = max(share for _, share, _ in rows) or 1
    width = max(MOST_BAR_WIDTH - (WIDTH - console.width), 5)
    for label, share, remark in rows:
        console.print(
            Text.assemble(
                (f"{label:>{LABEL_WIDTH + 4}}  ", FAINT),
                (f"{_bar(share / longest, width):<{width}}", BAR),
                f"{share:7.1%}",
                (f"   {remark}" if remark else "", FAINT),
            ),
            soft_wrap=True,
        )


def _bar(share: float, width: int) -> str:
    """A bar for a share of the width; at least a thin one if the share is not 0."""
    eighths = max(round(share * width * 8), 1 if share else 0)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()

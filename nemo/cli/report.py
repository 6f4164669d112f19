"""`nemo-bert report RUN [RUN ...]`: write an HTML page on a run, or on several side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nemo.utils.arguments import CommandLine, check, option
from nemo.utils.errors import UsageError
from nemo.utils.logging import logging
from nemo.utils.progress import working


@dataclass(frozen=True)
class ReportOptions:
    """The runs and the output file."""

    runs: tuple[str, ...] = option((), "work folders of runs, finished or not", is_path=True)
    out: str | None = option(
        None,
        "the page to write",
        default_text="report.html in the run's folder; for several runs, comparison.html in the first one's",
        metavar="FILE",
        is_path=True,
    )

    def __post_init__(self) -> None:
        check(self)
        if not self.runs:
            raise UsageError("no run given", expected="nemo-bert report WORK_DIR...")
        if self.out is not None and Path(self.out).is_dir():
            raise UsageError("is a folder", where=f"--out {self.out}", expected="the name of an HTML file")


COMMAND_LINE = CommandLine(
    ReportOptions,
    "nemo-bert report",
    "Write an HTML page on runs, with curves, text, tokenizer, options, predictions and environment. It "
    "works offline.",
    positional=("runs",),
    examples="nemo-bert report outputs/bert_lm\nnemo-bert report outputs/one outputs/other --out both.html",
)


def run(argv: Sequence[str]) -> None:
    """Write the page, and log its path."""
    options = COMMAND_LINE.parse(argv)
    with working("loading the libraries"):
        from nemo.collections.nlp.report import REPORT, write_report

    name = REPORT if len(options.runs) == 1 else "comparison.html"
    with working("writing the report"):
        page = write_report(options.runs, options.out or Path(options.runs[0], name))
    logging.info("report: %s", page)

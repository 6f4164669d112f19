"""Runs -> one self-contained HTML page, which needs no network and no other file."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from nemo.collections.nlp.report import facts
from nemo.collections.nlp.report.plots import COLORS, figures_of
from nemo.collections.nlp.report.run_files import CONFIG, RunFiles, read_run
from nemo.collections.nlp.report.templates import rendered
from nemo.utils.errors import UsageError
from nemo.utils.files import storage_errors, write_atomically

REPORT = "report.html"
GENERATOR = b'<meta name="generator" content="nemo-bert'  # as in page.html.jinja


def write_report(folders: Sequence[str | Path], out: str | Path) -> Path:
    """Write a page on one run, or on several side by side; returns its path.

    Raises:
        MissingFileError, DataError: a folder is not the work folder of a run.
        UsageError: the file exists and is not a report, or its folder does not exist.
        StorageError: it cannot be written.
    """
    out = Path(out)
    runs = [read_run(folder) for folder in folders]  # first, as the page may go to the folder of one
    _refuse_other_file(out)
    content = page(runs)
    write_atomically(out, content.encode("utf-8", "replace"), durable=False)
    return out


def _refuse_other_file(out: Path) -> None:
    if not out.parent.is_dir():
        raise UsageError("no such folder", where=out.parent, fix="create it, or write the page elsewhere")
    if not out.exists():
        return
    with storage_errors(out), open(out, "rb") as file:
        head = file.read(1000)
    if GENERATOR not in head:
        raise UsageError("not overwritten: the file is not a report", where=out, fix="give another name")


def page(runs: Sequence[RunFiles]) -> str:
    """The page on some runs."""
    from bokeh.embed import components
    from bokeh.resources import Resources
    from markupsafe import Markup

    _give_each_a_name(runs)
    figures = figures_of(runs)
    scripts, divs = components([figure for _, figure in figures]) if figures else ("", ())
    library = Resources("inline", components=["bokeh"]).render_js() if figures else ""
    return rendered(
        "page.html.jinja",
        title=", ".join(run.name for run in runs),
        runs=runs,
        colors=[COLORS[i % len(COLORS)] for i in range(len(runs))],
        library=Markup(library),
        scripts=Markup(scripts),
        plots=[(plot, Markup(div)) for (plot, _), div in zip(figures, divs, strict=True)],
        summary=facts.compared(facts.summary(run) for run in runs),
        model=facts.compared(facts.model(run) for run in runs),
        environment=facts.compared(facts.environment(run) for run in runs),
        options=facts.options(runs),
        texts=[facts.texts(run) for run in runs],
        tokenizers=[facts.tokenizer(run) for run in runs],
        predictions=[facts.predictions(run) for run in runs],
        commands=[_commands(run) for run in runs],
    )


def _give_each_a_name(runs: Sequence[RunFiles]) -> None:
    """Name runs by their paths if several folders have the same name."""
    names = [run.name for run in runs]
    for run in runs:
        if names.count(run.name) > 1:
            run.name = str(run.folder)


def _commands(run: RunFiles) -> list[tuple[str, str]]:
    """(what it does, command) for each useful command."""
    folder = str(run.folder)
    found = []
    if command := run.about.get("command"):
        found.append(("the command of this run", str(command)))
    if run.options:
        repeat = [
            "nemo-bert",
            "pretrain",
            "--config",
            f"{folder}/{CONFIG}",
            "--work_dir",
            f"{folder}-again",
        ]
        found.append(("repeat this run", shlex.join(repeat)))
        if run.status.get("state") != "finished":
            found.append(("resume it", shlex.join([*repeat[:-1], folder])))
    if run.status.get("checkpoint"):
        found.append(
            ("export for Hugging Face", shlex.join(["nemo-bert", "export", folder, f"{folder}-export"]))
        )
    return found

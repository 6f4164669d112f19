"""The page on an adaptation: what it brought, what it cost, what was forgotten. Needs no network."""

import time
from pathlib import Path

import nemo
from nemo.collections.nlp.adaptation.run import Adaptation, Score
from nemo.collections.nlp.finetuning.metrics import DEFINITIONS
from nemo.utils.files import write_atomically

REPORT = "report.html"
TEXTS = {"field": "held-out text of the field", "general": "held-out general text (--replay)"}


def write_page(adaptation: Adaptation, folder: Path) -> Path:
    """Write the page; returns where it is."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("nemo.collections.nlp.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("adaptation.html.jinja").render(
        version=nemo.__version__,
        written=time.strftime("%Y-%m-%d %H:%M"),
        adaptation=adaptation,
        scores={name: in_words(score) for name, score in adaptation.scores.items()},
        texts=TEXTS,
        definition=DEFINITIONS.get(adaptation.figure or ""),
    )
    write_atomically(folder / REPORT, page.encode())
    return folder / REPORT


def in_words(score: Score) -> str:
    """`64.2 ± 0.4 (5 seeds)`, in percent."""
    deviation = "" if score.deviation is None else f" ± {100 * score.deviation:.1f}"
    return f"{100 * score.mean:.1f}{deviation} ({score.runs} seed{'s' * (score.runs > 1)})"

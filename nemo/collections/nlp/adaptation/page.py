"""The page on an adaptation: what it brought, what it cost, what was forgotten. Needs no network."""

from pathlib import Path

from nemo.collections.nlp.adaptation.run import Adaptation, Score
from nemo.collections.nlp.finetuning.metrics import DEFINITIONS
from nemo.collections.nlp.report.templates import rendered
from nemo.utils.files import write_atomically
from nemo.utils.wording import quantity

REPORT = "report.html"
TEXTS = {"field": "held-out text of the field", "general": "held-out general text (--replay)"}


def write_page(adaptation: Adaptation, folder: Path) -> Path:
    """Write the page; returns where it is."""
    page = rendered(
        "adaptation.html.jinja",
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
    return f"{100 * score.mean:.1f}{deviation} ({quantity(score.runs, 'seed')})"

"""The page about an adaptation: gain, cost and forgetting. It needs no network."""

from pathlib import Path

from nemo.collections.nlp.adaptation.result import Adaptation, Score
from nemo.collections.nlp.adaptation.run import STAGES
from nemo.collections.nlp.finetuning.metrics import DEFINITIONS, WRITTEN
from nemo.collections.nlp.report.templates import rendered
from nemo.utils.files import write_atomically
from nemo.utils.wording import quantity

REPORT = "report.html"
TEXTS = {"field": "held-out text of the field", "general": "held-out general text (--replay)"}


def write_page(adaptation: Adaptation, folder: Path) -> Path:
    """Write the page; returns its path."""
    page = rendered(
        "adaptation.html.jinja",
        adaptation=adaptation,
        scores={name: in_words(score) for name, score in adaptation.scores.items()},
        gains={
            name: gain_in_words(*adaptation.gain_of(name)) for name in adaptation.scores if name != "base"
        },
        advice=" ".join([advice_of(adaptation), *warning_of_overfitting(adaptation)]),
        texts=TEXTS,
        stages=STAGES,
        figure=WRITTEN.get(adaptation.figure or ""),
        definition=DEFINITIONS.get(adaptation.figure or ""),
    )
    write_atomically(folder / REPORT, page.encode())
    return folder / REPORT


def advice_of(adaptation: Adaptation) -> str:
    """What follows from the verdict."""
    if adaptation.figure is None:
        return "Labeled examples (--task, --train) show whether the adapted model is better."
    difference, error = adaptation.gain
    if error is None:
        return "One seed cannot tell a gain from chance: use --seeds 5."
    if not adaptation.is_measurable:
        return "The difference may be chance: keep the base model, or adapt with more text and time."
    if difference < 0:
        return "The base model is better on this task: keep it."
    return "The adapted model is better on this task, by more than the seeds of fine-tuning vary: use it."


def warning_of_overfitting(adaptation: Adaptation) -> list[str]:
    """A sentence if the adapted model is worse on held-out text of the field than the base; else nothing."""
    base, adapted = (adaptation.texts[name]["field"].loss_per_word for name in ("base", "adapted"))
    if base is None or adapted is None or adapted <= base:
        return []
    return [
        "The adapted model is worse on held-out text of the field, so the text was repeated too often or "
        "learned too fast: give more text, less time, or a lower --pretraining_lr."
    ]


def in_words(score: Score) -> str:
    """`64.2 ± 0.4 (5 seeds)`, in percent."""
    deviation = "" if score.deviation is None else f" ± {100 * score.deviation:.1f}"
    return f"{100 * score.mean:.1f}{deviation} ({quantity(score.runs, 'seed')})"


def gain_in_words(difference: float, error: float | None) -> str:
    """`+1.4 ± 0.5`, in percent."""
    return f"{100 * difference:+.1f}" + ("" if error is None else f" ± {100 * error:.1f}")

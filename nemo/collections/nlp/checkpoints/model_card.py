"""The model card (README.md) of an exported model: how it was made, from what, and how good it is.

The metadata at the top is read by the Hugging Face hub:
https://huggingface.co/docs/hub/model-cards#model-card-metadata.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

TAG = "\n- nemo-bert\n"
"""Identifies a model card written by nemo-bert."""
FIGURES = {
    "mlm_loss": "mean cross entropy of the masked tokens of the held-out text, in nats",
    "mlm_accuracy": "share of the masked tokens predicted correctly",
    "mlm_perplexity": "the exponential of that cross entropy",
    "unigram_entropy": "the mlm_loss of a model that knows only token frequencies, in nats",
    "nsp_loss": "mean cross entropy of next-sentence prediction, in nats; guessing gives 0.69",
    "nsp_accuracy": "share of the pairs classified correctly; guessing gives one half",
    "loss": "the mlm_loss, plus the nsp_loss if there is one",
}
"""Definitions of the held-out figures."""


@dataclass(frozen=True)
class Facts:
    """Facts about a model.

    Attributes:
        model, recipe, data: name -> value, in the order of their tables.
        figures: held-out figures, as in `lm_bert_callback.figures`.
        languages: ISO 639 codes, the most frequent first.
        license: its identifier on the hub; None if not given.
        base_model: public name of the initial model, if any.
        command: command that repeats the run.
    """

    model: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)
    languages: tuple[str, ...] = ()
    license: str | None = None
    base_model: str | None = None
    command: str | None = None


def model_card(facts: Facts, name: str = "a BERT pretrained with nemo-bert") -> str:
    """A Markdown page with metadata at the top.

    Args:
        name: name of the model, used as the title.
    """
    sections = [
        f"# {_inline(name)}",
        _use(facts),
        _section("Model", _table(facts.model)),
        _section("Training data", _table(facts.data)),
        _section("Training", _table(facts.recipe) + _block(facts.command)),
        _section("Figures", _figures(facts.figures)),
        _section("Limits", _limits(facts)),
        _section("License", _license(facts)),
    ]
    return f"---\n{_metadata(facts, name)}\n---\n\n" + "\n\n".join(filter(None, sections)) + "\n"


def _metadata(facts: Facts, name: str) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    results = [
        EvalResult(
            "fill-mask", "text", "held-out text", metric.removeprefix("mlm_"), value, metric_name=metric
        )
        for metric, value in facts.figures.items()
        if metric in ("mlm_accuracy", "mlm_perplexity")
    ]
    data = ModelCardData(
        language=list(facts.languages) or None,
        license=facts.license,
        library_name="transformers",
        pipeline_tag="fill-mask",
        tags=["bert", "nemo-bert"],
        base_model=facts.base_model,
        model_name=name if results else None,
        eval_results=results or None,
    )
    return data.to_yaml()


def _use(facts: Facts) -> str:
    positions = facts.model.get("positions")
    limit = f" It reads up to {positions} tokens at once." if positions else ""
    return f"""A BERT that predicts masked words, to be fine-tuned on tasks in its language.{limit}

```python
from transformers import pipeline

fill_mask = pipeline("fill-mask", model="path/to/this/folder")
```"""


def _figures(figures: Mapping[str, float]) -> str:
    rows = [f"| {_inline(n)} | {_readable(v)} | {FIGURES.get(n, '')} |" for n, v in figures.items()]
    if not rows:
        return "No text was held out, so its accuracy on other text is unknown."
    return "\n".join(["| | held out | definition |", "|---|---|---|", *rows])


def _limits(facts: Facts) -> str:
    text = f"its training text ({', '.join(facts.languages)})" if facts.languages else "its training text"
    return f"""- It knows {text}, and little of other kinds of text or other languages.
- It repeats what that text says, right or wrong, including prejudices, and may have memorized parts of it.
- It was evaluated only on predicting masked words, in text from the same source, not on any task."""


def _license(facts: Facts) -> str:
    rights = "What may be done with the model also depends on the rights in its training text."
    if facts.license is not None:
        return f"{_inline(facts.license)}. {rights}"
    return (
        "No license is granted here: whoever publishes the model must state one "
        f"(`nemo-bert export --license`, or `license:` on top of this file). {rights}"
    )


def _section(title: str, content: str) -> str:
    return f"## {title}\n\n{content}" if content else ""


def _table(facts: Mapping[str, Any]) -> str:
    rows = [
        f"| {_inline(name.replace('_', ' '))} | {_inline(_readable(value))} |"
        for name, value in facts.items()
        if value is not None
    ]
    return "\n".join(["| | |", "|---|---|", *rows]) if rows else ""


def _block(command: str | None) -> str:
    return f"\n\n```\n{command}\n```" if command else ""


def _readable(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    # Large numbers get thousands separators; a year or a size reads better without.
    return f"{value:,}" if isinstance(value, int) and abs(value) >= 10_000 else str(value)


def _inline(text: str) -> str:
    """Escape text so that it cannot break out of its table cell or be read as HTML."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")

"""The README.md of an exported model: what it was made from, how, and how good it is.

The metadata on top are what the Hugging Face hub reads:
https://huggingface.co/docs/hub/model-cards#model-card-metadata.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

TAG = "\n- nemo-bert\n"
"""Marks a model card as one of ours."""
FIGURES = {
    "mlm_loss": "mean cross entropy of the hidden tokens of the held-out text, in nats",
    "mlm_accuracy": "share of the hidden tokens whose most probable guess is right",
    "mlm_perplexity": "the exponential of that cross entropy",
    "unigram_entropy": "the mlm_loss of a model that knows how frequent tokens are and nothing else, in nats",
    "nsp_loss": "mean cross entropy of whether one text follows the other, in nats; guesses have 0.69",
    "nsp_accuracy": "share of the pairs classified correctly; half of them are by chance",
    "loss": "the sum of the losses that were trained",
}
"""What the held-out figures mean."""


@dataclass(frozen=True)
class Facts:
    """What is known of a model.

    Attributes:
        model, recipe, data: name -> value, in the order of their tables.
        figures: held-out figures, as `lm_bert_callback.figures` has them.
        languages: ISO 639 codes, the most frequent first.
        licence: its identifier on the hub; None if not given.
        base_model: what training went on from, by a name that others know.
        command: what repeats the run.
    """

    model: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)
    languages: tuple[str, ...] = ()
    licence: str | None = None
    base_model: str | None = None
    command: str | None = None


def model_card(facts: Facts, name: str = "a BERT pretrained with nemo-bert") -> str:
    """A Markdown page with metadata on top.

    Args:
        name: of the model, its title.
    """
    sections = [
        f"# {_inline(name)}",
        _use(facts),
        _section("Model", _table(facts.model)),
        _section("Training data", _table(facts.data)),
        _section("Training", _table(facts.recipe) + _block(facts.command)),
        _section("Figures", _figures(facts.figures)),
        _section("Limits", _limits(facts)),
        _section("Licence", _licence(facts)),
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
        license=facts.licence,
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
    return f"""A BERT that guesses hidden words, to be fine-tuned on tasks of its language.{limit}

```python
from transformers import pipeline

fill_mask = pipeline("fill-mask", model="path/to/this/folder")
```"""


def _figures(figures: Mapping[str, float]) -> str:
    rows = [f"| {_inline(n)} | {_readable(v)} | {FIGURES.get(n, '')} |" for n, v in figures.items()]
    if not rows:
        return "Nothing was held out, so its accuracy on other text is unknown."
    return "\n".join(["| | held out | what it is |", "|---|---|---|", *rows])


def _limits(facts: Facts) -> str:
    text = f"its training text ({', '.join(facts.languages)})" if facts.languages else "its training text"
    return f"""- It knows {text}, and little of other kinds of text or other languages.
- It repeats what that text says, right or wrong, prejudice included, and may know parts of it by heart.
- It was measured on guessing words alone, on text of the same source; not on any task."""


def _licence(facts: Facts) -> str:
    rights = "What may be done with the model depends on the rights in its training text, too."
    if facts.licence is not None:
        return f"{_inline(facts.licence)}. {rights}"
    return (
        "No licence is granted here: whoever publishes the model has to state one "
        f"(`nemo-bert export --licence`, or `license:` on top of this file). {rights}"
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
    # Digits of large numbers are counted in threes; a year or a size reads better without.
    return f"{value:,}" if isinstance(value, int) and abs(value) >= 10_000 else str(value)


def _inline(text: str) -> str:
    """Text that can neither break out of its cell nor be HTML."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")

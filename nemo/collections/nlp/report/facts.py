"""The texts and tables of a report."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nemo.collections.nlp.data.inspection.language import name_of
from nemo.collections.nlp.options import PretrainingOptions
from nemo.collections.nlp.report.run_files import RunFiles, entry, number
from nemo.utils.stopwatch import duration

TableRows = list[tuple[str, list[str]]]
"""A table: what a row is about, and a cell for each run."""

_SHARES = ("unknown_share", "one_sentence_share", "padding_share")
_WORD_MARKS = "▁Ġ "
_LABELS = {
    "pieces_per_word": "tokens in a word",
    "unigram_entropy": "unigram entropy",
    "unknown_share": "unknown tokens",
    "padding_share": "padding",
    "seq_length": "tokens in a row",
}


def compared(of_runs: Iterable[Mapping[str, str]]) -> TableRows:
    """The facts of several runs side by side, in the order of the first run that has each."""
    columns = list(of_runs)
    names = dict.fromkeys(name for facts in columns for name in facts)
    return [(name, [facts.get(name, "") for facts in columns]) for name in names]


def readable(value: Any) -> str:
    """A readable value: fractions with four digits, thousands separators."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, list | tuple):
        return ", ".join(map(readable, value))
    return "" if value is None else str(value)


def summary(run: RunFiles) -> dict[str, str]:
    """How far the run has come, and how good the model is."""
    status = run.status
    state = readable(status.get("state")) or "unknown"
    if status.get("problem"):
        state += f" ({status['problem']})"
    steps = number(status.get("step"))
    total = number(status.get("total_steps"))
    found = {
        "state": state,
        "steps": f"{steps:,.0f} of {total:,.0f}" if steps is not None and total is not None else None,
        "training tokens": readable(status.get("tokens")),
        "training time": duration(run.seconds) if run.seconds else None,
        "newest checkpoint": readable(status.get("checkpoint")),
        **_held_out(run),
    }
    return {name: text for name, text in found.items() if text}


def _held_out(run: RunFiles) -> dict[str, str]:
    rows = [row for row in run.evaluations if "mlm_loss" in row]
    if not rows:
        losses = [row["mlm_loss"] for row in run.training if "mlm_loss" in row]
        return {"training loss": f"{losses[-1]:.3f} nats; nothing was held out"} if losses else {}
    first, best, last = rows[0], min(rows, key=lambda row: row["mlm_loss"]), rows[-1]
    found = {"held-out loss": f"{last['mlm_loss']:.3f} nats"}
    if best is not last:
        found["best held-out loss"] = f"{best['mlm_loss']:.3f} nats at step {best['step']:,.0f}"
    if first is not last:
        found["held-out loss before"] = f"{first['mlm_loss']:.3f} nats at step {first['step']:,.0f}"
    if "unigram_entropy" in last:
        gain = last["unigram_entropy"] - last["mlm_loss"]
        found["below unigram entropy"] = f"{gain:.3f} nats (the entropy is {last['unigram_entropy']:.3f})"
    for name, label in (("mlm_accuracy", "masked words right"), ("nsp_accuracy", "next sentences right")):
        if name in last:
            found[label] = f"{last[name]:.1%}"
    return found


def model(run: RunFiles) -> dict[str, str]:
    """The sizes of the model, as the run recorded them."""
    return {name: readable(value) for name, value in entry(run.about, "model").items()}


def environment(run: RunFiles) -> dict[str, str]:
    """Versions of the software, and the hardware, as the run recorded them."""
    return {name: readable(value) for name, value in entry(run.about, "environment").items()}


@dataclass(frozen=True)
class Option:
    """An option of the runs: its value in each, and whether it was changed from its default."""

    name: str
    values: list[str]
    is_default: bool
    differs: bool


def options(runs: Sequence[RunFiles]) -> list[Option]:
    """Every option of the runs' configurations, those that differ from their defaults first."""
    found = []
    for name in dict.fromkeys(name for run in runs for name in run.options):
        values = [run.options.get(name) for run in runs]
        default = getattr(PretrainingOptions, name, None)
        found.append(
            Option(
                name,
                [_exact(value) for value in values],
                is_default=all(value == default for value in values),
                differs=any(value != values[0] for value in values),
            )
        )
    return sorted(found, key=lambda option: option.is_default)


def _exact(value: Any) -> str:
    """The value as on the command line."""
    return "" if value is None else ", ".join(map(str, value)) if isinstance(value, list) else str(value)


@dataclass(frozen=True)
class Text:
    """One of a run's texts: figures, the bars of its documents by length, a few sentences."""

    title: str
    facts: list[tuple[str, str]]
    bars: list[tuple[str, float]]
    examples: list[str]


def texts(run: RunFiles) -> list[Text]:
    """The training text and the held-out text."""
    found = []
    for name, title in (("training", "Training text"), ("held_out", "Held-out text")):
        about = entry(run.about, "data", name)
        if about:
            found.append(Text(title, _facts_of_text(about), _bars(about), _strings(about.get("examples"))))
    return found


def _facts_of_text(about: Mapping[str, Any]) -> list[tuple[str, str]]:
    facts = []
    for name, value in about.items():
        label = _LABELS.get(name, name.replace("_", " "))
        if name == "languages":
            shares = [
                (name_of(code), n) for code, share in entry(about, name).items() if (n := number(share))
            ]
            text = ", ".join(f"{language} {share:.0%}" for language, share in shares if share >= 0.005)
        elif name == "sentence_tokens" and isinstance(value, list) and len(value) == 3:
            label, text = "a sentence", "half up to {} tokens, 90% up to {}, all up to {}".format(*value)
        elif name == "pairs":
            text = ", ".join(
                f"{number(entry(pairs).get('padding_share')) or 0:.0%} padding, "
                f"{number(entry(pairs).get('random_share')) or 0:.0%} random, at length {length}"
                for length, pairs in entry(about, name).items()
            )
        elif isinstance(value, dict) or name == "examples":
            continue
        elif name in _SHARES and number(value) is not None:
            text = f"{value:.2%}"
        else:
            text = readable(value)
        facts.append((label, text))
    return facts


def _bars(about: Mapping[str, Any]) -> list[tuple[str, float]]:
    shares = entry(about, "documents_by_length")
    return [
        (f"from {start} tokens", n) for start, share in shares.items() if (n := number(share)) is not None
    ]


def tokenizer(run: RunFiles) -> tuple[list[tuple[str, str]], list[str]]:
    """Facts about the tokenizer, and a tokenized sentence."""
    about = entry(run.about, "tokenizer")
    facts = [(name, readable(value)) for name, value in about.items() if name != "example"]
    return facts, _strings(about.get("example"))


def _strings(value: Any) -> list[str]:
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []


@dataclass(frozen=True)
class MaskedSentence:
    """A sentence with a masked word.

    Attributes:
        predictions: step -> (word, probability, whether it is right), the most probable first.
    """

    before: str
    word: str
    after: str
    predictions: dict[int, list[tuple[str, float, bool]]]


def predictions(run: RunFiles) -> list[MaskedSentence]:
    """The predictions before and after training."""
    return [_masked_sentence(sentence) for sentence in run.sentences]


def _masked_sentence(sentence: Mapping[str, Any]) -> MaskedSentence:
    word = sentence["word"].strip()
    of_steps = sorted((int(step), of_step) for step, of_step in sentence["guesses"].items())
    return MaskedSentence(
        sentence["before"],
        word,
        sentence["after"],
        {step: [(t, p, t.strip(_WORD_MARKS) == word) for t, p in of_step] for step, of_step in of_steps},
    )

"""Reads a run's folder for a report. Files may be missing or damaged, because a run can end in any way."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Any, TypeVar

import yaml

from nemo.utils.errors import DataError
from nemo.utils.files import missing

T = TypeVar("T")
METRICS, STATUS, CONFIG = "metrics.jsonl", "status.json", "config.yaml"
ABOUT, PREDICTIONS = "about.json", "guesses.json"


@dataclass
class RunFiles:
    """The readable files of a run.

    Attributes:
        name: name of the folder.
        training, evaluations: rows of metrics.jsonl in order of steps, only numbers; evaluations without
            `eval_`.
        status, options, about: contents of the files; empty if missing.
        choices: choices of the recipe, from the top of config.yaml: (about, choice, reason).
        sentences: sentences in guesses.json.
        problems: one line for each problem in reading.
    """

    folder: Path
    name: str
    training: list[dict[str, float]] = field(default_factory=list)
    evaluations: list[dict[str, float]] = field(default_factory=list)
    status: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    choices: list[tuple[str, str, str]] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)
    sentences: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Seconds of training, including those before resumes."""
        times = [row["seconds"] for row in self.training if "seconds" in row]
        ends = [a for a, b in pairwise(times) if b < a]
        return sum(ends) + (times[-1] if times else 0)

    @property
    def unigram_entropy(self) -> float | None:
        """Unigram entropy of the held-out targets, or of the training text if nothing is held out; nats."""
        for row in reversed(self.evaluations):
            if "unigram_entropy" in row:
                return row["unigram_entropy"]
        return number(entry(self.about, "data", "training").get("unigram_entropy"))


def read_run(folder: str | Path) -> RunFiles:
    """Read the files that exist.

    Raises:
        MissingFileError: there is no such folder.
        DataError: it is not the work folder of a run.
    """
    folder = Path(folder)
    if not folder.exists():
        raise missing(folder, "the work folder of a run", problem="no such run")
    if not any((folder / name).is_file() for name in (METRICS, STATUS, CONFIG)):
        raise DataError(
            "not the work folder of a run", where=folder, expected=f"{METRICS}, {STATUS} or {CONFIG} in it"
        )
    run = RunFiles(folder, folder.resolve().name)
    _read_metrics(run)
    run.status, run.about = _read_object(run, STATUS), _read_object(run, ABOUT)
    _read_options(run)
    run.sentences = _sentences(_read_object(run, PREDICTIONS))
    return run


def entry(content: Any, *names: str) -> dict[str, Any]:
    """The object under these names; empty if there is none."""
    for name in names:
        content = content.get(name) if isinstance(content, dict) else None
    return content if isinstance(content, dict) else {}


def number(value: Any) -> float | None:
    """A finite number; None for anything else."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and abs(value) < 1e300 and math.isfinite(value) else None


def _read_text(run: RunFiles, name: str) -> str:
    try:
        return (run.folder / name).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        run.problems.append(f"{name}: {(error.strerror or str(error)).lower()}")
        return ""


def _read_object(run: RunFiles, name: str) -> dict[str, Any]:
    text = _read_text(run, name)
    if not text:
        return {}
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        run.problems.append(f"{name} is damaged")
        return {}
    return content


def _read_metrics(run: RunFiles) -> None:
    rows: dict[tuple[float, bool], dict[str, float]] = {}
    damaged = 0
    for line in _read_text(run, METRICS).splitlines():
        try:
            content = json.loads(line)
        except (ValueError, RecursionError):
            content = None
        step = number(content.get("step")) if isinstance(content, dict) else None
        if step is None:
            damaged += 1
            continue
        row = {str(name): n for name, value in content.items() if (n := number(value)) is not None}
        is_evaluation = any(name.startswith("eval_") for name in row)
        rows[step, is_evaluation] = {name.removeprefix("eval_"): n for name, n in row.items()}
    if damaged:
        run.problems.append(f"{METRICS}: {damaged:,} of its lines cannot be read")
    ordered = [(kind, rows[step, kind]) for step, kind in sorted(rows)]
    run.training = [row for is_evaluation, row in ordered if not is_evaluation]
    run.evaluations = [row for is_evaluation, row in ordered if is_evaluation]


def _read_options(run: RunFiles) -> None:
    text = _read_text(run, CONFIG)
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        content = text
    if isinstance(content, dict):
        run.options = {str(name): value for name, value in content.items()}
        head = takewhile(lambda line: line.startswith("#"), text.splitlines())
        run.choices = [choice for line in head if (choice := _choice(line)) is not None]
    elif text:
        run.problems.append(f"{CONFIG} is damaged")


def _choice(line: str) -> tuple[str, str, str] | None:
    """Parse `#   about: value (reason)`; None for other comments. The reason may contain brackets."""
    about, colon, rest = line.removeprefix("#").strip().partition(": ")
    if not (colon and rest.endswith(")")):
        return None
    depth = 0
    for at in range(len(rest) - 1, -1, -1):
        depth += (rest[at] == ")") - (rest[at] == "(")
        if depth == 0:
            return about, rest[:at].strip(), rest[at + 1 : -1]
    return None


def _sentences(content: dict[str, Any]) -> list[dict[str, Any]]:
    """The sentences that are complete."""
    sentences = content.get("sentences")
    return [sentence for sentence in sentences if _is_whole(sentence)] if isinstance(sentences, list) else []


def _is_whole(sentence: Any) -> bool:
    predictions = entry(sentence, "guesses")
    texts = [sentence.get(name) for name in ("before", "word", "after")] if predictions else [None]
    return all(isinstance(text, str) for text in texts) and all(
        step.isdigit() and isinstance(of_step, list) and all(map(_is_prediction, of_step))
        for step, of_step in predictions.items()
    )


def _is_prediction(value: Any) -> bool:
    is_pair = isinstance(value, list) and len(value) == 2
    return is_pair and isinstance(value[0], str) and number(value[1]) is not None


def thinned(rows: Sequence[T], most: int) -> list[T]:
    """At most this many rows, evenly spaced, including the first and the last."""
    if len(rows) <= most:
        return list(rows)
    return [rows[round(i * (len(rows) - 1) / (most - 1))] for i in range(most)]


def smoothed(values: Iterable[float], share: float) -> list[float]:
    """A running mean in which the latest value has this share (of all, at the beginning)."""
    mean, weight, means = 0.0, 0.0, []
    for value in values:
        mean += share * (value - mean)
        weight += share * (1 - weight)
        means.append(mean / weight)
    return means

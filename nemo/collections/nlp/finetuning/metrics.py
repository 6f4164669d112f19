"""Scores of a fine-tuned model, with the definitions to print beside them."""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence

from nemo.collections.nlp.finetuning.labels import entities_of

DEFINITIONS = {
    "f1": "entity-level micro F1 as seqeval and conlleval count: an entity is found if its type and both "
    "boundaries are right; 2PR / (P + R) over all entities",
    "precision": "share of the predicted entities that are right",
    "recall": "share of the true entities that were found",
    "macro_f1": "mean over the classes of 2PR / (P + R); a class never predicted right counts as 0",
    "accuracy": "share of the texts with the right label",
}
WRITTEN = {"f1": "F1", "macro_f1": "macro F1"}
"""The figures in a sentence."""
MAIN_FIGURE = {"ner": "f1", "classify": "macro_f1", "pairs": "macro_f1"}
"""Task -> score that selects the learning rate."""

Labels = Sequence[Sequence[str]]
"""The labels of each example."""


def figures(task: str, gold: Labels, predicted: Labels) -> dict[str, float]:
    """Scores by name, from 0 to 1, as defined in `DEFINITIONS`.

    Args:
        task: a name in `options.finetuning.TASKS`.
    """
    if task == "ner":
        return entity_figures(gold, predicted)
    return class_figures([label for (label,) in gold], [label for (label,) in predicted])


def entity_figures(gold: Labels, predicted: Labels) -> dict[str, float]:
    """Micro precision, recall and F1 of entities."""
    right = found = total = 0
    for labels, answers in zip(gold, predicted, strict=True):
        entities, answered = set(entities_of(labels)), set(entities_of(answers))
        right += len(entities & answered)
        found += len(answered)
        total += len(entities)
    return {
        "f1": _ratio(2 * right, found + total),
        "precision": _ratio(right, found),
        "recall": _ratio(right, total),
    }


def class_figures(gold: Sequence[str], predicted: Sequence[str]) -> dict[str, float]:
    """Macro F1 over the classes that are true or predicted anywhere, and accuracy."""
    right = Counter(label for label, answer in zip(gold, predicted, strict=True) if label == answer)
    sums = Counter(gold) + Counter(predicted)
    return {
        "macro_f1": statistics.fmean(_ratio(2 * right[label], sums[label]) for label in sums),
        "accuracy": _ratio(right.total(), len(gold)),
    }


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def mean_and_deviation(runs: Sequence[Mapping[str, float]], name: str) -> tuple[float, float | None]:
    """A figure's mean over runs, and its standard deviation (divisor n - 1); None with one run."""
    values = [run[name] for run in runs]
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None

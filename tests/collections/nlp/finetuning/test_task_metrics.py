"""Entities and figures agree with seqeval and scikit-learn."""

import random

import pytest
from seqeval import metrics as seqeval
from sklearn.metrics import accuracy_score, f1_score

from nemo.collections.nlp.finetuning.labels import as_bio
from nemo.collections.nlp.finetuning.metrics import figures, mean_and_deviation


def random_labels(rng, tags, sentences=40):
    return [[rng.choice(tags) for _ in range(rng.randint(1, 12))] for _ in range(sentences)]


@pytest.mark.parametrize("prefixes", ["BI", "IE", "BIES"])
def test_entities_are_counted_as_seqeval_does(prefixes):
    rng = random.Random(0)
    tags = ["O", *(f"{prefix}-{kind}" for prefix in prefixes for kind in ("X", "Y"))]
    for _ in range(20):
        gold = random_labels(rng, tags)
        guesses = [[rng.choice([label, rng.choice(tags)]) for label in labels] for labels in gold]
        ours = figures("ner", gold, guesses)
        assert ours["f1"] == pytest.approx(seqeval.f1_score(gold, guesses))
        assert ours["precision"] == pytest.approx(seqeval.precision_score(gold, guesses))
        assert ours["recall"] == pytest.approx(seqeval.recall_score(gold, guesses))
        assert seqeval.f1_score(gold, [list(as_bio(labels)) for labels in gold]) == 1  # the same entities


def test_classes_are_counted_as_scikit_learn_does():
    rng = random.Random(0)
    gold = [rng.choice("abc") for _ in range(50)]
    guesses = [rng.choice("abcd") for _ in gold]
    ours = figures("classify", [[label] for label in gold], [[label] for label in guesses])
    assert ours["macro_f1"] == pytest.approx(f1_score(gold, guesses, average="macro"))
    assert ours["accuracy"] == pytest.approx(accuracy_score(gold, guesses))


def test_the_deviation_divides_by_n_minus_1():
    assert mean_and_deviation([{"f1": 0.1}, {"f1": 0.3}], "f1") == (
        pytest.approx(0.2),
        pytest.approx(0.02**0.5),
    )
    assert mean_and_deviation([{"f1": 0.1}], "f1") == (0.1, None)

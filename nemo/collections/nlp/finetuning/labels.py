"""Labels: entities in BIO, the labels of a task in order, and consistency between the sets of a task.

An entity is (type, first word, word after its last). conlleval's rules say which labels begin one, so IOB1,
IOB2, BIOES and BILOU are all read.
"""

import re
from collections.abc import Sequence

from nemo.collections.nlp.finetuning.examples import Example
from nemo.utils.errors import DataError
from nemo.utils.hashing import number_of
from nemo.utils.logging import logging

OUTSIDE = "O"
_LABEL = re.compile(r"([BIESLUM])-(.+)")
HELD_OUT_SHARE = 0.1

Entity = tuple[str, int, int]


def is_label(text: str) -> bool:
    """Whether it is `O` or has the form `B-<type>`."""
    return text == OUTSIDE or _LABEL.fullmatch(text) is not None


def entities_of(labels: Sequence[str]) -> list[Entity]:
    """The entities marked by the labels of words.

    An entity begins at B, S or U, and at I, E, L or M after O, another type, or the end of an entity.

    Raises:
        ValueError: a label is neither `O` nor of the form `B-<type>`.
    """
    entities: list[Entity] = []
    kind, first = "", 0
    goes_on = False
    for i, label in enumerate([*labels, OUTSIDE]):
        match = _LABEL.fullmatch(label)
        if match is None and label != OUTSIDE:
            raise ValueError(label)
        prefix, new = match.groups() if match else (OUTSIDE, "")
        if kind and (prefix in "OBSU" or new != kind or not goes_on):
            entities.append((kind, first, i))
            kind = ""
        if not kind and prefix != OUTSIDE:
            kind, first = new, i
        goes_on = prefix in "BIM"
    return entities


def as_bio(labels: Sequence[str]) -> tuple[str, ...]:
    """The same entities in IOB2: each begins with B and continues with I.

    Raises:
        ValueError: as `entities_of`.
    """
    bio = [OUTSIDE] * len(labels)
    for kind, first, stop in entities_of(labels):
        bio[first:stop] = [f"B-{kind}", *[f"I-{kind}"] * (stop - first - 1)]
    return tuple(bio)


def labels_of_words(examples: Sequence[Example]) -> list[str]:
    """`O`, then B and I of each type, with types in alphabetical order."""
    kinds = {label[2:] for example in examples for label in example.labels if label != OUTSIDE}
    return [OUTSIDE, *(f"{prefix}-{kind}" for kind in sorted(kinds) for prefix in "BI")]


def labels_of_texts(examples: Sequence[Example]) -> list[str]:
    """The classes, in numerical order if they are numbers, else in alphabetical order."""
    classes = {example.labels[0] for example in examples}
    return sorted(classes, key=lambda name: (0, int(name), "") if name.isdecimal() else (1, 0, name))


def check_known(examples: Sequence[Example], labels: Sequence[str], train: str) -> None:
    """Refuse a label that does not occur in training.

    Raises:
        DataError: there is one; names the first, with file and line.
    """
    known = set(labels)
    for example in examples:
        for label in example.labels:
            if label not in known:
                raise DataError(
                    f"the label {label!r} is not in the training data",
                    where=example.where,
                    expected=f"one of {', '.join(labels[:20])}, as in {train}",
                )


def warn_of_leak(train: Sequence[Example], held_out: Sequence[Example], name: str) -> int:
    """Warn of examples that are also in the training data; returns their number."""
    seen = {example.content for example in train}
    leaked = [example for example in held_out if example.content in seen]
    if leaked:
        logging.warning(
            "%d of %d examples of %s are also in the training data, the first at %s: memorization "
            "makes its scores too good",
            len(leaked),
            len(held_out),
            name,
            leaked[0].where,
        )
    return len(leaked)


def hold_out(examples: Sequence[Example]) -> tuple[list[Example], list[Example]]:
    """Split into a training and a validation set, by a hash of each example's content: copies stay together.

    Raises:
        DataError: one of the two is empty.
    """
    sets: tuple[list[Example], list[Example]] = ([], [])
    for example in examples:
        sets[number_of("\0".join(example.content)) < HELD_OUT_SHARE * 2**64].append(example)
    if not all(sets):
        raise DataError(
            "too few examples to hold out some for validation",
            found=len(examples),
            fix="give more examples, or a validation file: --valid",
        )
    return sets

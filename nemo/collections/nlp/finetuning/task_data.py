"""Reads the training, validation and test sets of a task, and checks them against each other."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from nemo.collections.nlp.finetuning.examples import Example
from nemo.collections.nlp.finetuning.labels import (
    check_known,
    hold_out,
    labels_of_texts,
    labels_of_words,
    warn_of_leak,
)
from nemo.collections.nlp.finetuning.sentences import read_sentences
from nemo.collections.nlp.finetuning.texts import read_texts
from nemo.collections.nlp.options import FinetuningOptions
from nemo.utils.errors import DataError
from nemo.utils.logging import logging


@dataclass(frozen=True)
class TaskData:
    """Training, validation and test sets, and the labels of all."""

    train: Sequence[Example]
    valid: Sequence[Example]
    test: Sequence[Example]
    labels: Sequence[str]


def fingerprint_of(examples: Sequence[Example]) -> str:
    """SHA-256 of examples and their labels."""
    return hashlib.sha256(json.dumps([(e.content, e.labels) for e in examples]).encode()).hexdigest()


def open_task_data(options: FinetuningOptions) -> TaskData:
    """Read the files of a task.

    Raises:
        MissingFileError, DataError: a file is not usable; names file and line.
    """
    train = list(_read(options, options.train))
    valid = [] if options.valid is None else list(_read(options, options.valid))
    test = [] if options.test is None else list(_read(options, options.test))
    labels = (labels_of_words if options.task == "ner" else labels_of_texts)(train)
    if len(labels) < 2:
        raise DataError(
            "too few labels",
            where=options.train,
            found=f"only {labels[0]!r}",
            expected="entities" if options.task == "ner" else "two classes or more",
        )
    for name, examples in ((options.valid, valid), (options.test, test)):
        check_known(examples, labels, options.train)
        if name is not None:
            warn_of_leak(train, examples, name)
    if options.valid is None:
        train, valid = hold_out(train)
        logging.info("held out for validation: %d of %d examples", len(valid), len(valid) + len(train))
    logging.info(
        "%d examples to train on, %d for validation, %d to test on; %d labels: %s",
        len(train),
        len(valid),
        len(test),
        len(labels),
        ", ".join(labels),
    )
    return TaskData(train, valid, test, labels)


def _read(options: FinetuningOptions, path: str) -> Sequence[Example]:
    if options.task == "ner":
        return read_sentences(path, options.text_column, options.label_column)
    return read_texts(
        path, options.task == "pairs", options.text_column, options.pair_column, options.label_column
    )

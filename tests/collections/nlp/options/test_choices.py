"""Choices in options, which must not import what offers them: torch and the core make `--help` slow."""

from dataclasses import fields

from nemo.backends.pytorch.optim.optimizers import OPTIMIZERS
from nemo.collections.nlp.options import PretrainingOptions
from nemo.core.plan import WHEN_NOT_FINITE


def choices_of(name):
    (field,) = [field for field in fields(PretrainingOptions) if field.name == name]
    return field.metadata["choices"]


def test_every_optimizer_can_be_chosen():
    assert sorted(choices_of("optimizer")) == sorted(OPTIMIZERS)


def test_whatever_to_do_with_numbers_that_are_not_finite_can_be_chosen():
    assert choices_of("when_not_finite") == WHEN_NOT_FINITE

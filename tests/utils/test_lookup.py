"""Names that are nearly right are answered with the right one."""

import pytest

from nemo.utils.errors import UsageError
from nemo.utils.lookup import choose, closest


def test_the_closest_name_ignores_case():
    assert closest("LAMP", ["lamb", "sgd"]) == "lamb"
    assert closest("zzz", ["lamb", "sgd"]) is None


def test_an_unknown_name_is_answered_with_the_closest_and_all():
    assert choose({"lamb": 1}, "lamb", "optimizer") == 1
    with pytest.raises(
        UsageError, match=r"unknown optimizer; found 'lam', expected one of lamb, sgd; fix: did.*'lamb'"
    ):
        choose({"lamb": 1, "sgd": 2}, "lam", "optimizer")

"""Gains that are called so: as scipy's t-test finds them."""

import pytest
from scipy.stats import ttest_ind_from_stats

from nemo.collections.nlp.adaptation.result import Score, differs


@pytest.mark.parametrize("runs", [2, 3, 5, 12])
@pytest.mark.parametrize("deviations", [(0.01, 0.01), (0.01, 0.03)])
def test_a_gain_is_called_so_as_by_welchs_test(runs, deviations):
    one, *_ = base = Score(0.7, deviations[0], runs), runs
    for step in range(1, 200):
        other = Score(0.7 + step / 1000, deviations[1], runs)
        p = ttest_ind_from_stats(
            one.mean, one.deviation, runs, other.mean, other.deviation, runs, equal_var=False
        ).pvalue
        if p > 0.05:
            assert not differs(one, other), base
        if p < 0.02:  # degrees of freedom are rounded down
            assert differs(one, other), step


def test_one_seed_shows_nothing():
    assert not differs(Score(0.1, None, 1), Score(0.9, None, 1))

"""Masks look random from every side, are functions of where they are alone, and the kernel draws the same.

All masks are fixed by their seeds, so a bound of five standard deviations is met always or never.
"""

import itertools
import math

import pytest
import torch

from nemo.backends.pytorch.ops.dropout import (
    DropoutSeeds,
    dropout,
    dropout_reference,
    dropout_seeds,
    keep_mask,
    next_seeds,
)
from tests.backends.pytorch.ops.agreement import Inputs, assert_agree, exact_outcome, kernel_outcome, threads

ROWS, COLUMNS = 1024, 768
SIGMAS = 5
DISTANCES = (1, 2, 3, 4, 8, 12, 16, 64, 128, 256)


def mask(seed, p=0.5, rows=ROWS, columns=COLUMNS):
    return keep_mask(torch.arange(rows), columns, p, seed)


def seeds_of(*key, count=1):
    with dropout_seeds(DropoutSeeds(*key)):
        return next_seeds(count)


def assert_uncorrelated(one, other, p=0.5):
    """The correlation of two masks, whose elements are paired, is that of independent ones."""
    centered = (one.double() - (1 - p)) * (other.double() - (1 - p))
    assert abs(centered.sum().item()) < SIGMAS * p * (1 - p) * math.sqrt(one.numel())


def assert_independent(masks):
    """No mask of several has to do with another, nor with its own neighbors or the other's."""
    signs = masks.float() * 2 - 1
    for one, other in ((signs, signs), (signs[:, 1:], signs[:, :-1]), (signs[..., 1:], signs[..., :-1])):
        correlations = one.flatten(1) @ other.flatten(1).t() / math.sqrt(one[0].numel())
        assert correlations.fill_diagonal_(0).abs().max() < SIGMAS


def assert_equally_likely(values, kinds):
    """Chi-square, in its normal approximation, of how often each of `kinds` numbers occurs."""
    expected = values.numel() / kinds
    chi_square = ((torch.bincount(values.flatten(), minlength=kinds) - expected) ** 2 / expected).sum().item()
    assert abs(chi_square - (kinds - 1)) < SIGMAS * math.sqrt(2 * (kinds - 1))


@pytest.mark.parametrize("p", [0.001, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1, 3141592653])
def test_elements_are_dropped_at_the_given_rate(p, seed):
    dropped = ~mask(seed, p)
    assert abs(dropped.sum().item() - p * dropped.numel()) < SIGMAS * math.sqrt(p * (1 - p) * dropped.numel())


@pytest.mark.parametrize("p", [0.1, 0.5])
@pytest.mark.parametrize("axis", [0, 1])
def test_rate_of_every_row_and_column(p, axis):
    """They scatter as binomials do: neither more nor less."""
    counts = (~mask(5, p)).sum(axis).double()
    size = (ROWS, COLUMNS)[axis]
    z = (counts - p * size) / math.sqrt(p * (1 - p) * size)
    assert z.abs().max() < SIGMAS
    assert abs((z**2).sum().item() - len(z)) < SIGMAS * math.sqrt(2 * len(z))


@pytest.mark.parametrize("p", [0.1, 0.5])
@pytest.mark.parametrize("distance", DISTANCES)
def test_neighbors_are_independent(distance, p):
    kept = mask(6, p)
    assert_uncorrelated(kept[distance:], kept[:-distance], p)
    assert_uncorrelated(kept[:, distance:], kept[:, :-distance], p)
    assert_uncorrelated(kept[distance:, distance:], kept[:-distance, :-distance], p)


@pytest.mark.parametrize("axis", [0, 1])
def test_patterns_of_eight_neighbors_are_equally_likely(axis):
    bits = torch.stack([mask(seed) for seed in seeds_of(1, count=4)]).unfold(axis + 1, 8, 8).long()
    assert_equally_likely((bits << torch.arange(8)).sum(-1), 256)


@pytest.mark.parametrize("across", [1, 2, 64])
@pytest.mark.parametrize("down", [1, 2, 16])
def test_corners_of_rectangles_are_independent(down, across):
    """A hash that XORs one number of the row and one of the column could fail here."""
    bits = mask(8).long()
    corners = (bits[down:, across:], bits[:-down, across:], bits[down:, :-across], bits[:-down, :-across])
    assert_equally_likely(sum(corner << i for i, corner in enumerate(corners)), 16)


def test_lengths_of_dropped_runs_are_geometric():
    """A run of dropped elements goes on with probability p, however long it is already."""
    p = 0.3
    dropped = ~mask(9, p)
    run = dropped
    for _ in range(6):
        run, before = run[:, 1:] & dropped[:, : run.shape[1] - 1], run[:, :-1]
        # Overlapping runs are counted, which widens the scatter of their number, by less than this factor.
        scatter = (1 + p) / (1 - p) * math.sqrt(p * (1 - p) * before.sum().item())
        assert abs(run.sum().item() - p * before.sum().item()) < SIGMAS * scatter


def test_rows_are_never_the_same():
    kept = mask(10, rows=30000, columns=64)
    assert len(kept.unique(dim=0)) == 30000


def test_no_two_rows_are_alike():
    """Every pair of rows, also those far apart."""
    signs = mask(11).float() * 2 - 1
    similarity = (signs @ signs.t()).fill_diagonal_(0) / math.sqrt(COLUMNS)
    assert similarity.abs().max() < 6  # of half a million pairs
    assert abs((similarity**2).sum().item() / (ROWS * (ROWS - 1)) - 1) < 0.01


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((0, 7, 0, 0), (0, 8, 0, 0)),
        ((0, 7, 0, 0), (0, 7, 1, 0)),
        ((0, 7, 0, 0), (0, 7, 0, 1)),
        ((0, 7, 0, 0), (1, 7, 0, 0)),
        ((0, 1, 0, 0), (0, 0, 1, 0)),
    ],
    ids=["steps", "ranks", "batches", "seeds", "step and rank"],
)
def test_masks_of_steps_ranks_and_batches_are_independent(one, other):
    ours, theirs = (torch.stack([mask(seed) for seed in seeds_of(*key, count=3)]) for key in (one, other))
    assert_uncorrelated(ours, theirs)
    assert_uncorrelated(ours[1:], theirs[:-1])


def test_sites_are_independent():
    assert_independent(torch.stack([mask(seed, rows=128) for seed in seeds_of(3, count=8)]))


def test_seeds_that_differ_by_a_bit_are_independent():
    assert_independent(torch.stack([mask(12345 ^ (1 << bit), rows=128) for bit in range(32)]))


def test_no_row_of_a_site_is_one_of_another():
    """Not even where seeds and rows differ by the same."""
    assert len(torch.cat([mask(seed, columns=64) for seed in range(8)]).unique(dim=0)) == 8 * ROWS


def test_a_lower_rate_drops_less_of_the_same():
    assert (mask(4, 0.3) <= mask(4, 0.1)).all()


def test_a_mask_element_depends_only_on_its_position():
    whole = mask(13)
    assert torch.equal(keep_mask(torch.tensor([900, 3]), 17, 0.5, 13), whole[[900, 3], :17])
    assert torch.equal(mask(torch.tensor(13)), whole)


def test_seeds_depend_on_the_key_and_the_order_alone():
    assert seeds_of(1, 2, 3, count=5) == seeds_of(1, 2, 3, count=5)
    keys = itertools.product(range(3), repeat=4)
    assert len({seeds_of(*key)[0] for key in keys}) == 81
    with dropout_seeds(DropoutSeeds(1)):
        first = next_seeds(2)
        with dropout_seeds(DropoutSeeds(2)):
            next_seeds(1)
        assert first + next_seeds(3) == seeds_of(1, count=5)


def test_outside_a_step_torch_draws_the_seeds():
    torch.manual_seed(1)
    first = next_seeds(3)
    assert next_seeds(3) != first
    torch.manual_seed(1)
    assert next_seeds(3) == first


@pytest.mark.parametrize("shape", [(0, 8), (1, 1), (7, 13), (130, 771)])
@pytest.mark.parametrize("p", [0.1, 0.999])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 5e-3)])
def test_kernel_equals_reference(shape, p, dtype, tolerance, kernels):
    arguments = [Inputs(dtype).activations(*shape), p, 2**32 - 1]
    found, expected = kernel_outcome(dropout, arguments), exact_outcome(dropout_reference, arguments)
    assert_agree(found, expected, tolerance)
    assert torch.equal(found[0] == 0, expected[0] == 0)


@pytest.mark.parametrize("count", [1, 3, 16])
def test_threads_do_not_matter(count, kernels):
    x = torch.ones(5, 40)
    with threads(count):
        assert torch.equal(dropout(x, 0.5, 7) != 0, keep_mask(torch.arange(5), 40, 0.5, 7))


def test_a_strided_input_is_as_good(kernels):
    x = torch.randn(40, 5).t()
    torch.testing.assert_close(dropout(x, 0.5, 7), dropout_reference(x, 0.5, 7))


def test_a_seed_may_be_a_tensor(kernels):
    x = torch.randn(5, 40)
    assert torch.equal(dropout(x, 0.5, torch.tensor(7)), dropout(x, 0.5, 7))


def test_without_dropout_nothing_happens():
    x = torch.randn(3, 4)
    assert dropout(x, 0.0, 7) is x


def test_dropout_keeps_the_mean():
    assert dropout(torch.ones(ROWS, COLUMNS), 0.1, 7).mean().item() == pytest.approx(1, abs=0.002)


def test_reference_has_the_gradient_of_its_value():
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: dropout_reference(x, 0.4, 7), x)

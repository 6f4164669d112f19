"""Packing of a batch of three sequences of 4, of which 4, 2 and 3 tokens are real."""

import pytest
import torch

from nemo.backends.pytorch.ops.packing import Packing, bucket_size

MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 1, 1]])


def test_real_tokens_stand_side_by_side():
    packing = Packing.of((3, 4), MASK, torch.tensor([9 - 1, 0, 5]))
    assert packing.tokens.tolist() == [0, 1, 2, 3, 4, 5, 8, 10, 11]
    assert packing.positions.tolist() == [0, 1, 2, 3, 0, 1, 0, 2, 3]
    assert packing.keys is None
    assert packing.sequences.queries.tolist() == packing.sequences.keys.tolist() == [0, 4, 6, 9]
    assert (packing.sequences.longest_queries, packing.sequences.longest_keys) == (4, 4)


def test_rows_are_found_among_the_real_tokens():
    rows = torch.tensor([11, 0, 5, 11, 3])
    packing = Packing.of((3, 4), MASK, rows)
    assert packing.requested.tolist() == [0, 3, 5, 8, 8]
    assert packing.tokens[packing.requested][packing.restore].tolist() == rows.tolist()
    assert packing.last_sequences.queries.tolist() == [0, 2, 3, 5]
    assert packing.last_sequences.keys.tolist() == [0, 4, 6, 9]
    assert packing.last_sequences.longest_queries == 2


@pytest.mark.parametrize("rows", [None, torch.tensor([0, 6])], ids=["all", "one is padding"])
def test_requested_padding_is_computed(rows):
    packing = Packing.of((3, 4), MASK, rows)
    assert packing.tokens is None
    assert packing.keys.tolist() == [0, 1, 2, 3, 4, 5, 8, 10, 11]  # but nobody looks at it
    assert packing.sequences.queries.tolist() == [0, 4, 8, 12]
    assert packing.sequences.keys.tolist() == [0, 4, 6, 9]
    assert packing.positions.tolist() == [0, 1, 2, 3] * 3


@pytest.mark.parametrize("mask", [None, torch.ones(2, 3)])
def test_a_batch_without_padding_is_not_packed(mask):
    packing = Packing.of((2, 3), mask, torch.tensor([4]))
    assert packing.tokens is None and packing.keys is None
    assert packing.sequences.keys.tolist() == [0, 3, 6]
    assert packing.requested.tolist() == [4]


def test_sizes_can_be_rounded_up_to_buckets():
    rows = torch.tensor([11, 0, 5])
    packing = Packing.of((3, 4), MASK, rows, buckets=3)
    exact = Packing.of((3, 4), MASK, rows)
    assert len(packing.tokens) == len(packing.positions) == 12  # 9 real tokens, sizes 4, 8 and 12
    assert packing.tokens[:9].tolist() == exact.tokens.tolist()
    assert packing.sequences.keys.tolist() == [0, 4, 6, 9, 12]
    assert packing.last_sequences.queries.tolist() == [0, 1, 2, 3, 3]
    assert packing.requested.tolist() == exact.requested.tolist()
    assert packing.sequences.longest_keys == 4


def test_bucket_lengths_are_bounds_for_nearly_every_batch():
    masks = [(torch.rand(4, 6) < share).long() for share in (0.2, 0.5, 0.9)]
    packings = [Packing.of((4, 6), mask, mask.flatten().nonzero()[:2, 0], buckets=2) for mask in masks]
    assert len({(p.sequences.longest_keys, p.last_sequences.longest_queries) for p in packings}) == 1
    for packing in packings:
        assert packing.sequences.keys.diff().max() <= packing.sequences.longest_keys
        assert packing.last_sequences.queries.diff().max() <= packing.last_sequences.longest_queries


def test_keys_and_queries_are_rounded_up_if_padding_is_computed():
    packing = Packing.of((3, 5), torch.ones(3, 5).triu(), None, buckets=4)  # 12 keys, sizes 4, 8, 12 and 16
    assert len(packing.tokens) == len(packing.positions) == 16
    assert packing.tokens[:15].tolist() == list(range(15))
    assert packing.sequences.queries.tolist() == [0, 5, 10, 15, 16]
    assert packing.sequences.keys.tolist() == [0, 5, 9, 12, 12]
    fewer = Packing.of((3, 4), MASK, None, buckets=3)
    assert fewer.tokens is None  # 12 already
    assert fewer.keys.tolist() == [0, 1, 2, 3, 4, 5, 8, 10, 11, 0, 0, 0]
    assert fewer.sequences.keys.tolist() == [0, 4, 6, 9, 12]


def test_requested_rows_are_rounded_up_by_repeating_the_last_one():
    rows = torch.tensor([40, 3, 70])
    packing = Packing.of((8, 16), None, rows, buckets=4)  # 128 tokens, rows in steps of 4
    assert packing.requested.tolist() == [3, 40, 70, 70]
    assert packing.requested[packing.restore].tolist() == rows.tolist()
    assert packing.last_sequences.queries.tolist() == [0, 1, 1, 2, 2, 4, 4, 4, 4, 4]


def test_batches_of_other_shapes_have_sizes_in_common():
    assert [bucket_size(tokens, 32) for tokens in (0, 1, 32, 4096, 4097)] == [1, 1, 1, 128, 256]
    assert all(-(-tokens // bucket_size(tokens, 32)) <= 32 for tokens in range(1, 5000, 37))

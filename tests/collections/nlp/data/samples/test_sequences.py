"""Rows, by hand; whole batches are in test_datasets.py and hdf5/test_writer.py."""

from types import SimpleNamespace

import numpy as np

from nemo.collections.nlp.data.samples.pairs import PairTable
from nemo.collections.nlp.data.samples.sequences import SequenceBuilder

PAD, UNK, CLS, SEP = 9, 1, 2, 3
TOKENIZER = SimpleNamespace(
    cls_id=CLS, sep_id=SEP, pad_id=PAD, vocab_size=20, special_ids=np.array([1, 2, 3, 4, 9])
)


def test_two_pairs_by_hand():
    store = SimpleNamespace(
        tokens=np.array([10, 11, UNK, 13, 14, 15], np.uint16),
        starts_word=np.array([True, False, True, True, False, True]),
    )
    pairs = PairTable(
        a_start=np.array([0, 4]),
        a_length=np.array([3, 1], np.int32),
        b_start=np.array([3, 0]),
        b_length=np.array([2, 1], np.int32),
        is_random=np.array([False, True]),
    )
    rows = SequenceBuilder(TOKENIZER, 10).build(store, pairs)
    assert rows.ids.tolist() == [
        [CLS, 10, 11, UNK, SEP, 13, 14, SEP, PAD, PAD],
        [CLS, 14, SEP, 10, SEP, PAD, PAD, PAD, PAD, PAD],
    ]
    assert rows.lengths.tolist() == [8, 5] == rows.is_token.sum(1).tolist()
    assert rows.in_b.astype(int).tolist() == [[0, 0, 0, 0, 0, 1, 1, 1, 0, 0], [0, 0, 0, 1, 1, 0, 0, 0, 0, 0]]
    assert [np.flatnonzero(row).tolist() for row in rows.may_choose] == [[1, 2, 5, 6], [1, 3]]
    assert [row[chosen].tolist() for row, chosen in zip(rows.starts_word, rows.may_choose, strict=True)] == [
        [True, False, True, False],
        [False, True],
    ]


def test_replacements_are_all_but_the_special_tokens():
    assert SequenceBuilder(TOKENIZER, 10).replacements.tolist() == [0, *range(5, 9), *range(10, 20)]

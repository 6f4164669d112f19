"""Pairs: every rule by hand, and all together against the original algorithm, written plainly."""

import itertools
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest

from nemo.collections.nlp.data.inputs import read_documents
from nemo.collections.nlp.data.samples.pairs import PairTable, _truncated, make_pairs
from nemo.utils.errors import DataError


def store_of(*documents: list[int]):
    """A store whose documents have sentences of these lengths."""
    lengths = [length for document in documents for length in document]
    return SimpleNamespace(
        sentence_offsets=np.cumsum([0, *lengths]),
        document_offsets=np.cumsum([0, *map(len, documents)]),
    )


def rows(table: PairTable):
    return list(
        zip(
            table.a_start.tolist(),
            table.a_length.tolist(),
            table.b_start.tolist(),
            table.b_length.tolist(),
            table.is_random.tolist(),
            strict=True,
        )
    )


def test_the_second_sentence_of_a_random_pair_is_put_back():
    # Space for 8 tokens: 0-3 and 4-7 fill it. Either they are a pair, or each is an A with a random B.
    seen = set()
    for seed in range(20):
        pairs = rows(make_pairs(store_of([4, 4], [4, 4]), 11, 0.0, seed))
        firsts = [pair for pair in pairs if pair[0] < 8]
        if len(firsts) == 1:
            assert firsts == [(0, 4, 4, 4, False)]
        else:
            assert [first[:2] for first in firsts] == [(0, 4), (4, 4)]
            assert all(is_random and b in (8, 12) for _, _, b, _, is_random in firsts)
        seen.add(len(firsts))
    assert seen == {1, 2}


def test_a_random_b_fills_the_space():
    for seed in range(10):
        for _, a_length, b_start, b_length, is_random in rows(
            make_pairs(store_of([6], [1] * 10), 13, 0.0, seed)
        ):
            if is_random and a_length == 6:
                # 4 tokens left; the other document ends at 16.
                assert b_length == min(4, 16 - b_start)


def test_a_single_sentence_never_has_a_true_next():
    assert make_pairs(store_of(*[[5]] * 50), 20, 0.0).is_random.all()


def test_a_may_end_after_any_sentence_but_the_last():
    a_lengths = [make_pairs(store_of([1] * 5, [1] * 5), 8, 0.0, seed).a_length[0] for seed in range(100)]
    assert set(a_lengths) == {1, 2, 3, 4}


def test_a_true_b_follows_a_directly():
    table = make_pairs(store_of(*[[1] * 100] * 10), 20, 0.1)
    true = ~table.is_random
    assert true.any()
    np.testing.assert_array_equal((table.a_start + table.a_length)[true], table.b_start[true])


def test_a_random_b_is_of_another_document():
    store = store_of(*[[3] * 40] * 5)
    table = make_pairs(store, 30)
    document_ends = store.sentence_offsets[store.document_offsets[1:]]
    of_a, of_b = (np.searchsorted(document_ends, start, "right") for start in (table.a_start, table.b_start))
    np.testing.assert_array_equal(of_a != of_b, table.is_random)


def test_every_sentence_is_used_once_per_epoch():
    # Sentences of one token: nothing is ever truncated.
    store = store_of(*[[1] * n for n in (1, 2, 17, 40, 3)])
    for epoch in range(20):
        table = make_pairs(store, 13, 0.3, epoch=epoch)
        used = np.zeros(63, dtype=int)
        for a_start, a_length, b_start, b_length, is_random in rows(table):
            used[a_start : a_start + a_length] += 1
            if not is_random:
                used[b_start : b_start + b_length] += 1
        assert (used == 1).all()


def test_the_length_is_drawn_once_per_document():
    store = store_of(*[[1] * 200] * 300)
    table = make_pairs(store, 23, short_seq_prob=1.0)
    lengths = (table.a_length + table.b_length)[~table.is_random]
    document = table.a_start[~table.is_random] // 200
    # A true pair of one-token sentences has just the drawn length, except for a document's last.
    drawn = [np.bincount(lengths[document == d]).argmax() for d in range(300)]
    for d in range(300):
        assert np.count_nonzero(lengths[document == d] != drawn[d]) <= 1
    assert set(drawn) <= set(range(2, 21)) and len(set(drawn)) > 15


def test_short_pairs_are_cut_to_their_length():
    table = make_pairs(store_of(*[[30] * 20] * 200), 103, short_seq_prob=1.0)
    mean_length = np.mean(table.a_length + table.b_length)
    assert mean_length < 60  # uniform from 2 to 100; cut to 100 only, sentences of 30 would give more


def slowly_truncated(a: int, b: int, target: int) -> tuple[int, int]:
    while a + b > target:
        if a > b:
            a -= 1
        else:
            b -= 1
    return a, b


def test_truncation_ends_where_removing_one_token_at_a_time_does():
    a, b, target = (grid.ravel() for grid in np.meshgrid(range(1, 13), range(1, 13), range(2, 16)))
    zero = np.zeros_like(a)
    table = _truncated(np.random.default_rng(0), PairTable(zero, a, zero, b, zero), target)
    expected = [slowly_truncated(*lengths) for lengths in zip(a, b, target, strict=True)]
    assert list(zip(table.a_length, table.b_length, strict=True)) == expected
    assert (table.a_start + table.a_length <= a).all() and (table.b_start + table.b_length <= b).all()


def test_front_and_back_are_truncated_equally_often():
    n = 20000
    same = {"a_start": np.zeros(n, int), "b_start": np.zeros(n, int), "is_random": np.zeros(n, bool)}
    long = PairTable(a_length=np.full(n, 10), b_length=np.full(n, 2), **same)
    cut = _truncated(np.random.default_rng(0), long, np.full(n, 8))
    # 4 tokens of A go: 0 to 4 of them from the front, as often as 4 coins show heads.
    shares = np.bincount(cut.a_start, minlength=5) / n
    np.testing.assert_allclose(shares, np.array([1, 4, 6, 4, 1]) / 16, atol=0.02)
    assert (cut.b_start == 0).all()


def test_one_document_takes_a_random_b_from_elsewhere_in_it():
    store = store_of([2] * 60)
    for seed in range(20):
        table = make_pairs(store, 13, 0.0, seed)
        a_end, b_end = table.a_start + table.a_length, table.b_start + table.b_length
        random = table.is_random
        assert random.any()
        before = b_end <= table.a_start
        after = table.b_start > a_end + 1  # not the sentence that follows
        assert (before | after)[random].all()


def test_one_document_of_two_sentences_is_one_true_pair():
    for seed in range(10):
        assert rows(make_pairs(store_of([2, 2]), 13, 0.0, seed)) == [(0, 2, 2, 2, False)]


@pytest.mark.parametrize("length", [1, 3, 1000])
def test_one_sentence_is_too_little(length):
    if length < 10:
        with pytest.raises(DataError, match="too little text for a pair"):
            make_pairs(store_of([length]), 13)
    else:
        assert len(make_pairs(store_of([length]), 13)) > 50  # it is cut into parts


def test_a_sentence_longer_than_the_space_is_used_to_its_end():
    table = make_pairs(store_of([1000], [1000]), 103, 0.0)
    assert table.a_length.min() >= 1 and (table.a_length + table.b_length).max() <= 100
    used = np.zeros(2000, dtype=bool)
    for a_start, a_length, b_start, b_length, _ in rows(table):
        used[a_start : a_start + a_length] = used[b_start : b_start + b_length] = True
    assert used.all()


def test_sentences_that_just_fit_are_not_cut():
    table = make_pairs(store_of([100], [100]), 103, 0.0)
    assert sorted(table.a_start // 100) == [0, 1] and table.is_random.all()


def test_pairs_depend_on_seed_and_epoch_alone():
    store = store_of(*[[3] * 30] * 20)
    assert rows(make_pairs(store, 30, seed=1, epoch=2)) == rows(make_pairs(store, 30, seed=1, epoch=2))
    assert len({str(rows(make_pairs(store, 30, seed=s, epoch=e))) for s in (1, 2) for e in (1, 2)}) == 4


def original_pairs(documents: list[list[int]], space: int, rng: np.random.Generator):
    """Lengths of A and B and the label, as `create_instances_from_document` of Google's BERT makes them.

    A token is where it stands; only its number matters, so a sentence is its length. The one thing
    taken from us: pairs are cut to the drawn length.
    """
    for number, document in enumerate(documents):
        target = space if rng.random() >= 0.1 else int(rng.integers(2, space + 1))
        passage: list[int] = []
        i = 0
        while i < len(document):
            passage.append(document[i])
            if i == len(document) - 1 or sum(passage) >= target:
                a_end = int(rng.integers(1, len(passage))) if len(passage) >= 2 else 1
                a = sum(passage[:a_end])
                is_random = len(passage) == 1 or rng.random() < 0.5
                if is_random:
                    for _ in range(10):
                        other = int(rng.integers(0, len(documents)))
                        if other != number:
                            break
                    b = 0
                    for length in documents[other][int(rng.integers(0, len(documents[other]))) :]:
                        b += length
                        if b >= target - a:
                            break
                    i -= len(passage) - a_end
                else:
                    b = sum(passage[a_end:])
                yield *slowly_truncated(a, b, target), is_random
                passage = []
            i += 1


def assert_like_the_original(documents: list[list[int]], max_seq_length: int, epochs: int):
    store = store_of(*documents)
    rng = np.random.default_rng(0)
    theirs = [np.array(list(original_pairs(documents, max_seq_length - 3, rng))) for _ in range(epochs)]
    ours = [make_pairs(store, max_seq_length, epoch=epoch) for epoch in range(epochs)]
    tables = [np.stack((t.a_length, t.b_length, t.is_random), axis=1) for t in ours]
    assert np.mean([len(t) for t in tables]) == pytest.approx(np.mean([len(t) for t in theirs]), rel=0.01)
    a, b = np.concatenate(tables), np.concatenate(theirs)
    np.testing.assert_allclose(a.mean(axis=0)[:2], b.mean(axis=0)[:2], rtol=0.02)
    assert a[:, 2].mean() == pytest.approx(b[:, 2].mean(), abs=0.01)
    deciles = np.linspace(0.05, 0.95, 19)
    for column in (0, 1):
        np.testing.assert_allclose(
            np.quantile(a[:, column], deciles),
            np.quantile(b[:, column], deciles),
            atol=0.03 * max_seq_length,
        )


def test_made_up_lengths_give_pairs_like_the_original():
    rng = np.random.default_rng(1)
    documents = [
        [int(n) for n in rng.integers(1, 40, rng.integers(1, 60))] for _ in range(200)
    ]  # no sentence is longer than the space
    assert_like_the_original(documents, 64, epochs=10)


@pytest.mark.parametrize("max_seq_length", [128, 512])
def test_real_text_gives_pairs_like_the_original(shared_data, max_seq_length):
    documents = [
        [min(len(paragraph.split()), 125) for paragraph in document]
        for document in read_documents(shared_data / "abc_news" / "rural.txt")
    ]
    assert_like_the_original(documents, max_seq_length, epochs=8)


# Pairs of some documents of a corpus only.


def test_parts_of_a_corpus_have_every_a_and_bs_from_all_of_it():
    rng = np.random.default_rng(0)
    store = store_of(*[[int(n) for n in rng.integers(1, 20, rng.integers(1, 30))] for _ in range(200)])
    ends = store.sentence_offsets[store.document_offsets[1:]]
    for documents in (range(70), range(70, 71), range(71, 200)):
        table = make_pairs(store, 40, documents=documents)
        of_a, of_b = (np.searchsorted(ends, start, "right") for start in (table.a_start, table.b_start))
        assert set(of_a) == set(documents)
        assert (table.a_start[1:] > table.a_start[:-1]).all()
        np.testing.assert_array_equal(of_a != of_b, table.is_random)
        if len(documents) > 1:
            assert len(set(of_b[table.is_random])) > 100


def test_parts_of_a_corpus_have_random_numbers_of_their_own():
    store = store_of(*[[3] * 30] * 20)
    first, second = (make_pairs(store, 30, documents=part) for part in (range(10), range(10, 20)))
    assert first.a_length.tolist() != second.a_length.tolist()
    again = make_pairs(store, 30, documents=range(10))
    assert rows(again) == rows(first)


def test_b_starts_at_any_sentence_of_others_or_part_of_a_long_one():
    store = store_of([5], [40, 5, 5])  # space for 13 tokens: the sentence of 40 is cut into 7 parts
    starts = [make_pairs(store, 16, 0.0, seed, documents=range(1)).b_start[0] for seed in range(300)]
    count = np.bincount(starts, minlength=56)
    # 8 tokens are wanted, so that of whole parts and sentences up to 4 tokens at the front may go.
    for begin in (45, 50):
        assert count[begin : begin + 3].sum() / 300 == pytest.approx(1 / 3, abs=0.1)
    cuts = [5 + n * 40 // 7 for n in range(8)]
    assert all(count[begin:end].sum() > 3 for begin, end in itertools.pairwise(cuts))
    assert count[:5].sum() == 0  # A's own document


def test_memory_depends_only_on_the_requested_documents():
    store = store_of(*[[7]] * 300_000)
    tracemalloc.start()
    make_pairs(store, 128, documents=range(1000, 1100))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200_000

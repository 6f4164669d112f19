"""Pairs in shards that are written: those of the original."""

import itertools
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from nemo.collections.nlp.data.hdf5 import restored as unmasked
from nemo.collections.nlp.data.hdf5.writer import ShardRecipe, document_ranges
from tests.collections.nlp.data.hdf5.test_writer import CLS, RECIPE, SEP, made_up, store_of, written

PASSES = 30  # enough to compare shares


def pairs_in(rows: dict[str, np.ndarray]):
    """(first token of A, A's length, first token of B, B's length, label) of rows of `store_of`."""
    for ids, mask, segments, label in zip(
        unmasked(rows), rows["input_mask"], rows["segment_ids"], rows["next_sentence_labels"], strict=True
    ):
        length, b = int(mask.sum()), int(segments.argmax())
        assert mask.tolist() == [1] * length + [0] * (len(ids) - length)
        assert segments.tolist() == [0] * b + [1] * (length - b) + [0] * (len(ids) - length)
        assert (ids[0], ids[b - 1], ids[length - 1]) == (CLS, SEP, SEP) and not ids[length:].any()
        sides = ids[1 : b - 1].astype(int) - 5, ids[b : length - 1].astype(int) - 5
        for side in sides:
            assert side[0] >= 0 and (np.diff(side) == 1).all()  # a run of the text
        yield int(sides[0][0]), len(sides[0]), int(sides[1][0]), len(sides[1]), int(label)


def documents_at(store, tokens) -> np.ndarray:
    ends = store.sentence_offsets[store.document_offsets[1:]]
    return np.searchsorted(ends, tokens, "right")


def test_a_true_b_follows_a_and_a_random_one_is_of_another_document(tmp_path):
    # Sentences of one token, so that nothing is cut off.
    store, tokenizer = store_of([[1] * n for n in np.random.default_rng(0).integers(1, 300, 40)])
    pairs = np.array(list(pairs_in(written(tmp_path, store, tokenizer))))
    a_start, a_length, b_start, _, label = pairs.T
    assert set(label) == {0, 1}
    np.testing.assert_array_equal((a_start + a_length)[label == 0], b_start[label == 0])
    is_elsewhere = documents_at(store, a_start) != documents_at(store, b_start)
    np.testing.assert_array_equal(is_elsewhere, label == 1)


def test_every_token_is_in_an_a_or_a_true_b_once_in_every_pass(tmp_path):
    store, tokenizer = store_of([[1] * n for n in (1, 250, 17, 40, 3)])
    used = np.zeros(len(store.tokens), int)
    for a_start, a_length, b_start, b_length, label in pairs_in(written(tmp_path, store, tokenizer)):
        used[a_start : a_start + a_length] += 1
        used[b_start : b_start + b_length] += not label
    assert (used == RECIPE.dupe_factor).all()


def test_shards_together_have_every_a_and_random_bs_from_the_whole_corpus(tmp_path):
    store, tokenizer = store_of(made_up(120))
    ranges = document_ranges(store, 4)
    for number, documents in enumerate(ranges):
        rows = written(tmp_path, store, tokenizer, RECIPE, documents, name=str(number))
        a_start, _, b_start, _, label = np.array(list(pairs_in(rows))).T
        assert set(documents_at(store, a_start)) == set(documents)
        of_b = documents_at(store, b_start[label == 1])
        # Of 120 documents 30 or so are in this shard, and a B is as likely to be of any.
        assert np.mean((of_b >= documents.start) & (of_b < documents.stop)) == pytest.approx(
            len(documents) / 120, abs=0.08
        )
        assert len(set(of_b)) > 80


def test_shards_stores_seeds_and_passes_have_their_own_random_numbers(tmp_path):
    # Documents that are all alike, so that only random numbers can make a difference: which documents are
    # a true pair (the others are two random ones), and which tokens of these are hidden.
    store, tokenizer = store_of([[25, 25]] * 400)
    store.starts_word[:] = True
    test_store = SimpleNamespace(**{**vars(store), "manifest": {"arrays": {"tokens": {"sha256": "test"}}}})
    once = ShardRecipe(64, 10, dupe_factor=1, short_seq_prob=0.0)
    masks = []  # of every source of rows: document -> positions, of true pairs
    rows_of = []
    for which, recipe, documents in (
        (store, once, range(200)),
        (store, once, range(200, 400)),
        (test_store, once, range(200)),
        (store, replace(once, random_seed=1), range(200)),
        (store, replace(once, dupe_factor=2), range(200)),
    ):
        rows = written(tmp_path, which, tokenizer, recipe, documents)
        passes: list[dict] = [{} for _ in range(recipe.dupe_factor)]
        for (a, *_, label), positions in zip(pairs_in(rows), rows["masked_lm_positions"], strict=True):
            if label == 0:
                document = a // 50 - documents.start
                next(mask for mask in passes if document not in mask)[document] = positions.tolist()
        masks += passes
        rows_of.append(rows["masked_lm_positions"])
    # Nor do the same rows of two files have the same tokens hidden.
    for first, second in itertools.combinations(rows_of, 2):
        number = min(len(first), len(second))
        assert (first[:number] == second[:number]).all(1).mean() < 0.05
    for i, mask in enumerate(masks[:4]):
        assert 70 < len(mask) < 130
        assert all(mask.keys() != other.keys() for other in masks[:i])
    for i, mask in enumerate(masks):
        for other in masks[:i]:
            both = mask.keys() & other.keys()
            assert len(both) > 10 and sum(mask[document] == other[document] for document in both) < 3


def test_rows_are_shuffled_over_documents_and_passes(tmp_path):
    store, tokenizer = store_of(made_up(100))
    a_start = np.array([a for a, *_ in pairs_in(written(tmp_path, store, tokenizer))])
    assert abs(np.corrcoef(a_start, np.arange(len(a_start)))[0, 1]) < 0.1
    store, tokenizer = store_of([[1] * 2000] * 2)  # of a long document every pass has other pairs
    first = written(tmp_path, store, tokenizer, ShardRecipe(64, 10, dupe_factor=1))
    both = written(tmp_path, store, tokenizer, RECIPE)
    of_first_pass = {pair[:2] for pair in pairs_in(first)}
    is_first = np.array([pair[:2] in of_first_pass for pair in pairs_in(both)])
    assert abs(np.corrcoef(is_first, np.arange(len(is_first)))[0, 1]) < 0.25


def test_a_large_shard_is_shuffled_block_by_block(tmp_path, monkeypatch):
    store, tokenizer = store_of(made_up(100))
    monkeypatch.setattr("nemo.collections.nlp.data.hdf5.writer._BLOCK_COST", 8000)
    pairs = list(pairs_in(written(tmp_path, store, tokenizer, ShardRecipe(64, 10, dupe_factor=3))))
    a_start = np.array([a for a, *_ in pairs])
    assert np.corrcoef(a_start, np.arange(len(a_start)))[0, 1] > 0.9
    assert set(documents_at(store, a_start)) == set(range(100))
    random_b = documents_at(store, np.array([b for _, _, b, _, label in pairs if label]))
    assert len(set(random_b[:200])) > 70  # the whole corpus, not the block


def reference_rows(documents, starts_word, seq_length, max_predictions, probability, rng):
    """One pass of Google's algorithm (section 1.3 of the facts), token by token: a slow, plain transcription.

    Differences that are meant: a random document is never the current one, short pairs are cut to the length
    drawn for them, and a piece at the beginning of B does not belong to the last word of A.

    Args:
        documents: lists of sentences, which are lists of tokens.
        starts_word: by token.

    Yields:
        length of A, length of B, is random, number of predictions.
    """
    for number, document in enumerate(documents):
        space = seq_length - 3
        target = space if rng.random() >= 0.1 else int(rng.integers(2, space + 1))
        left = list(document)
        while left:
            passage = []
            while left and sum(map(len, passage)) < target:
                passage.append(left.pop(0))
            a_end = int(rng.integers(1, len(passage))) if len(passage) > 1 else 1
            a = [token for sentence in passage[:a_end] for token in sentence]
            is_random = len(passage) == 1 or rng.random() < 0.5
            b = []
            if is_random:
                other = number
                while other == number:
                    other = int(rng.integers(len(documents)))
                for sentence in documents[other][int(rng.integers(len(documents[other]))) :]:
                    b += sentence
                    if len(b) >= target - len(a):
                        break
                left = passage[a_end:] + left
            else:
                b = [token for sentence in passage[a_end:] for token in sentence]
            while len(a) + len(b) > target:
                longer = a if len(a) > len(b) else b
                longer.pop(0 if rng.random() < 0.5 else -1)
            words = []
            for side in (a, b):
                for place, token in enumerate(side):
                    if place and not starts_word[token]:
                        words[-1].append(token)
                    else:
                        words.append([token])
            wanted = min(max_predictions, max(1, round((len(a) + len(b) + 3) * probability)))
            rng.shuffle(words)
            predictions = 0
            for word in words:
                if predictions + len(word) <= wanted:
                    predictions += len(word)
            yield len(a), len(b), is_random, predictions


@pytest.mark.slow
@pytest.mark.parametrize(("seq_length", "max_predictions"), [(64, 7), (128, 20)])
def test_rows_are_distributed_like_those_of_the_original(tmp_path, seq_length, max_predictions):
    lengths = made_up(150, seed=1)
    store, tokenizer = store_of(lengths)
    bounds = iter(range(10**9))
    documents = [[[next(bounds) for _ in range(length)] for length in document] for document in lengths]
    recipe = ShardRecipe(seq_length, max_predictions, dupe_factor=PASSES)
    ours = []
    for documents_of_shard in document_ranges(store, 3):
        rows = written(tmp_path, store, tokenizer, recipe, documents_of_shard)
        predictions = (rows["masked_lm_positions"] > 0).sum(1)
        ours += [(a, b, label, n) for (_, a, _, b, label), n in zip(pairs_in(rows), predictions, strict=True)]
    rng = np.random.default_rng(0)
    args = (documents, store.starts_word, seq_length, max_predictions, 0.15, rng)
    theirs = [row for _ in range(PASSES) for row in reference_rows(*args)]
    a, b = np.array(ours, float), np.array(theirs, float)
    assert len(a) == pytest.approx(len(b), rel=0.02)
    assert a[:, 2].mean() == pytest.approx(b[:, 2].mean(), abs=0.015)
    padding = [1 - (rows[:, :2].sum(1).mean() + 3) / seq_length for rows in (a, b)]
    assert padding[0] == pytest.approx(padding[1], abs=0.01)
    assert a[:, 3].mean() == pytest.approx(b[:, 3].mean(), rel=0.02)
    shares = np.linspace(0.05, 0.95, 19)
    for column in (0, 1, 3):
        np.testing.assert_allclose(
            np.quantile(a[:, column], shares), np.quantile(b[:, column], shares), atol=0.04 * seq_length
        )

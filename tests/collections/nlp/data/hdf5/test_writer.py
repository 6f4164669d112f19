"""Shards that are written: what is in the files, and that the pairs in them are those of the original."""

import hashlib
import itertools
import resource
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import h5py
import numpy as np
import pytest

from nemo.collections.nlp.data.hdf5 import Limits, check_shard_tokenizer, open_shard, read_checked, survey_of
from nemo.collections.nlp.data.hdf5 import restored as unmasked
from nemo.collections.nlp.data.hdf5.writer import ShardRecipe, document_ranges, write_shard
from nemo.collections.nlp.data.tokenizers.vocabulary import train_tokenizer
from nemo.utils.errors import DataError, StorageError, UsageError

PAD, UNK, CLS, SEP, MASK = range(5)
RECIPE = ShardRecipe(64, 10, dupe_factor=2)
PASSES = 30  # enough to compare shares


def store_of(documents: list[list[int]], name: str = "train", seed: int = 0):
    """A store and its tokenizer: sentences of these lengths, and every token of the text is another id.

    Token n of the text has id n + 5, so an id tells where it was; two of three begin a word.
    """
    lengths = [length for document in documents for length in document]
    number = sum(lengths)
    tokens = np.arange(5, number + 5).astype(np.uint32)
    store = SimpleNamespace(
        tokens=tokens,
        starts_word=np.random.default_rng(seed).random(number) < 2 / 3,
        sentence_offsets=np.cumsum([0, *lengths]),
        document_offsets=np.cumsum([0, *map(len, documents)]),
        manifest={"arrays": {"tokens": {"sha256": name}}},
    )
    tokenizer = SimpleNamespace(
        pad_id=PAD, cls_id=CLS, sep_id=SEP, mask_id=MASK, vocab_size=number + 5, special_ids=np.arange(5)
    )
    return store, tokenizer


def made_up(number: int, seed: int = 0) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [[int(n) for n in rng.integers(1, 30, rng.integers(1, 40))] for _ in range(number)]


def read(path) -> dict[str, np.ndarray]:
    with h5py.File(path) as file:
        return {name: file[name][:] for name in file}


def written(folder, store, tokenizer, recipe=RECIPE, documents=None, name="a") -> dict[str, np.ndarray]:
    documents = documents or range(len(store.document_offsets) - 1)
    path = folder / f"{name}.hdf5"
    write_shard(store, tokenizer, recipe, documents, path)
    return read(path)


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


# The files.


def test_the_folder_is_named_as_in_the_tutorial():
    assert ShardRecipe(128, 20).folder_name(True) == (
        "hdf5_lower_case_1_seq_len_128_max_pred_20_masked_lm_prob_0.15_random_seed_12345_dupe_factor_5"
    )
    assert ShardRecipe(512, 80, 0.2, 7, 1).folder_name(False) == (
        "hdf5_lower_case_0_seq_len_512_max_pred_80_masked_lm_prob_0.2_random_seed_7_dupe_factor_1"
    )


def test_six_datasets_with_their_types_packed_and_with_checksums(tmp_path):
    counts = write_shard(*store_of(made_up(20)), RECIPE, range(20), tmp_path / "new" / "a.hdf5")
    n = counts["rows"]
    with h5py.File(tmp_path / "new" / "a.hdf5") as file:
        assert {name: (str(file[name].dtype), file[name].shape) for name in file} == {
            "input_ids": ("int32", (n, 64)),
            "input_mask": ("int8", (n, 64)),
            "segment_ids": ("int8", (n, 64)),
            "masked_lm_positions": ("int32", (n, 10)),
            "masked_lm_ids": ("int32", (n, 10)),
            "next_sentence_labels": ("int8", (n,)),
        }
        for dataset in file.values():
            assert (dataset.compression, dataset.compression_opts) == ("gzip", 4)
            assert dataset.fletcher32 and not dataset.shuffle
            assert dataset.chunks[1:] == dataset.shape[1:]  # whole rows


def test_counts_are_those_of_the_file(tmp_path):
    path = tmp_path / "a.hdf5"
    counts = write_shard(*store_of(made_up(20)), RECIPE, range(20), path)
    rows = read(path)
    assert counts == {
        "rows": len(rows["input_ids"]),
        "random_pairs": rows["next_sentence_labels"].sum(),
        "padding": (rows["input_mask"] == 0).sum(),
        "predictions": (rows["masked_lm_positions"] > 0).sum(),
        "bytes": path.stat().st_size,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }


@pytest.mark.parametrize("masking", ["token", "whole_word", "span"])
def test_predictions_are_ascending_and_at_most_the_maximum(tmp_path, masking):
    store, tokenizer = store_of(made_up(60))
    rows = written(tmp_path, store, tokenizer, ShardRecipe(64, 5, 0.15, dupe_factor=2, masking=masking))
    lengths, positions = rows["input_mask"].sum(1), rows["masked_lm_positions"]
    number = (positions > 0).sum(1)
    wanted = np.minimum(5, np.maximum(1, np.rint(lengths * 0.15)))
    if masking == "token":
        assert (number == wanted).all()
    # A short row with none but longer words gets one that is too long.
    assert number.max() <= 5 and np.mean(number <= wanted) > 0.99
    assert number.sum() == pytest.approx(wanted.sum(), rel=0.01)
    for row, n in zip(positions, number, strict=True):
        assert (np.diff(row[:n]) > 0).all() and not row[n:].any()
    assert not rows["masked_lm_ids"][positions == 0].any()
    hidden = (unmasked(rows) != rows["input_ids"]).sum(1)
    assert (hidden <= number).all()
    inputs = np.take_along_axis(rows["input_ids"], positions, 1)[positions > 0]
    originals = rows["masked_lm_ids"][positions > 0]
    assert np.mean(inputs == MASK) == pytest.approx(0.8, abs=0.03)
    assert np.mean(inputs == originals) == pytest.approx(0.1, abs=0.03)
    assert (inputs >= MASK).all() and (originals > MASK).all()  # no special token


def test_padding_is_0_for_every_tokenizer(tmp_path):
    store, tokenizer = store_of(made_up(10))
    expected = written(tmp_path, store, tokenizer)
    tokenizer.pad_id = UNK
    for name, values in written(tmp_path, store, tokenizer, name="b").items():
        np.testing.assert_array_equal(values, expected[name])


def test_the_same_arguments_give_the_same_bytes_in_another_process(tmp_path):
    here = write_shard(*store_of(made_up(12)), RECIPE, range(3, 9), tmp_path / "a.hdf5")
    code = (
        "import sys; from pathlib import Path; from tests.collections.nlp.data.hdf5.test_writer import *\n"
        "print(write_shard(*store_of(made_up(12)), RECIPE, range(3, 9), Path(sys.argv[1]))['sha256'])"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "longer name.hdf5")]
    there = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    assert there.strip() == here["sha256"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.hdf5", "longer name.hdf5"]


def test_one_flipped_bit_is_noticed(tmp_path):
    path = tmp_path / "a.hdf5"
    write_shard(*store_of(made_up(20)), RECIPE, range(20), path)
    good, whole = read(path), path.read_bytes()
    with h5py.File(path) as file:
        chunks = [dataset.id.get_chunk_info(0) for dataset in file.values()]
    rng = np.random.default_rng(0)
    places = [int(chunk.byte_offset + rng.integers(chunk.size)) for chunk in chunks for _ in range(5)]
    for place in [*places, *rng.integers(len(whole), size=60).tolist()]:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            shard = open_shard(path)
            rows = read_checked(shard, 0, shard.num_rows, Limits(64, 10))
        except DataError:
            continue
        assert place not in places
        for name, values in rows.items():  # a byte that means nothing
            np.testing.assert_array_equal(values, good[name])


def test_a_full_disk_is_one_clear_error_and_leaves_nothing(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, before[1]))
    try:
        with pytest.raises(StorageError, match=r"a\.hdf5: disk full; .*fix: free some space"):
            write_shard(*store_of(made_up(50)), RECIPE, range(50), tmp_path / "a.hdf5")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


def test_real_text_is_read_back_as_made_with_this_tokenizer(shared_data, tmp_path):
    lines = (shared_data / "abc_news" / "rural.txt").read_text().splitlines()[:1500]
    (tmp_path / "text.txt").write_text("\n".join(lines))
    tokenizer = train_tokenizer("word-piece", [tmp_path / "text.txt"], tmp_path / "bert", 1000)
    sentences = tokenizer.encode_batch([line for line in lines if line])
    store = SimpleNamespace(
        tokens=np.concatenate(sentences),
        starts_word=tokenizer.starts_word[np.concatenate(sentences)],
        sentence_offsets=np.cumsum([0, *map(len, sentences)]),
        document_offsets=np.append(np.arange(0, len(sentences), 10), len(sentences)),
        manifest={"arrays": {"tokens": {"sha256": "real"}}},
    )
    path = tmp_path / "a.hdf5"
    counts = write_shard(store, tokenizer, ShardRecipe(128, 20), range(len(store.document_offsets) - 1), path)
    shard = open_shard(path)
    found = survey_of(shard, Limits(128, 20, tokenizer.vocab_size))
    check_shard_tokenizer(tokenizer, found, shard)
    assert found.mask_id == tokenizer.mask_id
    assert found.random_share == pytest.approx(counts["random_pairs"] / counts["rows"])
    text = " ".join(map(str, store.tokens.tolist()))
    for row in found.first_rows[:50]:
        a, b, _ = np.split(row, np.flatnonzero(row == tokenizer.sep_id) + 1)
        for side in (a[1:-1], b[:-1]):
            assert " ".join(map(str, side.tolist())) in text


# The pairs.


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


# Which documents, and which recipes.


@pytest.mark.parametrize("number", [1, 2, 7, 30])
def test_shards_are_runs_of_documents_about_as_large(number):
    store, _ = store_of(made_up(300))
    ranges = document_ranges(store, number)
    assert [i for documents in ranges for i in documents] == list(range(300)) and len(ranges) == number
    firsts = store.sentence_offsets[store.document_offsets]
    sizes = [firsts[documents.stop] - firsts[documents.start] for documents in ranges]
    longest = np.diff(firsts).max()
    assert max(sizes) - min(sizes) <= 2 * longest


def test_every_shard_has_a_document_even_beside_a_huge_one():
    for documents in ([[1]] * 4 + [[1000]], [[1000]] + [[1]] * 4, [[1], [1], [1000], [1], [1]]):
        assert [len(part) for part in document_ranges(store_of(documents)[0], 5)] == [1] * 5
    assert len(document_ranges(store_of([[5], [5], [5]])[0], 10)) == 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"seq_length": 7},
        {"max_predictions": 0},
        {"max_predictions": 64},
        {"masked_lm_prob": 0.0},
        {"random_seed": -1},
        {"dupe_factor": 0},
        {"short_seq_prob": 1.1},
        {"masking": "words"},
    ],
)
def test_an_invalid_recipe_is_refused(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        ShardRecipe(**{"seq_length": 64, "max_predictions": 10, **wrong})

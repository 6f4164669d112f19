"""The files of shards that are written."""

import hashlib
import resource
import subprocess
import sys
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

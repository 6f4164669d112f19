"""Rows of shards come exactly as they were written, each once an epoch, in an order one can return to."""

import shutil

import numpy as np
import pytest

from nemo.collections.nlp.data.datasets import (
    lm_bert_preprocessed_dataset,
)
from nemo.collections.nlp.data.hdf5 import survey
from nemo.utils.errors import DataError, UsageError
from tests.datasets import shards_dataset
from tests.shards import batch_of, make_rows, write_shard, write_variable_shard


def joined(batches) -> dict[str, np.ndarray]:
    parts = list(batches)
    return {port: np.concatenate([part[port] for part in parts]) for port in parts[0]}


def same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> bool:
    return found.keys() == expected.keys() and all(
        found[port].dtype == expected[port].dtype and np.array_equal(found[port], expected[port])
        for port in found
    )


@pytest.fixture
def rows():
    return make_rows(50)


@pytest.fixture
def folder(tmp_path, rows):
    """The rows in shards of 23, 2 and 25, for training; and a held-out one."""
    for number, part in enumerate((rows[:23], rows[23:25], rows[25:])):
        write_shard(tmp_path / "shards" / f"wiki_training_{number}.hdf5", part)
    write_shard(tmp_path / "shards" / "wiki_test_0.hdf5", make_rows(7, seed=1))
    return tmp_path / "shards"


@pytest.fixture
def small_windows(monkeypatch):
    """Blocks of 5 rows, and windows of 12."""
    row = 4 * (3 * 16 + 2 * 3 + 1)
    monkeypatch.setattr(survey, "BLOCK_BYTES", 5 * row)
    monkeypatch.setattr(lm_bert_preprocessed_dataset, "WINDOW_BYTES", 12 * row)


def unshuffled(folder, **options):
    """Only held-out shards are read in stored order; so these are called that."""
    for number in range(3):
        (folder / f"wiki_training_{number}.hdf5").rename(folder / f"wiki_{number}.hdf5")
    (folder / "wiki_test_0.hdf5").unlink()
    return shards_dataset(folder, 3, "eval", **options)


def test_evaluation_gives_every_row_as_it_is_stored(folder, rows):
    dataset = unshuffled(folder)
    assert len(dataset) == 50
    batches = list(dataset.batches(batch_size=8))
    assert [len(batch["labels"]) for batch in batches] == [8, 8, 8, 8, 8, 8, 2]  # across shards
    assert same(joined(batches), batch_of(rows))


def test_training_gives_every_row_once_in_the_order_it_says(folder, rows, small_windows):
    dataset = shards_dataset(folder, 3, seed=5)
    for epoch in (0, 1):
        order = dataset.order(epoch)
        assert sorted(order) == list(range(50))
        assert same(joined(dataset.batches(8, epoch)), batch_of([rows[i] for i in order]))


def test_the_order_depends_on_seed_and_epoch_alone(folder, small_windows):
    def order(seed, epoch):
        return shards_dataset(folder, 3, seed=seed).order(epoch).tolist()

    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1)
    assert order(0, 0) != order(1, 0)


def test_few_rows_are_shuffled_as_one(folder):
    order = shards_dataset(folder, 3).order(0)
    moved = np.abs(np.diff(order)) != 1
    assert moved.mean() > 0.8


@pytest.mark.parametrize("first", [0, 1, 3, 6, 7])
def test_a_resumed_epoch_gives_the_remaining_rows(folder, small_windows, first):
    dataset = shards_dataset(folder, 3)
    whole = list(dataset.batches(8, epoch=2))
    rest = list(dataset.batches(8, epoch=2, first=first))
    assert len(rest) == len(whole) - first
    assert all(same(a, b) for a, b in zip(rest, whole[first:], strict=True))


def test_a_resume_does_not_read_earlier_rows(folder, small_windows):
    dataset = unshuffled(folder)
    (folder / "wiki_0.hdf5").unlink()  # rows 0 to 22
    assert len(next(dataset.batches(8, first=3))["labels"]) == 8  # rows 24 to 31
    with pytest.raises(DataError, match=r"wiki_0\.hdf5: no such file"):
        next(dataset.batches(8, first=2))


@pytest.mark.parametrize("first", [0, 2])
def test_the_batches_of_several_processes_are_those_of_one(folder, small_windows, first):
    dataset = shards_dataset(folder, 3)
    alone = list(dataset.batches(8, epoch=1, first=first))
    shared = [list(dataset.batches(8, 1, first + rank, stride=3)) for rank in range(3)]
    for number, expected in enumerate(alone):
        assert same(shared[number % 3].pop(0), expected)
    assert shared == [[], [], []]


def by_tokens(dataset, *args, **kwargs) -> list[dict[str, np.ndarray]]:
    return list(dataset.batches(1, *args, tokens_per_batch=40, **kwargs))


def test_batches_by_tokens_have_every_row_once_and_as_many_as_fit(folder, rows, small_windows):
    dataset = shards_dataset(folder, 3, seed=5)
    assert dataset.lengths.tolist() == [len(row.tokens) for row in rows]
    batches = by_tokens(dataset, 1)
    assert same(joined(batches), batch_of([rows[i] for i in dataset.order(1)]))
    tokens = [batch["input_mask"].sum() for batch in batches]
    of_first = [batch["input_mask"][0].sum() for batch in batches]
    assert max(tokens) <= 40 and len(batches) == len(dataset.bounds(1, 1, tokens_per_batch=40)) - 1
    assert all(had + more > 40 for had, more in zip(tokens, of_first[1:], strict=False))


@pytest.mark.parametrize("first", [0, 1, 4, 100])
def test_batches_by_tokens_resume_and_are_shared_across_processes(folder, small_windows, first):
    dataset = shards_dataset(folder, 3)
    rest = by_tokens(dataset, 2)[first:]
    assert len(rest) > 0 or first == 100
    again = by_tokens(shards_dataset(folder, 3), 2, first)
    shared = [by_tokens(dataset, 2, first + rank, stride=3) for rank in range(3)]
    for number, expected in enumerate(rest):
        assert same(again[number], expected)
        assert same(shared[number % 3].pop(0), expected)
    assert len(again) == len(rest) and shared == [[], [], []]


def test_rows_without_padding_give_the_same_batches(tmp_path, rows):
    for part, some in enumerate((rows[:20], rows[20:])):
        write_variable_shard(tmp_path / f"part-0000{part}.hdf5", some)
    dataset = shards_dataset(tmp_path, 3, "eval")
    longest = max(len(row.tokens) for row in rows[:20])
    assert dataset.max_seq_length == longest
    dataset = shards_dataset(tmp_path, 3, "eval", max_seq_length=16)
    assert same(joined(dataset.batches(8)), batch_of(rows))
    assert dataset.lengths.tolist() == [len(row.tokens) for row in rows]


def test_shards_without_labels_serve_the_masked_language_model_alone(tmp_path, rows):
    write_shard(tmp_path / "train_shard_0.hdf5", rows, labels=False)
    with pytest.raises(
        DataError, match=r"no labels for next-sentence .*; fix: train without it.*--only_mlm_loss"
    ):
        shards_dataset(tmp_path, 3)
    found = joined(shards_dataset(tmp_path, 3, "eval", only_mlm_loss=True).batches(8))
    expected = batch_of(rows)
    assert same(found, {**expected, "labels": np.full(50, -1)})


def test_training_never_sees_held_out_shards(folder):
    training = shards_dataset(folder, 3)
    held_out = shards_dataset(folder, 3, "eval")
    assert (len(training), len(held_out)) == (50, 7)
    assert same(joined(held_out.batches(8)), batch_of(make_rows(7, seed=1)))


def test_all_headers_are_checked_before_the_first_step(folder):
    write_shard(folder / "wiki_training_9.hdf5", make_rows(3, length=20), length=20)
    with pytest.raises(DataError, match=r"training_9\.hdf5: row length differs .*found 20, expected 16"):
        shards_dataset(folder, 3)
    write_shard(folder / "wiki_training_9.hdf5", make_rows(3, predictions=2), predictions=2)
    with pytest.raises(DataError, match=r"training_9\.hdf5 masked_lm_positions: wrong number of targets"):
        shards_dataset(folder, 3)
    (folder / "wiki_training_9.hdf5").write_bytes(b"gone")
    with pytest.raises(DataError, match=r"training_9\.hdf5: this is a text file"):
        shards_dataset(folder, 3)


def test_another_number_of_predictions_names_the_option(folder):
    with pytest.raises(DataError, match="found 3, expected 20; fix: give --max_predictions_per_seq 3"):
        shards_dataset(folder, 20)


def test_arrays_are_trusted_more_than_the_name_of_their_folder(folder, capsys):
    for name, warnings in (("seq_len_16_max_pred_3", 0), ("seq_len_128_max_pred_20", 2), ("wiki", 0)):
        (folder.parent / f"hdf5_{name}_dupe_factor_5").mkdir()
        place = shutil.copytree(folder, folder.parent / f"hdf5_{name}_dupe_factor_5" / "wikicorpus_en")
        assert shards_dataset(place.parent, 3).max_seq_length == 16
        assert capsys.readouterr().err.count("using the arrays") == warnings


def test_the_first_shard_is_read_in_full_before_the_first_step(folder, rows):
    rows[22].tokens[1] = 60
    write_shard(folder / "wiki_training_0.hdf5", rows[:23])
    with pytest.raises(
        DataError, match=r"training_0\.hdf5 row 22 (input|masked_lm)_ids: beyond the vocabulary"
    ):
        shards_dataset(folder, 3, vocab_size=60)


BEYOND = r"training_2\.hdf5 row 24 (input|masked_lm)_ids: beyond the vocabulary"


def test_rows_of_later_shards_are_checked_before_the_first_batch(folder, rows):
    rows[49].tokens[1] = 60
    write_shard(folder / "wiki_training_2.hdf5", rows[25:])
    with pytest.raises(DataError, match=BEYOND):
        shards_dataset(folder, 3, vocab_size=60)


def test_rows_not_checked_at_opening_are_checked_when_they_are_read(folder, rows, monkeypatch):
    monkeypatch.setattr(lm_bert_preprocessed_dataset, "ROWS_CHECKED_AT_ONCE", 24)
    rows[49].tokens[1] = 60
    write_shard(folder / "wiki_training_2.hdf5", rows[25:])
    dataset = shards_dataset(folder, 3, vocab_size=60)
    with pytest.raises(DataError, match=BEYOND):
        list(dataset.batches(8))


def test_lengths_are_checked_whenever_they_are_read(folder, rows, monkeypatch):
    monkeypatch.setattr(lm_bert_preprocessed_dataset, "ROWS_CHECKED_AT_ONCE", 24)
    path = folder / "wiki_training_2.hdf5"
    write_shard(path, rows[25:], change=lambda arrays: arrays["input_mask"].__setitem__((24, 0), -2))
    dataset = shards_dataset(folder, 3, vocab_size=60)
    with pytest.raises(DataError, match=r"wiki_training_2\.hdf5 row 24 input_mask: out of range"):
        dataset.bounds(8, tokens_per_batch=40)


def test_shards_of_two_tokenizers_do_not_go_together(folder):
    write_shard(folder / "wiki_training_3.hdf5", make_rows(9, specials=(20, 3, 4)))
    with pytest.raises(DataError, match=r"training_3\.hdf5 row 0 input_ids: .*expected \[CLS\] first: 2"):
        shards_dataset(folder, 3)


def test_the_fingerprint_does_not_depend_on_the_path(folder, tmp_path, rows):
    first = shards_dataset(folder, 3).fingerprint
    shutil.copytree(folder, tmp_path / "copy")
    assert shards_dataset(tmp_path / "copy", 3).fingerprint == first
    assert shards_dataset(folder, 3, seed=1).fingerprint != first
    write_shard(tmp_path / "copy" / "wiki_training_2.hdf5", rows[24:])
    assert shards_dataset(tmp_path / "copy", 3).fingerprint != first


def test_invalid_arguments_are_refused(folder):
    with pytest.raises(UsageError, match=r"unknown mode; found 'trian', .*did you mean 'train'"):
        shards_dataset(folder, 3, "trian")
    with pytest.raises(UsageError, match="max_pred_length: out of range; found 0"):
        shards_dataset(folder, 0)

"""Batches of the text dataset, from the file to the six arrays."""

import os

import numpy as np
import pytest
from torch.utils.data import DataLoader

from nemo.collections.nlp.data.datasets import BertPretrainingDataset
from nemo.collections.nlp.data.samples.sampling import Sampling
from nemo.collections.nlp.data.store.token_store import open_or_build
from nemo.utils.errors import DataError, UsageError

PAD, UNK, CLS, SEP, MASK = range(5)


@pytest.fixture
def text(tmp_path):
    """60 documents of 2 to 9 sentences; a word of document d is a run of one letter."""
    rng = np.random.default_rng(0)
    documents = []
    for d in range(60):
        letter = "abcdefghijklmnopqrstuvwxyz"[d % 26]
        sentences = [
            " ".join(letter * n for n in rng.integers(1, 4, rng.integers(3, 10)))
            for _ in range(rng.integers(2, 10))
        ]
        documents.append("\n".join(sentences))
    file = tmp_path / "text.txt"
    file.write_text("\n\n".join(documents))
    return file


@pytest.fixture
def dataset(text, letters):
    return dataset_of(letters, text, max_seq_length=48)


def dataset_of(tokenizer, text, **sampling):
    store = open_or_build(text, tokenizer)
    return BertPretrainingDataset(tokenizer, store, Sampling(**sampling), source=text)


def all_of(dataset, epoch=0):
    return dataset.batch(epoch, np.arange(len(dataset)))


def test_a_worked_example(tmp_path, letters):
    (tmp_path / "text.txt").write_text("ab c\nd\n")  # one document of two sentences: always a true pair
    dataset = dataset_of(letters, tmp_path, max_seq_length=10, short_seq_prob=0.0)
    assert len(dataset) == 1
    batch = dataset.batch(0, [0])
    assert batch["output_ids"].tolist() == [[CLS, 5, 32, 7, SEP, 8, SEP, PAD, PAD, PAD]]
    assert batch["input_type_ids"].tolist() == [[0, 0, 0, 0, 0, 1, 1, 0, 0, 0]]
    assert batch["input_mask"].tolist() == [[1, 1, 1, 1, 1, 1, 1, 0, 0, 0]]
    assert batch["labels"].tolist() == [0]
    assert batch["output_mask"].sum() == 1  # round(7 * 0.15), so the word ab is too long
    assert batch["output_mask"][0, [3, 5]].sum() == 1


def test_special_tokens_count_for_the_number_of_targets(tmp_path, letters):
    (tmp_path / "text.txt").write_text("a b c\nd e f g\n")
    dataset = dataset_of(letters, tmp_path, max_seq_length=10, short_seq_prob=0.0)
    assert dataset.batch(0, [0])["output_mask"].sum() == 2  # of 10: 1.5; of 9 it would be 1


def test_shapes_and_types(dataset):
    batch = dataset.batch(0, [3, 1, 2])
    assert {name: (array.shape, str(array.dtype)) for name, array in batch.items()} == {
        "input_ids": ((3, 48), "int64"),
        "input_type_ids": ((3, 48), "int64"),
        "input_mask": ((3, 48), "int64"),
        "output_ids": ((3, 48), "int64"),
        "output_mask": ((3, 48), "float32"),
        "labels": ((3,), "int64"),
    }


def test_every_row_is_cls_a_sep_b_sep_and_padding(dataset):
    for ids, types, mask in zip(
        *(all_of(dataset)[name] for name in ("output_ids", "input_type_ids", "input_mask")), strict=True
    ):
        length = mask.sum()
        first, second = np.flatnonzero(ids == SEP)
        assert mask.tolist() == [1] * length + [0] * (48 - length)
        assert ids[0] == CLS and second == length - 1 and 1 < first < second - 1
        assert (ids[length:] == PAD).all()
        assert types.tolist() == [0] * (first + 1) + [1] * (second - first) + [0] * (48 - length)


def test_label_1_means_another_document(dataset):
    # Every document has a letter of its own, except that there are only 26.
    batch = all_of(dataset)
    for ids, types, label in zip(batch["output_ids"], batch["input_type_ids"], batch["labels"], strict=True):
        text = ids > MASK
        a, b = (set((ids[text & (types == side)] - 5) % 26) for side in (0, 1))
        assert len(a) == len(b) == 1
        if label == 0:
            assert a == b
    assert 0.4 < batch["labels"].mean() < 0.8


def test_inputs_differ_from_outputs_only_at_targets(dataset):
    batch = all_of(dataset)
    chosen = batch["output_mask"] == 1
    assert (batch["input_ids"] == batch["output_ids"])[~chosen].all()
    assert (batch["output_ids"][chosen] > MASK).all()
    assert set(np.unique(batch["output_mask"])) == {0.0, 1.0}
    assert np.mean(batch["input_ids"][chosen] == MASK) == pytest.approx(0.8, abs=0.05)
    assert (batch["input_ids"][chosen] >= MASK).all()  # no other special token is ever drawn


def test_no_word_is_masked_in_part(dataset):
    batch = all_of(dataset)
    ids, chosen = batch["output_ids"], batch["output_mask"] == 1
    continues = (ids >= 31)[:, 1:] & (ids > MASK)[:, :-1]
    assert continues.any()
    assert (chosen[:, 1:] == chosen[:, :-1])[continues].all()


def test_an_epoch_has_always_as_many_samples_and_its_own_pairs(dataset):
    sizes = {len(dataset.pairs(epoch)) for epoch in range(6)}
    assert sizes == {len(dataset)}
    starts = {dataset.pairs(epoch).b_start.tobytes() for epoch in range(6)}
    assert len(starts) == 6


def test_a_sample_is_the_same_in_every_batch_and_after_any_other_epoch(dataset, text, letters):
    whole = all_of(dataset, epoch=2)
    all_of(dataset, epoch=1)
    again = dataset_of(letters, text, max_seq_length=48)
    for name, values in again.batch(2, [7, 3]).items():
        np.testing.assert_array_equal(values, whole[name][[7, 3]])


def test_the_seed_decides_pairs_masks_and_order(dataset, text, letters):
    other = dataset_of(letters, text, max_seq_length=48, seed=1)
    assert other.pairs(0).b_start.tobytes() != dataset.pairs(0).b_start.tobytes()
    assert other.order(0)[:20].tolist() != dataset.order(0)[:20].tolist()


def test_lengths_are_those_of_the_samples(dataset):
    for epoch in (0, 1, 2):
        assert np.array_equal(dataset.lengths(epoch), all_of(dataset, epoch)["input_mask"].sum(axis=1))


def test_an_order_is_a_permutation_that_changes_with_the_epoch(dataset):
    first, second = dataset.order(0), dataset.order(1)
    assert sorted(first) == list(range(len(dataset)))
    assert first.tolist() == dataset.order(0).tolist() != second.tolist()


def test_the_fingerprint_depends_on_what_decides_the_samples(dataset, text, letters):
    same, other = (dataset_of(letters, text, max_seq_length=48, short_seq_prob=p) for p in (0.1, 0.2))
    assert same.fingerprint == dataset.fingerprint != other.fingerprint


def test_items_are_rows_of_the_epoch_that_was_set(dataset):
    for epoch in (0, 3):
        dataset.set_epoch(epoch)
        batch = dataset.batch(epoch, [5, 6])
        for row, index in enumerate((5, 6)):
            for name, values in dataset[index].items():
                np.testing.assert_array_equal(values, batch[name][row])


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_torch_loader_can_read_it(dataset, num_workers):
    batch = next(iter(DataLoader(dataset, batch_size=4, num_workers=num_workers)))
    np.testing.assert_array_equal(batch["input_ids"].numpy(), dataset.batch(0, range(4))["input_ids"])


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_seq_length": 7},
        {"mask_probability": 0.0},
        {"mask_probability": 1.5},
        {"short_seq_prob": -0.1},
        {"seed": -1},
    ],
)
def test_an_invalid_value_is_refused(text, letters, wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        dataset_of(letters, text, **{"max_seq_length": 48, **wrong})


def test_a_single_sentence_is_an_error(tmp_path, letters):
    (tmp_path / "text.txt").write_text("ab c")
    with pytest.raises(DataError, match="too little text for a pair"):
        dataset_of(letters, tmp_path, max_seq_length=48)


def test_documents_of_one_sentence_give_a_warning(tmp_path, letters, capsys):
    (tmp_path / "text.txt").write_text("\n\n".join(["ab c", "d e f"] * 5))
    dataset_of(letters, tmp_path, max_seq_length=20)
    assert "few sentences are followed" not in capsys.readouterr().err  # running text: they follow each other
    (tmp_path / "text.txt").write_text("\n".join(["ab " * 500, "d e f " * 300] * 5))
    dataset_of(letters, tmp_path, max_seq_length=2000)
    assert "next-sentence prediction learns nothing" in capsys.readouterr().err


def test_a_corpus_cut_short_while_in_use_is_an_error(dataset):
    os.truncate(dataset.store.folder / "tokens.bin", 10)
    with pytest.raises(DataError, match="damaged token store"):
        dataset.pairs(1)


def test_real_text_is_masked_at_the_given_rate(shared_data, tmp_path, letters):
    text = (shared_data / "abc_news" / "rural.txt").read_text()[:300_000]
    (tmp_path / "text.txt").write_text(text)
    batch = all_of(dataset_of(letters, tmp_path, max_seq_length=128))
    chosen = batch["output_mask"] == 1
    lengths = batch["input_mask"].sum(axis=1)
    wanted = np.maximum(1, np.rint(0.15 * lengths)).sum()
    assert chosen.sum() == pytest.approx(wanted, rel=0.01)
    assert np.mean(batch["input_ids"][chosen] == MASK) == pytest.approx(0.8, abs=0.01)


def test_a_warning_of_few_documents_names_the_users_text(tmp_path, letters, capsys):
    (tmp_path / "text.txt").write_text("\n\n".join(["ab c\nd e", "d e f\ng h"]))
    dataset_of(letters, tmp_path / "text.txt", max_seq_length=20)
    warning = next(line for line in capsys.readouterr().err.splitlines() if "2 documents" in line)
    assert f"{tmp_path / 'text.txt'}: " in warning

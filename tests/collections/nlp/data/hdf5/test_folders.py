"""Which files are shards, and which are held out, in every layout that scripts have left behind."""

from pathlib import Path

import pytest

from nemo.collections.nlp.data.hdf5 import has_held_out_shards, shards_of
from nemo.utils.errors import DataError, MissingFileError

NVIDIA = "lower_case_1_seq_len_128_max_pred_20_masked_lm_prob_0.15_random_seed_12345_dupe_factor_5"


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def names(root: Path, mode: str) -> list[str]:
    return [path.relative_to(root).as_posix() for path in shards_of(root, mode)]


@pytest.mark.parametrize(
    ("training", "held_out"),
    [
        ("wikicorpus_en_training_0.hdf5", "wikicorpus_en_test_0.hdf5"),
        (f"{NVIDIA}/books_wiki_en_corpus/books_wiki_en_corpus_training_3.hdf5",
         f"{NVIDIA}/books_wiki_en_corpus/books_wiki_en_corpus_test_3.hdf5"),
        (f"hdf5_{NVIDIA}/wikicorpus_en/wikicorpus_en_training_0.hdf5",
         f"hdf5_{NVIDIA}/wikicorpus_en/wikicorpus_en_test_0.hdf5"),
        (f"hdf5_{NVIDIA}_shard_1472_test_split_10/books/training/books_training_7.hdf5",
         f"hdf5_{NVIDIA}_shard_1472_test_split_10/books/test/books_test_7.hdf5"),
        (f"hdf5_{NVIDIA}_shard_1472_test_split_10/books/training/a.hdf5",
         f"hdf5_{NVIDIA}_shard_1472_test_split_10/books/test/a.hdf5"),
        ("train_shard_0.hdf5", "test_shard_0.hdf5"),
        ("training/part_00000.hdf5", "evaluation/part_00000.hdf5"),
        ("training_4320/hdf5_4320_shards_varlength/part_00001.hdf5", "eval_varlength/part_00001.hdf5"),
        ("part-00001.h5", "Valid/part-00001.H5"),
    ],
)  # fmt: skip
def test_training_and_held_out_shards_are_distinguished(tmp_path, training, held_out):
    touch(tmp_path, training, held_out)
    assert names(tmp_path, "train") == [training]
    assert names(tmp_path, "eval") == [held_out]
    assert has_held_out_shards(tmp_path)


def test_shards_with_other_names_serve_for_both(tmp_path):
    shards = ["a.hdf5", "b.hdf5", "hdf5_seq_len_128_shard_1472_test_split_10/part_0.hdf5", "more/c.hdf5"]
    touch(tmp_path, *shards)
    assert names(tmp_path, "train") == names(tmp_path, "eval") == shards
    assert not has_held_out_shards(tmp_path)


def test_a_folder_of_held_out_shards_is_not_trained_on_but_a_file_is(tmp_path):
    touch(tmp_path, "books_test_0.hdf5")
    with pytest.raises(DataError, match=r"only held-out shards; found books_test_0\.hdf5"):
        shards_of(tmp_path, "train")
    assert shards_of(tmp_path / "books_test_0.hdf5", "train") == [tmp_path / "books_test_0.hdf5"]


def test_other_files_are_left_out_and_named(tmp_path, capsys):
    touch(tmp_path, "a.hdf5", "README.md", ".DS_Store", ".hidden/b.hdf5", "logs/run.log")
    assert names(tmp_path, "train") == ["a.hdf5"]
    assert "not read as shards: README.md, logs/run.log" in capsys.readouterr().out


def test_a_folder_without_shards_is_an_error_that_lists_its_files(tmp_path):
    with pytest.raises(DataError, match=r"no HDF5 shards in this folder; expected files named \*\.hdf5"):
        shards_of(tmp_path, "train")
    touch(tmp_path, "train.txt")
    with pytest.raises(
        DataError, match=r"there is text in this folder, .*; fix: to train on text add data_text"
    ):
        shards_of(tmp_path, "train")
    with pytest.raises(MissingFileError, match="no such file or folder"):
        shards_of(tmp_path / "nowhere", "train")


def test_links_and_pipes_are_refused(tmp_path):
    import os

    touch(tmp_path / "there", "a.hdf5")
    for name, target in (("link.hdf5", tmp_path / "there" / "a.hdf5"), ("folder", tmp_path / "there")):
        folder = touch(tmp_path / f"with_{name}", "b.hdf5")
        (folder / name).symlink_to(target)
        with pytest.raises(DataError, match=f"{name}: a link, not a file"):
            shards_of(folder, "train")
    os.mkfifo(tmp_path / "there" / "pipe.hdf5")
    with pytest.raises(DataError, match=r"pipe\.hdf5: not a regular file"):
        shards_of(tmp_path / "there", "train")

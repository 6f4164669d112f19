"""Which files of a folder are for training, validation and test; as in `datasets`, if it is installed."""

import gzip
import json
from itertools import chain

import fsspec
import pytest

from nemo.collections.nlp.data.inputs import read_documents, sources_of
from nemo.collections.nlp.data.inputs.splits import splits_of
from nemo.collections.nlp.preparation.wiki_zh import corpus_files

# Names of a folder's files -> what they are for. `datasets` 5.2.0 gives the same; see the last test.
LAYOUTS = {
    "hub": (
        "train-00000-of-00002.parquet train-00001-of-00002.parquet validation-00000-of-00001.parquet "
        "test-00000-of-00001.parquet",
        "train-00000-of-00002.parquet train-00001-of-00002.parquet",
        "validation-00000-of-00001.parquet",
        "test-00000-of-00001.parquet",
    ),
    "hub, in data": (
        "data/train-00000-of-00001.parquet data/test-00000-of-00001.parquet",
        "data/train-00000-of-00001.parquet",
        "",
        "data/test-00000-of-00001.parquet",
    ),
    "wikitext": (
        "wiki.train.raw wiki.valid.raw wiki.test.raw",
        "wiki.train.raw",
        "wiki.valid.raw",
        "wiki.test.raw",
    ),
    "numbered": (
        "train_0.jsonl train_1.jsonl valid_0.jsonl",
        "train_0.jsonl train_1.jsonl",
        "valid_0.jsonl",
        "",
    ),
    "folders": (
        "train/a.txt train/more/b.txt validation/a.txt test/a.txt",
        "train/a.txt train/more/b.txt",
        "validation/a.txt",
        "test/a.txt",
    ),
    "nested": (
        "data/en/train/part-0001.jsonl.gz data/en/dev/part-0001.jsonl.gz",
        "data/en/train/part-0001.jsonl.gz",
        "data/en/dev/part-0001.jsonl.gz",
        "",
    ),
    "folders with numbers": ("train-1/a.txt dev_2/a.txt", "train-1/a.txt", "dev_2/a.txt", ""),
    "other words": (
        "training.txt my-dev.txt corpus_val.txt x.evaluation.csv eval.txt 2testing.txt",
        "training.txt",
        "my-dev.txt corpus_val.txt",
        "x.evaluation.csv eval.txt 2testing.txt",
    ),
    "train and train2": ("train.txt train2.txt", "train.txt train2.txt", "", ""),
    "two formats": ("train.csv train.txt dev.jsonl", "train.csv train.txt", "dev.jsonl", ""),
    "others": ("train.txt wiki.txt books.txt", "train.txt", "", ""),
}
BOOKS = "latest.txt contest.txt trained_seals.txt devotion.txt valley.txt testament/a.txt restrain.txt"


@pytest.mark.parametrize("names", LAYOUTS)
def test_file_names_decide_the_split(names):
    given, *expected = (text.split() for text in LAYOUTS[names])
    splits = splits_of(given)
    assert [splits.train, splits.validation, splits.test] == expected
    assert splits.others == [name for name in given if name not in chain(*expected)]


def test_parts_of_words_in_names_do_not_decide_the_split():
    assert splits_of(BOOKS.split()).others == BOOKS.split()


def test_upper_case_names_decide_the_same():
    splits = splits_of(["Train.csv", "TEST.txt", "Validation/a.txt", "WIKI.TRAIN.RAW"])
    assert (splits.train, splits.test) == (["Train.csv", "WIKI.TRAIN.RAW"], ["TEST.txt"])
    assert splits.validation == ["Validation/a.txt"]


def test_a_name_with_both_words_is_held_out():
    splits = splits_of(["train-test.txt", "train/eval.txt", "test/train/a.txt"])
    assert (splits.train, splits.test) == (["train/eval.txt"], ["train-test.txt", "test/train/a.txt"])
    assert splits.contradictory == ["train-test.txt", "train/eval.txt", "test/train/a.txt"]


def write(folder, names: str) -> None:
    for name in names.split():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"text": name}) + "\n" if ".jsonl" in name else f"{name}\n"
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())


def test_only_training_text_is_read_from_a_folder_and_the_rest_is_named(tmp_path, capsys):
    write(tmp_path, "train/a.txt train/b.txt validation/a.txt test/a.txt notes.txt")
    assert list(read_documents(tmp_path)) == [["train/a.txt"], ["train/b.txt"]]
    told = capsys.readouterr()
    assert "not trained on, by name: validation/a.txt (validation), test/a.txt (test)" in told.out
    assert "skipped, because by name train/a.txt, train/b.txt is the training text: notes.txt" in told.err
    held_out = sources_of(tmp_path, held_out=True)
    assert [source.path for source in held_out] == [str(tmp_path / "validation/a.txt")]


def test_unnamed_files_beside_held_out_text_are_trained_on(tmp_path):
    write(tmp_path, "wiki.txt books.txt dev.txt")
    assert list(read_documents(tmp_path)) == [["books.txt"], ["wiki.txt"]]


def test_a_folder_of_held_out_text_alone_is_read_with_a_warning(tmp_path, capsys):
    write(tmp_path, "valid.txt test.txt")
    assert len(list(read_documents(tmp_path))) == 2
    assert (
        "no file is named as training text, so all are read: valid.txt, test.txt" in capsys.readouterr().err
    )


def test_a_folder_of_books_is_read_whole(tmp_path):
    write(tmp_path, BOOKS)
    assert len(sources_of(tmp_path)) == len(BOOKS.split())


def test_wikitext_raw_files_are_text_and_pictures_are_not(tmp_path):
    write(tmp_path, "wiki.train.raw wiki.test.tokens photo.raw")
    assert [source.name for source in sources_of(tmp_path)] == ["wiki.train.raw"]


def test_files_given_by_name_are_always_read(tmp_path):
    write(tmp_path, "train.txt test.txt")
    assert len(sources_of([tmp_path / "train.txt", tmp_path / "test.txt"])) == 2
    assert len(sources_of(tmp_path / "test.txt")) == 1


@pytest.mark.parametrize("address", ["memory://test_splits", "memory://test_splits/*.txt"])
def test_addresses_are_split_the_same_way(address):
    memory = fsspec.filesystem("memory")
    for name in ("train-0.txt", "train-1.txt", "test-0.txt"):
        memory.pipe(f"/test_splits/{name}", b"text\n")
    try:
        assert [source.name for source in sources_of(address)] == ["train-0.txt", "train-1.txt"]
        assert [source.name for source in sources_of("memory://test_splits/train-*.txt")] == [
            "train-0.txt",
            "train-1.txt",
        ]
    finally:
        memory.rm("/test_splits", recursive=True)


def test_a_chinese_corpus_in_parts_gives_its_training_text(tmp_path, capsys):
    write(tmp_path, "news2016zh_train.json news2016zh_valid.json")
    assert [path.name for path in corpus_files(tmp_path)] == ["news2016zh_train.json"]
    assert "news2016zh_valid.json" in capsys.readouterr().out


@pytest.mark.parametrize("names", LAYOUTS)
def test_datasets_gives_the_same(tmp_path, names):
    data_files = pytest.importorskip("datasets.data_files")
    given, *expected = (text.split() for text in LAYOUTS[names])
    write(tmp_path, " ".join(given))
    patterns = data_files.get_data_patterns(str(tmp_path))
    resolved = data_files.DataFilesDict.from_patterns(patterns, str(tmp_path))
    for split, names_of_split in zip(("train", "validation", "test"), expected, strict=True):
        found = [name.removeprefix(f"{tmp_path}/") for name in resolved.get(split, [])]
        assert sorted(found) == sorted(names_of_split)

"""Which text a run trains on and is held to, given files, folders, addresses or what was prepared."""

import gzip
import json
import shutil
from pathlib import Path

import fsspec
import numpy as np
import pytest

from nemo.collections.nlp.data.inputs import AUTO, sections_of, sources, sources_of
from nemo.collections.nlp.data.store.store_builder import assemble, write_part
from nemo.collections.nlp.data.text.sentences import split_lines
from nemo.collections.nlp.data.tokenizers.vocabulary import train_tokenizer
from nemo.collections.nlp.options import PretrainingOptions
from nemo.collections.nlp.pretraining.data_files import data_files
from nemo.collections.nlp.pretraining.text_data import open_data
from nemo.utils.errors import DataError, UsageError


def options(**given: object) -> PretrainingOptions:
    small = {"mode": "data_text", "vocab_size": 80, "max_seq_length": 32, "batch_size": 8}
    return PretrainingOptions(**{**small, **given})


@pytest.fixture
def prepared(english, tmp_path):
    """What `nemo-bert prepare` leaves of a text: a tokenizer and two stores. The text is gone."""
    out = tmp_path / "prepared"
    files = sources_of(english / "train.txt")
    tokenizer = train_tokenizer("word-piece", files, out / "bert", 80, do_lower_case=True)
    write_part(tmp_path / "part", sections_of(files), tokenizer, split_lines, AUTO)
    is_test = np.arange(120) % 10 == 0
    targets = {"train": (out / "train", ~is_test), "test": (out / "test", is_test)}
    assemble([tmp_path / "part"], targets, {"options": {}, "sources": []})
    shutil.rmtree(english)
    return out


def places(chosen):
    """Where training and held-out text were found."""
    return tuple(corpus and corpus.place for corpus in data_files(chosen))


def test_train_and_valid_text_may_have_any_ending_of_text(tmp_path):
    record = json.dumps({"text": "One.\nTwo."}).encode() + b"\n"
    for name in ("train.jsonl.gz", "validation.jsonl.gz", "test.jsonl.gz"):
        (tmp_path / name).write_bytes(gzip.compress(record))
    for name in ("notes.txt", "train.md", "validation.lock"):
        (tmp_path / name).write_text("no part of it")
    train, held_out = tmp_path / "train.jsonl.gz", tmp_path / "validation.jsonl.gz"
    assert places(options(data_dir=str(tmp_path))) == (train, held_out)
    assert places(options(train_data=str(train))) == (train, None)


def write(folder, names: str, text: str = "One.\nTwo.\n\nThree.\nFour.\n") -> None:
    for name in names.split():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def test_names_of_data_sets_decide_the_split(tmp_path, capsys):
    write(tmp_path, "train_0.txt train_1.txt valid_0.txt valid_1.txt test_0.txt")
    train, held_out = data_files(options(train_data=str(tmp_path)))
    assert [source.name for source in train.sources] == ["train_0.txt", "train_1.txt"]
    assert held_out.place == [tmp_path / "valid_0.txt", tmp_path / "valid_1.txt"]
    told = capsys.readouterr().out
    assert "not trained on, by name: valid_0.txt, valid_1.txt (validation), test_0.txt (test)" in told
    assert "held-out text: valid_0.txt, valid_1.txt" in told


def test_folders_of_a_data_set_are_its_splits(tmp_path):
    write(tmp_path, "wiki/train/a.txt wiki/train/b.txt wiki/validation/a.txt wiki/test/a.txt")
    train, held_out = data_files(options(data_dir=str(tmp_path)))
    assert [source.path for source in train.sources] == [
        str(tmp_path / f"wiki/train/{name}.txt") for name in "ab"
    ]
    assert held_out.place == tmp_path / "wiki/validation/a.txt"


def test_a_folder_of_held_out_text_is_not_trained_on(tmp_path):
    write(tmp_path, "valid.txt test.txt")
    with pytest.raises(
        DataError, match=r"named as validation or test data.*valid\.txt, test\.txt.*--train_data"
    ):
        data_files(options(data_dir=str(tmp_path)))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("train.txt dev.txt test.txt", "dev.txt"),
        ("train.txt test.txt", "test.txt"),
        ("a.txt", ""),
    ],
)
def test_a_folder_given_for_evaluation_gives_its_held_out_files(english, tmp_path, names, expected):
    write(tmp_path / "other", names)
    _, held_out = data_files(options(train_data=str(english), eval_data=str(tmp_path / "other")))
    assert held_out.place in (tmp_path / "other" / expected, tmp_path / "other/a.txt")


def test_texts_of_different_layouts_cause_a_warning(tmp_path, capsys):
    write(tmp_path, "train.txt")
    write(tmp_path, "valid.txt", ("x " * 700 + "\n") * 5)
    data_files(options(data_dir=str(tmp_path)))
    told = capsys.readouterr().err
    assert "train.txt is read as 'blank'" in told and "valid.txt as 'lines'" in told
    data_files(options(data_dir=str(tmp_path), text_layout="lines"))
    assert "differ in layout" not in capsys.readouterr().err


def test_nothing_is_left_beside_held_out_text_that_lies_elsewhere(english, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    held_out = shutil.copy(english / "valid.txt", tmp_path / "elsewhere/held_out.txt")
    (english / "valid.txt").unlink()
    chosen = options(data_dir=str(english), eval_data=held_out, tokenizer="word-piece")
    data = open_data(chosen, tmp_path / "run")
    assert data.eval.dataset.store.manifest["counts"]["documents"] == 20
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["held_out.txt"]
    assert data.train.dataset.store.folder.parent == english / "bert"  # a data_dir


def test_several_held_out_files_are_evaluated_on(english, tmp_path):
    shutil.copy(english / "valid.txt", english / "valid_1.txt")
    data = open_data(options(data_dir=str(english), tokenizer="word-piece"), tmp_path / "run")
    assert data.eval.dataset.store.manifest["counts"]["documents"] == 40
    assert data.train.dataset.store.manifest["counts"]["documents"] == 120


def test_every_file_is_examined_once(english, tmp_path, monkeypatch):
    examined = []

    def counted(path, options, examine=sources._source):
        examined.append(Path(path).name)
        return examine(path, options)

    monkeypatch.setattr(sources, "_source", counted)
    open_data(options(data_dir=str(english), tokenizer="word-piece"), tmp_path / "run")
    assert sorted(examined) == ["train.txt", "valid.txt"]


def test_a_corpus_of_one_document_causes_a_warning(english, tmp_path, capsys):
    text = (english / "train.txt").read_text().replace("\n\n", "\n")
    (tmp_path / "book.txt").write_text(text)
    open_data(options(train_data=str(tmp_path / "book.txt"), tokenizer="word-piece"), tmp_path / "run")
    assert "1 document: half of the pairs have a random B" in capsys.readouterr().err


def test_text_that_is_held_out_is_not_trained_on(english):
    (english / "AA").mkdir()
    (english / "train.txt").rename(english / "AA/a.txt")
    with pytest.raises(UsageError, match=r"a\.txt: the held-out text is also trained on"):
        data_files(options(train_data=str(english), eval_data=str(english / "AA")))


@pytest.mark.parametrize("how", ["train_data", "data_dir"])
def test_prepared_data_is_used_without_reading_text(prepared, tmp_path, how):
    chosen = options(**{how: str(prepared)})
    assert places(chosen) == (prepared / "train", prepared / "test")
    data = open_data(chosen, tmp_path / "run")
    assert data.tokenizer.text_to_ids("CAT") == data.tokenizer.text_to_ids("cat")
    assert data.train.dataset.store.folder == prepared / "train"
    assert data.eval.dataset.store.folder == prepared / "test"
    assert not (tmp_path / "run").exists()  # no tokenizer was trained


def test_a_store_itself_may_be_given(prepared, tmp_path):
    chosen = options(train_data=str(prepared / "train"), eval_data=str(prepared / "test"))
    assert open_data(chosen, tmp_path / "run").tokenizer is not None
    with pytest.raises(UsageError, match="the held-out text is also trained on"):
        data_files(options(train_data=str(prepared), eval_data=str(prepared / "train")))


def test_another_tokenizer_than_that_of_the_store_is_refused(prepared, tmp_path):
    other = tmp_path / "other"
    (tmp_path / "text.txt").write_text("some other words\n" * 20)
    train_tokenizer("word-piece", [tmp_path / "text.txt"], other, 40)
    with pytest.raises(
        DataError, match=r"made with a different tokenizer; found [0-9a-f]+, expected [0-9a-f]+"
    ):
        open_data(options(train_data=str(prepared), tokenizer=str(other)), tmp_path / "run")
    shutil.rmtree(prepared / "bert")
    with pytest.raises(UsageError, match=r"the tokenizer that made the token store is missing.*--tokenizer"):
        open_data(options(train_data=str(prepared)), tmp_path / "run")


def test_text_at_an_address_is_trained_on(english, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    memory = fsspec.filesystem("memory")
    memory.pipe("/there/train.txt", (english / "train.txt").read_bytes())
    chosen = options(train_data="memory://there/train.txt", tokenizer="word-piece")
    try:
        data = open_data(chosen, tmp_path / "run")
    finally:
        memory.rm("/there", recursive=True)
    assert data.train.dataset.store.manifest["counts"]["documents"] == 120
    assert (tmp_path / "run/tokenizer/vocab.txt").is_file()


def test_json_lines_are_trained_on_by_the_field_that_is_named(tmp_path):
    records = [{"content": f"The cat sees dog {i}.\nThe dog sees cat {i}."} for i in range(60)]
    text = "".join(json.dumps(record) + "\n" for record in [*records, {}])
    (tmp_path / "news.jsonl").write_text(text)
    given = {"train_data": str(tmp_path), "tokenizer": "word-piece", "text_field": "content"}
    with pytest.raises(DataError, match=r"news\.jsonl:61: no field 'content'"):
        open_data(options(**given), tmp_path / "run")
    data = open_data(options(**given, max_bad_records=1), tmp_path / "run")
    assert data.train.dataset.store.manifest["counts"]["documents"] == 60


def test_a_tokenizer_of_another_field_is_trained_again(tmp_path):
    records = [{"text": f"cats {i} see cats.", "body": f"dogs {i} hear dogs."} for i in range(60)]
    (tmp_path / "news.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    given = {"train_data": str(tmp_path / "news.jsonl"), "tokenizer": "word-piece"}
    first = open_data(options(**given), tmp_path / "run").tokenizer
    other = open_data(options(**given, text_field="body"), tmp_path / "run").tokenizer
    assert "cats" in first.vocabulary() and "cats" not in other.vocabulary()
    assert "dogs" in other.vocabulary()


@pytest.mark.parametrize("content", [b"{", b"", b"\xff", b"[1]", b'{"a": 1}'])
def test_a_tokenizer_with_a_damaged_note_is_trained_again(english, tmp_path, capsys, content):
    chosen = options(data_dir=str(english), tokenizer="word-piece")
    made = open_data(chosen, tmp_path / "run").tokenizer
    note = tmp_path / "run" / "tokenizer" / "made-for.json"
    good = note.read_bytes()
    note.write_bytes(content)

    again = open_data(chosen, tmp_path / "run").tokenizer

    assert "made-for.json is damaged" in capsys.readouterr().err
    assert again.fingerprint == made.fingerprint and note.read_bytes() == good

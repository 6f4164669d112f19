"""Prepared shards come with a manifest, and nothing that it lists may be missing or other than it says."""

import json
from pathlib import Path

import pytest

from nemo.collections.nlp.data.datasets import BertPretrainingPreprocessedDataset
from nemo.collections.nlp.data.hdf5 import manifests_of, shards_of
from nemo.collections.nlp.data.tokenizers import NemoBertTokenizer
from nemo.utils.errors import DataError
from tests.shards import make_rows, write_shard

WORDS = [f"word{number}" for number in range(55)]


def vocabulary(folder: Path, words: list[str]) -> NemoBertTokenizer:
    folder.mkdir(parents=True, exist_ok=True)
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in tokens))
    return NemoBertTokenizer(vocab_file=folder / "vocab.txt")


@pytest.fixture
def prepared(tmp_path) -> Path:
    """What `nemo-bert prepare` leaves: OUT with shards, either with a manifest and the tokenizer."""
    out = tmp_path / "out"
    folder = out / "hdf5_lower_case_1_seq_len_16_max_pred_3"
    tokenizer = vocabulary(tmp_path / "vocabulary", WORDS)
    for place in (out, folder):
        tokenizer.save(place / "bert")
    files = {}
    for number, name in enumerate(("wiki_training_0", "wiki_training_1", "wiki_test_0")):
        path = write_shard(folder / "wiki" / f"{name}.hdf5", make_rows(20, seed=number))
        files[f"wiki/{name}.hdf5"] = {"rows": 20, "bytes": path.stat().st_size, "sha256": ""}
    content = {"format": "nemo-bert shards", "version": 1, "tokenizer": tokenizer.fingerprint, "files": files}
    (folder / "manifest.json").write_text(json.dumps(content))
    (out / "manifest.json").write_text(json.dumps({"format": "nemo-bert prepared data", "version": 1}))
    return out


def places(prepared: Path) -> list[Path]:
    """Where a user may say the shards are: from OUT down to one of them."""
    (folder,) = prepared.glob("hdf5_*")
    return [prepared, folder, folder / "wiki", folder / "wiki" / "wiki_training_0.hdf5"]


@pytest.mark.parametrize("place", range(4))
def test_intact_shards_are_read(prepared, tmp_path, place):
    tokenizer = vocabulary(tmp_path / "vocabulary", WORDS)
    dataset = BertPretrainingPreprocessedDataset(places(prepared)[place], 3, tokenizer=tokenizer)
    assert len(dataset) == (20 if place == 3 else 40)


def test_manifest_and_tokenizer_are_not_listed_as_other_files(prepared, capsys):
    (folder,) = prepared.glob("hdf5_*")
    assert len(shards_of(folder, "train")) == 2
    assert "not read as shards" not in capsys.readouterr().out
    (folder / "notes.md").touch()
    shards_of(folder, "train")
    assert "not read as shards: notes.md" in capsys.readouterr().out


@pytest.mark.parametrize("place", range(3))
def test_a_missing_shard_is_named_in_either_mode(prepared, place):
    places(prepared)[2].joinpath("wiki_test_0.hdf5").unlink()
    with pytest.raises(
        DataError, match=r"wiki_test_0\.hdf5: a shard is missing; .*manifest\.json says; fix: "
    ):
        BertPretrainingPreprocessedDataset(places(prepared)[place], 3)


@pytest.mark.parametrize("place", range(4))
def test_a_shard_of_another_size_is_refused(prepared, place):
    with open(places(prepared)[3], "ab") as file:
        file.write(b"\0")
    with pytest.raises(
        DataError, match=r"wiki_training_0\.hdf5: the size of a shard has changed; found .* bytes"
    ):
        BertPretrainingPreprocessedDataset(places(prepared)[place], 3)


def test_a_file_given_itself_needs_no_others(prepared):
    places(prepared)[2].joinpath("wiki_training_1.hdf5").unlink()
    assert len(BertPretrainingPreprocessedDataset(places(prepared)[3], 3)) == 20


@pytest.mark.parametrize("place", range(4))
def test_one_other_line_in_the_vocabulary_is_another_tokenizer(prepared, tmp_path, place):
    made_with = vocabulary(tmp_path / "vocabulary", WORDS)
    other = vocabulary(tmp_path / "other", [*WORDS[:-1], "other"])
    match = f"made with a different tokenizer; found {made_with.fingerprint}, expected {other.fingerprint}"
    with pytest.raises(DataError, match=match):
        BertPretrainingPreprocessedDataset(places(prepared)[place], 3, tokenizer=other)


@pytest.mark.parametrize(
    "content", [b'{"format": "nemo-bert shards"', b'{"format": "nemo-bert shards", "version": 1}', b"\xff"]
)
def test_a_damaged_manifest_is_refused(prepared, content):
    (file,) = prepared.glob("hdf5_*/manifest.json")
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"manifest\.json: damaged manifest"):
        manifests_of(file.parent)


def test_newer_and_other_manifests_are_distinguished(prepared):
    (file,) = prepared.glob("hdf5_*/manifest.json")
    file.write_text('{"format": "nemo-bert shards", "version": 2}')
    with pytest.raises(DataError, match="another version of nemo-bert; found version 2, expected 1"):
        manifests_of(file.parent)
    file.write_text('{"format": "someone else\'s"}')
    assert manifests_of(file.parent) == []

"""The token store: what is in it, when it is made again, and what cannot hurt it."""

import hashlib
import json
import multiprocessing
import os
import pickle
import shutil
from dataclasses import asdict

import fsspec
import numpy as np
import pytest

from nemo.collections.nlp.data.inputs.options import READER, TextOptions
from nemo.collections.nlp.data.store import store_builder, token_store
from nemo.collections.nlp.data.store.store_arrays import ARRAYS
from nemo.collections.nlp.data.store.store_builder import groups_of, write_part
from nemo.collections.nlp.data.store.token_store import TokenStore, is_store, open_or_build
from nemo.utils.errors import DataError, MissingFileError, StorageError

TEXT = "a bc\nd\n\n ef\n a a\n"  # two documents of two sentences: a bc|d and ef|a a


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "a.txt").write_text(TEXT)
    return folder


def made_at(store):
    return os.stat(store.folder / "manifest.json").st_mtime_ns


def contents(store):
    return [(store.folder / f"{name}.bin").read_bytes() for name in ARRAYS]


def test_a_store_holds_tokens_words_sentences_and_documents(corpus, letters):
    store = open_or_build(corpus, letters)
    assert store.tokens.tolist() == [5, 6, 33, 8, 9, 36, 5, 5]  # a b ##c d e ##f a a
    assert store.starts_word.tolist() == [True, True, False, True, True, False, True, True]
    assert store.sentence_offsets.tolist() == [0, 3, 4, 6, 8]
    assert store.document_offsets.tolist() == [0, 2, 4]
    assert store.describe() == "2 documents, 4 sentences, 8 tokens, 0.00% of them unknown"


def test_a_store_is_mapped_not_loaded(corpus, letters):
    store = open_or_build(corpus, letters)
    assert isinstance(store.tokens.base, np.memmap) and store.tokens.dtype == np.uint16


def test_a_large_vocabulary_takes_wider_numbers(corpus, small_tokenizer):
    tokenizer = small_tokenizer([*(f"x{i}" for i in range(1 << 16)), "a"])
    store = open_or_build(corpus, tokenizer)
    assert store.tokens.dtype == np.uint32
    assert store.tokens[0] == 5 + (1 << 16)


def test_sentences_and_documents_without_tokens_leave_no_trace(corpus, letters):
    # U+200B is a character to Python and nothing to the tokenizer.
    (corpus / "a.txt").write_text("a\n\u200b\n\n\u200b\n\u200b\n\n\u200b\nb\nc")
    store = open_or_build(corpus, letters)
    assert store.sentence_offsets.tolist() == [0, 1, 2, 3]
    assert store.document_offsets.tolist() == [0, 1, 3]


def test_documents_go_on_from_batch_to_batch(corpus, letters, monkeypatch):
    (corpus / "a.txt").write_text("a b c\nd e\nf\n\ng\nh i\n\nj k\nl")
    at_once = contents(open_or_build(corpus, letters))
    for size in (1, 4):
        monkeypatch.setattr(store_builder, "BATCH_CHARS", size)
        store = open_or_build(corpus, letters, corpus.parent / f"store-{size}")
        assert contents(store) == at_once


def test_files_are_read_by_path_even_with_equal_base_names(tmp_path, letters):
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "text.txt").write_text(f"{name} {name}\n{name}\n")
    store = open_or_build([tmp_path / "a", tmp_path / "b"], letters)
    assert store.tokens.tolist() == [5, 5, 5, 6, 6, 6]
    assert [source["name"] for source in store.manifest["sources"]] == ["a/text.txt", "b/text.txt"]


def test_an_up_to_date_store_is_reused(corpus, letters):
    first = made_at(open_or_build(corpus, letters))
    assert made_at(open_or_build(corpus, letters)) == first
    os.utime(corpus / "a.txt", ns=(0, 0))  # touched, not changed
    assert made_at(open_or_build(corpus, letters)) == first


def test_a_changed_text_of_the_same_length_is_noticed(corpus, letters):
    first = open_or_build(corpus, letters)
    (corpus / "a.txt").write_text(TEXT.replace("d", "z"))
    os.utime(corpus / "a.txt", ns=(0, 0))
    second = open_or_build(corpus, letters)
    assert second.tokens[3] == 30
    assert second.folder == first.folder  # in place of the old one


def test_a_new_file_is_noticed(corpus, letters):
    open_or_build(corpus, letters, corpus.parent / "store")
    (corpus / "b.txt").write_text("x\ny")
    assert open_or_build(corpus, letters, corpus.parent / "store").tokens[-2:].tolist() == [28, 29]


def test_another_tokenizer_or_option_gets_another_store(corpus, letters, small_tokenizer):
    stores = [
        open_or_build(corpus, letters),
        open_or_build(corpus, small_tokenizer("abcdef")),
        open_or_build(corpus, letters, options=TextOptions(layout="running")),
    ]
    assert len({store.folder for store in stores}) == 3
    shared = corpus.parent / "store"
    for tokenizer in (letters, small_tokenizer("abcdef")):
        store = open_or_build(corpus, tokenizer, shared)
        assert store.manifest["tokenizer"] == tokenizer.fingerprint


def test_damage_is_an_error_and_mended_from_the_text(corpus, letters):
    store = open_or_build(corpus, letters)
    good = contents(store)
    tokens = store.folder / "tokens.bin"

    flipped = bytearray(good[0])
    flipped[3] ^= 1
    tokens.write_bytes(flipped)
    with pytest.raises(DataError, match=r"tokens\.bin: damaged token store"):
        TokenStore(store.folder).verify()
    assert contents(open_or_build(corpus, letters)) == good

    os.truncate(tokens, 2)
    with pytest.raises(DataError, match="found 2 bytes, expected 16"):
        store.check_sizes()
    with pytest.raises(DataError, match="damaged"):
        TokenStore(store.folder)
    assert contents(open_or_build(corpus, letters)) == good


@pytest.mark.parametrize("manifest", ["", "{}", '{"format": "nemo-bert token store", "version": 99}'])
def test_a_manifest_of_another_kind_is_an_error(corpus, letters, manifest):
    store = open_or_build(corpus, letters)
    (store.folder / "manifest.json").write_text(manifest)
    with pytest.raises(DataError, match=r"manifest\.json"):
        TokenStore(store.folder)
    assert open_or_build(corpus, letters).describe() == store.describe()


def test_no_store_is_a_missing_file(tmp_path):
    with pytest.raises(MissingFileError):
        TokenStore(tmp_path / "nothing")


def test_a_folder_with_other_things_is_left_alone(corpus, letters):
    (corpus / "manifest.json").write_text("{}")
    with pytest.raises(StorageError, match=r"a\.txt"):
        open_or_build(corpus, letters, folder=corpus)
    assert (corpus / "a.txt").exists()


class _Interrupted(Exception):
    pass


def test_a_build_that_fails_leaves_nothing_and_the_next_one_works(corpus, letters, monkeypatch):
    def fail(texts):
        raise _Interrupted

    with monkeypatch.context() as patch, pytest.raises(_Interrupted):
        patch.setattr(letters, "encode_batch", fail)
        open_or_build(corpus, letters)
    (half,) = (corpus.parent / "cache").rglob("*.*")
    assert half.suffix == ".lock"
    for what in ("parts", "aside-1234"):  # what a killed process leaves behind
        partial = half.with_name(f".{half.stem}.{what}")
        partial.mkdir()
        (partial / "tokens.bin").write_bytes(b"rubbish")
    assert open_or_build(corpus, letters).tokens[0] == 5
    assert sorted(entry.name for entry in half.parent.iterdir()) == [half.stem, half.name]


def test_text_that_changes_while_it_is_read_is_an_error(corpus, letters, monkeypatch):
    encode = letters.encode_batch

    def meddle(texts):
        with open(corpus / "a.txt", "a") as file:
            file.write("more")
        return encode(texts)

    monkeypatch.setattr(letters, "encode_batch", meddle)
    monkeypatch.setattr(store_builder, "BATCH_CHARS", 1)
    with pytest.raises(DataError, match="changed while it was being read"):
        open_or_build(corpus, letters)


@pytest.mark.parametrize("text", ["", "\n", "  \n\n \n", "\u200b\n\u200b"])
def test_a_corpus_without_text_is_an_error_that_names_it(corpus, letters, text):
    (corpus / "a.txt").write_text(text)
    with pytest.raises(DataError, match=r"a\.txt: no text"):
        open_or_build(corpus, letters)


def test_a_corpus_that_is_all_unknown_is_an_error(corpus, letters):
    (corpus / "a.txt").write_text("1 2\n3\n")
    with pytest.raises(DataError, match="every token is unknown"):
        open_or_build(corpus, letters)


def test_unknown_tokens_are_counted(corpus, letters):
    (corpus / "a.txt").write_text("a 1\nb c\n")
    assert "25.00% of them unknown" in open_or_build(corpus, letters).describe()


def test_a_store_is_kept_in_the_cache_not_beside_the_text(corpus, letters):
    store = open_or_build(corpus / "a.txt", letters)
    assert store.folder.is_relative_to(corpus.parent / "cache" / "nemo-bert")
    assert [path.name for path in corpus.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("name", ["train.txt", "wiki.train.raw", "bert/vocab.txt"])
def test_a_store_of_a_data_dir_is_kept_beside_its_text(corpus, letters, name):
    (corpus / name).parent.mkdir(exist_ok=True)
    (corpus / name).write_text(TEXT)
    assert open_or_build(corpus / "a.txt", letters).folder.parent == corpus / "bert"


def test_a_store_of_another_reader_version_is_rebuilt(corpus, letters, capsys):
    store = open_or_build(corpus, letters)
    manifest = json.loads((store.folder / "manifest.json").read_text())
    assert manifest.pop("reader") == READER
    (store.folder / "manifest.json").write_text(json.dumps(manifest))  # as it was before there were two
    assert open_or_build(store.folder, letters).manifest == manifest  # what was prepared is as it is
    assert open_or_build(corpus, letters).manifest["reader"] == READER
    assert "it was made with a different version that splits text differently" in capsys.readouterr().out


def test_the_cache_is_used_if_no_folder_can_be_made_beside_text(corpus, letters):
    (corpus / "bert").write_text("a file, so that no folder can be made here")
    store = open_or_build(corpus, letters)
    assert store.folder.is_relative_to(corpus.parent / "cache" / "nemo-bert")
    first = made_at(store)
    assert made_at(open_or_build(corpus, letters)) == first


def test_a_folder_that_cannot_be_listed_is_not_a_data_dir(corpus, letters, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.R_OK)  # root may list every folder
    (corpus / "train.txt").write_text(TEXT)
    assert not open_or_build(corpus / "a.txt", letters).folder.is_relative_to(corpus)


def test_a_missing_home_folder_for_the_cache_is_an_error(corpus, letters, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(token_store.Path, "home", lambda: (_ for _ in ()).throw(RuntimeError))
    with pytest.raises(StorageError, match="set HOME or XDG_CACHE_HOME"):
        open_or_build(corpus, letters)


def test_the_store_of_a_remote_text_is_in_the_cache(tmp_path, letters, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    remote = fsspec.filesystem("memory")
    for text, tokens in ((TEXT, 8), (TEXT + "b\n", 9)):
        remote.pipe("/test_token_store/a.txt", text.encode())
        store = open_or_build("memory://test_token_store", letters)
        assert len(store.tokens) == tokens and store.folder.is_relative_to(tmp_path / "nemo-bert")
        assert made_at(open_or_build("memory://test_token_store", letters)) == made_at(store)


def test_another_process_opens_the_files_again(corpus, letters):
    store = open_or_build(corpus, letters)
    data = pickle.dumps(store)
    assert len(data) < 1000
    assert pickle.loads(data).tokens.tolist() == store.tokens.tolist()


def _open_and_count(corpus, tokenizer, log):
    encode = tokenizer.encode_batch

    def counted(texts):
        with open(log, "a") as file:
            file.write("built\n")
        return encode(texts)

    tokenizer.encode_batch = counted
    open_or_build(corpus, tokenizer).verify()


def test_of_several_processes_one_builds(corpus, letters):
    (corpus / "a.txt").write_text("word word\n" * 2000)
    log = corpus.parent / "log"
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_open_and_count, args=(corpus, letters, log)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert log.read_text() == "built\n"


def test_the_manifest_names_the_sources(corpus, letters):
    store = open_or_build(corpus, letters)
    manifest = json.loads((store.folder / "manifest.json").read_text())
    assert manifest["counts"] == {"documents": 2, "sentences": 4, "tokens": 8, "unknown_tokens": 0}
    [source] = manifest["sources"]
    assert source == {
        "name": "a.txt",
        "bytes": len(TEXT),
        "sha256": hashlib.sha256(TEXT.encode()).hexdigest(),
        "version": str((corpus / "a.txt").stat().st_mtime_ns),
    }
    assert manifest["options"] == asdict(TextOptions())
    assert manifest["unigram_entropy"] == round(np.log(8) - 3 / 8 * np.log(3), 6)  # a three times, five once
    assert manifest["arrays"]["tokens"]["bytes"] == 16


def test_a_store_is_accepted_in_place_of_text(corpus, letters):
    store = open_or_build(corpus, letters, corpus.parent / "prepared")
    shutil.rmtree(corpus)
    assert is_store(store.folder)
    assert contents(open_or_build(store.folder, letters)) == contents(store)
    assert sorted(file.name for file in store.folder.iterdir()) == sorted(store_builder.FILES)


def test_a_store_of_another_tokenizer_is_refused_in_place_of_text(corpus, letters, small_tokenizer):
    store, other = open_or_build(corpus, letters, corpus.parent / "prepared"), small_tokenizer("ab")
    with pytest.raises(DataError) as caught:
        open_or_build(store.folder, other)
    assert str(caught.value).startswith(
        f"{store.folder}: the token store was made with a different tokenizer; found"
    )
    assert letters.fingerprint in str(caught.value) and other.fingerprint in str(caught.value)


def test_a_damaged_store_is_refused_in_place_of_text(corpus, letters):
    store = open_or_build(corpus, letters, corpus.parent / "prepared")
    (store.folder / "starts_word.bin").write_bytes(b"\1" * 8)
    with pytest.raises(DataError, match=r"starts_word\.bin: damaged token store; .* fix: delete"):
        open_or_build(store.folder, letters)


def test_other_folders_and_files_are_not_token_stores(corpus, letters):
    (corpus / "manifest.json").write_text('{"format": "nemo-bert shards"}')
    assert not any(map(is_store, (corpus, corpus / "a.txt", corpus / "nothing", str(corpus))))
    (corpus / "manifest.json").write_text("[]")
    assert not is_store(corpus)


def test_much_text_is_tokenized_part_by_part(corpus, letters, monkeypatch):
    (corpus / "b.txt").write_text("x y\nz\n\nx\ny\n")
    at_once = open_or_build(corpus, letters)
    written = []
    monkeypatch.setattr(token_store, "write_part", lambda *a, **k: written.append(a) or write_part(*a, **k))
    monkeypatch.setattr(token_store, "groups_of", lambda sections: groups_of(sections, group_bytes=1))
    in_parts = open_or_build(corpus, letters, corpus.parent / "store")
    assert len(written) == 2
    assert contents(in_parts) == contents(at_once)
    assert in_parts.manifest == at_once.manifest


def test_a_large_text_suggests_prepare(corpus, letters, monkeypatch, capsys):
    monkeypatch.setattr(token_store, "MUCH_TEXT", 10)
    open_or_build(corpus, letters)
    assert "`nemo-bert prepare` uses all cores" in capsys.readouterr().out


def test_real_text_is_stored_completely(shared_data, tmp_path, letters):
    lines = (shared_data / "abc_news" / "rural.txt").read_text().split("\n")[:500]
    (tmp_path / "text.txt").write_text("\n".join(lines))
    store = open_or_build(tmp_path, letters)
    expected = np.concatenate(letters.encode_batch(lines))
    np.testing.assert_array_equal(store.tokens, expected)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("arrays",), "gpt2"),
        (("arrays",), None),
        (("arrays", "tokens"), []),
        (("arrays", "tokens", "dtype"), "x"),
        (("arrays", "tokens", "dtype"), "uint32"),
        (("arrays", "tokens", "bytes"), "16"),
        (("arrays", "tokens", "sha256"), 7),
        (("counts",), {}),
        (("counts", "tokens"), True),
        (("counts", "sentences"), 10**20),
        (("unigram_entropy",), "x"),
        (("tokenizer",), None),
        (("sources",), [1]),
        (("options",), 3),
    ],
)
def test_a_manifest_with_an_invalid_value_is_damaged(corpus, letters, place, value):
    """By kind: what `make chaos` found in the arrays' place."""
    store = open_or_build(corpus, letters, corpus.parent / "prepared")
    path = store.folder / "manifest.json"
    at = content = json.loads(path.read_text())
    for key in place[:-1]:
        at = at[key]
    at[place[-1]] = value
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"manifest\.json: damaged manifest; fix: delete"):
        TokenStore(store.folder)

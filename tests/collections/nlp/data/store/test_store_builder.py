"""From text to parts to stores: what is in them, and that only the text and the options decide it."""

import json
import multiprocessing
import os
import resource
import shutil
import sys
import tracemalloc

import numpy as np
import pytest

from nemo.collections.nlp.data.inputs.options import AUTO, TextOptions
from nemo.collections.nlp.data.inputs.sections import sections_of
from nemo.collections.nlp.data.inputs.sources import sources_of
from nemo.collections.nlp.data.store import duplicates, store_arrays, store_builder
from nemo.collections.nlp.data.store.store_arrays import BlockWriter, DocumentBlock
from nemo.collections.nlp.data.store.store_builder import (
    assemble,
    document_hashes,
    excerpt_of,
    finished_part,
    groups_of,
    held_out,
    near_duplicate_bands,
    write_part,
)
from nemo.collections.nlp.data.store.token_store import TokenStore, open_or_build
from nemo.collections.nlp.data.text.sentences import split_lines
from nemo.utils.errors import DataError, StorageError

TEXT = "a b\nc\n\nd\ne\n\na  b\nc\n\nf f f\ng 1\n"  # four documents of two sentences, the third as the first


@pytest.fixture
def corpus(tmp_path):
    """Two files, of TEXT and of 40 documents of 1 to 5 lines of 1 to 4 letters."""
    rng = np.random.default_rng(0)
    letters = list("abcdefghijklmnopqrstuvwxyz")
    made_up = [
        "\n".join(" ".join(rng.choice(letters, rng.integers(1, 5))) for _ in range(rng.integers(1, 6)))
        for _ in range(40)
    ]
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "a.txt").write_text(TEXT)
    (folder / "b.txt").write_text("\n\n".join(made_up))
    return folder


def parts_of(place, groups, tokenizer, near=False):
    for number, sections in enumerate(groups):
        write_part(place / str(number), sections, tokenizer, split_lines, AUTO, near)
    return [place / str(number) for number in range(len(groups))]


def one_part(place, path, tokenizer, **more):
    return parts_of(place, [sections_of(sources_of(path))], tokenizer, **more)


def files_in(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_part_has_the_documents_of_its_sections(corpus, tmp_path, letters):
    [part] = one_part(tmp_path / "parts", corpus / "a.txt", letters)
    manifest = json.loads((part / "part.json").read_text())
    assert manifest["counts"] == {"documents": 4, "sentences": 8, "tokens": 13, "unknown_tokens": 1}
    assert manifest["sections"] == [["a.txt", 0, len(TEXT)]]
    assert manifest["bytes_read"] == len(TEXT)
    assert finished_part(part) == manifest


def test_stores_do_not_depend_on_how_sections_were_grouped(corpus, tmp_path, letters):
    copy = shutil.copytree(corpus, tmp_path / "elsewhere" / "copy", copy_function=shutil.copyfile)
    for file in copy.iterdir():
        os.utime(file, ns=(0, 0))
    results = []
    for place, section_bytes, group_bytes in ((corpus, 40, 0), (corpus, 40, 150), (copy, 40, 1 << 20)):
        sources = sources_of(place)
        sections = sections_of(sources, section_bytes)
        assert len(sections) > 8
        work = tmp_path / f"work-{len(results)}"
        parts = parts_of(work / "parts", groups_of(sections, group_bytes), letters, near=True)
        hashes = document_hashes(parts)
        keep = ~duplicates.near_duplicates(near_duplicate_bands(parts))
        test = held_out(hashes, 0.2, keep)
        targets = {"train": (work / "train", keep & ~test), "test": (work / "test", test)}
        header = {"sources": [store_builder.describe_source(source) for source in sources]}
        manifests = assemble(parts, targets, header)
        stores = {name: files_in(folder) for name, (folder, _) in targets.items()}
        results.append((hashes.tolist(), stores, manifests))
    assert len(results[0][1]["test"]["tokens.bin"]) > 20
    assert results[0] == results[1] == results[2]


def test_documents_go_to_the_right_stores(corpus, tmp_path, letters):
    parts = one_part(tmp_path / "parts", corpus / "a.txt", letters)
    keep = np.array([False, True, True, False])
    targets = {"some": (tmp_path / "some", keep), "last": (tmp_path / "last", np.arange(4) == 3)}
    manifests = assemble(parts, targets, {"sources": [], "made for": "a test"})
    some, last = TokenStore(tmp_path / "some"), TokenStore(tmp_path / "last")
    assert some.tokens.tolist() == [8, 9, 5, 6, 7]  # d e a b c
    assert some.sentence_offsets.tolist() == [0, 1, 2, 4, 5]
    assert some.document_offsets.tolist() == [0, 2, 4]
    assert last.tokens.tolist() == [10, 10, 10, 11, 1]
    assert last.document_offsets.tolist() == [0, 2]
    assert manifests == {"some": some.manifest, "last": last.manifest}
    assert last.manifest["made for"] == "a test" and last.manifest["tokenizer"] == letters.fingerprint
    assert last.manifest["counts"] == {"documents": 1, "sentences": 2, "tokens": 5, "unknown_tokens": 1}
    # f three times in four and g once; what is unknown does not count
    assert last.manifest["unigram_entropy"] == round(-0.75 * np.log(0.75) - 0.25 * np.log(0.25), 6)


def test_a_store_of_all_parts_equals_the_one_training_builds(corpus, tmp_path, letters):
    sources = sources_of(corpus)
    parts = parts_of(tmp_path / "parts", groups_of(sections_of(sources, 40), 100), letters)
    header = {"sources": [store_builder.describe_source(source) for source in sources]}
    assemble(parts, {"store": (tmp_path / "store", None)}, header)
    prepared = files_in(tmp_path / "store")
    made = open_or_build(corpus, letters, tmp_path / "made")
    assert made.manifest["arrays"] == json.loads(prepared["manifest.json"])["arrays"]
    # ... so it is taken for the text's
    open_or_build(corpus, letters, tmp_path / "store")
    assert files_in(tmp_path / "store") == prepared


def test_a_store_of_no_documents_is_not_written(corpus, tmp_path, letters):
    parts = one_part(tmp_path / "parts", corpus / "a.txt", letters)
    targets = {"all": (tmp_path / "all", None), "none": (tmp_path / "none", np.zeros(4, dtype=bool))}
    assert list(assemble(parts, targets, {})) == ["all"]
    assert not (tmp_path / "none").exists()


def test_every_document_that_is_kept_has_its_hash(corpus, tmp_path, letters):
    # U+200B is a character to Python and nothing to the tokenizer.
    (corpus / "a.txt").write_text("\u200b\n\u200b\n\na b\nc\n\n\u200b\n\u200b\n\n\u200b\nd\n\na  b\nc\n")
    parts = one_part(tmp_path / "parts", corpus / "a.txt", letters)
    expected = [duplicates.document_hash(each) for each in (["a b", "c"], ["d"], ["a b", "c"])]
    assert document_hashes(parts).tolist() == expected


def test_the_store_does_not_depend_on_block_sizes(corpus, tmp_path, letters, monkeypatch):
    results = []
    for batch, limit in ((1 << 20, 1 << 20), (1, 1), (30, 7)):
        monkeypatch.setattr(store_builder, "BATCH_CHARS", batch)
        monkeypatch.setattr(store_builder, "BLOCK_DOCUMENTS", limit)
        for kind in ("DOCUMENTS", "SENTENCES", "TOKENS"):
            monkeypatch.setattr(store_arrays, f"BLOCK_{kind}", limit)
        place = tmp_path / f"work-{batch}"
        parts = one_part(place / "parts", corpus, letters, near=True)
        keep = np.arange(44) % 3 > 0
        assemble(parts, {"store": (place / "store", keep)}, {"sources": []})
        bands = [band.tolist() for band in near_duplicate_bands(parts)]
        results.append((files_in(parts[0]), files_in(place / "store"), bands))
    assert results[0] == results[1] == results[2]


def test_a_large_part_is_put_together_in_little_memory(tmp_path, letters, monkeypatch):
    for kind, limit in (("DOCUMENTS", 1 << 14), ("SENTENCES", 1 << 16), ("TOKENS", 1 << 18)):
        monkeypatch.setattr(store_arrays, f"BLOCK_{kind}", limit)
    part = tmp_path / "part"
    part.mkdir()
    writer = BlockWriter(part, letters.vocab_size)
    sizes = np.full(1 << 16, 4)
    for _ in range(16):  # 256 k tokens each
        writer.append(
            DocumentBlock(np.full(1 << 18, 7, np.uint16), np.ones(1 << 18, bool), sizes, sizes[: 1 << 14])
        )
    [small] = one_part(tmp_path / "small", _text(tmp_path / "a.txt", "a b\nc"), letters)
    manifest = json.loads((small / "part.json").read_text())
    manifest["arrays"] = writer.finish()
    manifest["counts"] = writer.counts(letters.unk_id)
    (part / "part.json").write_text(json.dumps(manifest))
    tracemalloc.start()
    try:
        assemble([part], {"store": (tmp_path / "store", np.arange(1 << 18) % 2 > 0)}, {"sources": []})
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert TokenStore(tmp_path / "store").manifest["counts"]["tokens"] == 1 << 21
    assert peak < 6 << 20  # of the 22 MB of the part


def _text(path, content):
    path.write_text(content)
    return path


def test_a_part_is_written_completely_or_not_at_all(corpus, tmp_path, letters, monkeypatch):
    part = tmp_path / "parts" / "0"
    left_behind = part.with_name(".0.aside-1234")  # of a process that was killed
    left_behind.mkdir(parents=True)

    def fail(texts):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(letters, "encode_batch", fail)
        with pytest.raises(KeyboardInterrupt):
            one_part(part.parent, corpus, letters)
    assert list(part.parent.iterdir()) == []
    assert finished_part(part) is None
    one_part(part.parent, corpus, letters)
    assert list(part.parent.iterdir()) == [part]
    assert finished_part(part) is not None


def _exit_code_on_a_full_disk(place, corpus, tokenizer):
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
    try:
        one_part(place, corpus, tokenizer)
    except StorageError as error:
        sys.exit(error.exit_code)


def test_a_full_disk_is_a_storage_error_and_leaves_nothing(corpus, tmp_path, letters):
    arguments = (tmp_path / "parts", corpus, letters)
    process = multiprocessing.get_context("fork").Process(target=_exit_code_on_a_full_disk, args=arguments)
    process.start()
    process.join()
    assert process.exitcode == 5
    assert list((tmp_path / "parts").iterdir()) == []


def test_a_damaged_part_is_not_used(corpus, tmp_path, letters):
    [part] = one_part(tmp_path / "parts", corpus, letters)
    good = files_in(part)
    targets = {"store": (tmp_path / "store", None)}
    assemble([part], targets, {"sources": []})
    store = files_in(tmp_path / "store")
    for name in ("tokens.bin", "sentence_offsets.bin", "document_hashes.bin"):
        (part / name).write_bytes(good[name][:-2] + b"\xff\xff")
        assert finished_part(part) is None
        with pytest.raises(DataError, match=rf"{name}: damaged part .*delete {part}"):
            assemble([part], targets, {"sources": []})
        (part / name).write_bytes(good[name])
    (part / "starts_word.bin").unlink()
    assert finished_part(part) is None
    assert files_in(tmp_path / "store") == store  # as it was


def test_parts_of_different_tokenizers_do_not_go_together(corpus, tmp_path, letters, small_tokenizer):
    parts = one_part(tmp_path / "a", corpus / "a.txt", letters)
    parts += one_part(tmp_path / "b", corpus / "b.txt", small_tokenizer("abcdef"))
    with pytest.raises(
        DataError, match=r"b/0: a part made with a different tokenizer; found .* fix: delete it"
    ):
        assemble(parts, {"store": (tmp_path / "store", None)}, {"sources": []})


def test_bad_records_of_all_parts_together_are_counted(tmp_path, letters):
    for name in ("a", "b"):
        _text(tmp_path / f"{name}.jsonl", '{"text": "a b"}\n{"text": 7}\n{"text": "c"}\n')
    options = TextOptions(format="json-lines", max_bad_records=1)
    groups = [[section] for section in sections_of(sources_of(sorted(tmp_path.glob("*.jsonl")), options))]
    for number, sections in enumerate(groups):
        part = write_part(tmp_path / str(number), sections, letters, split_lines, options)
        assert part["oddities"]["bad_records"] == 1 and part["counts"]["documents"] == 2
    store = {"store": (tmp_path / "store", None)}
    assert assemble([tmp_path / "0"], store, {})["store"]["options"]["max_bad_records"] == 1
    with pytest.raises(DataError, match=r"too many bad records; .* found 2, expected at most 1"):
        assemble([tmp_path / "0", tmp_path / "1"], store, {"sources": []})


def test_a_folder_with_other_things_is_left_alone(corpus, tmp_path, letters):
    parts = one_part(tmp_path / "parts", corpus, letters)
    with pytest.raises(
        StorageError, match=r"the folder contains something other than a token store; found a\.txt"
    ):
        assemble(parts, {"store": (corpus, None)}, {"sources": []})
    assert (corpus / "b.txt").exists()


def test_a_share_is_held_out_and_duplicates_are_on_one_side():
    hashes = np.random.default_rng(0).integers(0, 2**64, 10_000, dtype=np.uint64)
    hashes = np.append(hashes, hashes)
    test = held_out(hashes, 0.1)
    assert 0.09 < test.mean() < 0.11
    np.testing.assert_array_equal(test[:10_000], test[10_000:])
    np.testing.assert_array_equal(held_out(hashes[::-1], 0.1), test[::-1])
    assert not (test & ~held_out(hashes, 0.2)).any()  # more are held out, none goes back
    assert not held_out(hashes, 0).any()


def test_both_sides_get_a_document_if_two_differ():
    low, high = np.array([5, 9, 5], np.uint64), np.array([2**64 - 3, 2**64 - 9], np.uint64)
    assert held_out(low, 0.1).tolist() == [True, False, True]
    assert held_out(high, 0.1).tolist() == [False, True]
    assert held_out(high, 0.99).tolist() == [False, True]
    assert held_out(low, 0.1, np.array([True, False, True])).tolist() == [True, False, True]
    assert held_out(low, 0.1, np.array([False, True, True])).tolist() == [False, False, True]
    assert held_out(np.zeros(0, np.uint64), 0.1).tolist() == []


def test_sentences_are_learned_from_all_over_the_corpus(tmp_path, monkeypatch):
    for number in range(10):
        _text(tmp_path / f"{number}.txt", f"{number}\n" * 100)
    sections = sections_of(sources_of(tmp_path))
    monkeypatch.setattr(store_builder, "EXCERPT_SECTIONS", 5)
    assert set(excerpt_of(sections, AUTO)) == {"0", "2", "4", "6", "8"}
    monkeypatch.setattr(store_builder, "EXCERPT_CHARS", 20)
    assert len(excerpt_of(sections, AUTO)) <= 500

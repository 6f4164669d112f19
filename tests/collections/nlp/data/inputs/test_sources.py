"""Which files of a folder are text, what each of them is, and every kind of file that is no text."""

import bz2
import gzip
import io
import json
import lzma
import os
import socket
import subprocess
import sys
import zipfile
from dataclasses import replace

import pytest
import zstandard

from nemo.collections.nlp.data.inputs import (
    Source,
    TextOptions,
    check_unchanged,
    content_hash,
    read_documents,
    sources_of,
)
from nemo.utils.errors import DataError, MissingFileError

TEXT = "One.\nTwo.\n\nThree.\nFour.\n"
DOCUMENTS = [["One.", "Two."], ["Three.", "Four."]]
RECORD = json.dumps({"title": "t", "text": "One.\nTwo."}) + "\n"
COMPRESS = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.ZstdCompressor().compress,
}


def names_of(path, **options: object) -> list[str]:
    return [source.name for source in sources_of(path, TextOptions(**options))]


def the_source(path, **options: object) -> Source:
    (source,) = sources_of(path, TextOptions(**options))
    return source


def write(folder, *names: str, content: str = TEXT) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")


# Which files.


def test_a_folder_is_read_in_order_of_names_and_lists_what_it_skips(tmp_path, capsys):
    write(tmp_path, "b.txt", "a.txt", "sub/c.txt", "README.txt", "vocab.txt", "notes.md")
    write(tmp_path, ".hidden.txt", ".git/x.txt", "bert/vocab.txt", "bert/more.txt", "x.lock", "LICENSE")
    assert names_of(tmp_path) == ["a.txt", "b.txt", "sub/c.txt"]
    told = capsys.readouterr().out
    assert "not read as text: LICENSE, README.txt, notes.md, vocab.txt, x.lock" in told


def test_an_unprocessed_wiki_zh_folder_can_be_read(tmp_path):
    write(tmp_path, "AB/wiki_00", "AA/wiki_01", "AA/wiki_00", content=RECORD)
    write(tmp_path, "AA/notes")
    assert names_of(tmp_path) == ["AA/wiki_00", "AA/wiki_01", "AB/wiki_00"]
    assert {source.format for source in sources_of(tmp_path)} == {"json-lines"}


def test_many_files_make_no_long_message(tmp_path, capsys):
    write(tmp_path, *(f"{i:02}.txt" for i in range(50)), *(f"{i:02}.md" for i in range(50)))
    sources_of(tmp_path)
    sources_of(sorted(tmp_path.glob("*.txt")))
    told = capsys.readouterr().out
    assert "04.md and 45 more\n" in told and "04.txt and 45 more: 50 files of plain text" in told


def test_a_file_may_have_any_name_and_files_may_be_listed(tmp_path):
    write(tmp_path, "README.txt", "corpus")
    assert names_of(tmp_path / "corpus") == ["corpus"]
    both = [str(tmp_path / "corpus"), tmp_path / "README.txt", f"file://{tmp_path}/corpus"]
    assert names_of(both) == ["README.txt", "corpus"]
    assert sources_of(sources_of(both)) == sources_of(both)


def test_files_of_one_name_in_two_folders_are_two(tmp_path):
    write(tmp_path, "b/text.txt", "a/text.txt")
    assert names_of([tmp_path / "b", tmp_path / "a"]) == ["a/text.txt", "b/text.txt"]


def test_names_and_order_do_not_depend_on_the_folders_path(tmp_path):
    names = ["ü.txt", "a.txt", "Z.txt", "b/x.txt", "b.txt", "一.txt"]
    for place, order in (("here", names), ("there/too", reversed(names))):
        write(tmp_path / place, *order)
    assert names_of(tmp_path / "here") == names_of(tmp_path / "there/too") == sorted(names)


def test_the_order_does_not_depend_on_the_locale(tmp_path):
    write(tmp_path, "ü.txt", "Z.txt", "a.txt")
    program = (
        "import sys; from nemo.collections.nlp.data.inputs import sources_of;"
        "print(ascii([s.name for s in sources_of(sys.argv[1])]))"
    )
    for locale in ("C", "C.UTF-8"):
        environment = os.environ | {"LC_ALL": locale, "PYTHONHASHSEED": "7", "RANK": "1"}  # logs nothing
        words = [sys.executable, "-c", program, str(tmp_path)]
        told = subprocess.run(words, env=environment, check=True, capture_output=True, text=True).stdout
        assert told.strip() == ascii(["Z.txt", "a.txt", "ü.txt"])


@pytest.mark.parametrize("name", ["a\tb\nc.txt", "中文 😀.txt", "x" * 251 + ".txt"])
def test_odd_names_work(tmp_path, name):
    write(tmp_path, name)
    assert list(read_documents(tmp_path)) == DOCUMENTS


def test_a_token_store_beside_the_text_is_not_read_as_text(tmp_path):
    write(tmp_path, "a.txt", "out/train/manifest.json", "out/train/tokens.bin", "out/train/notes.txt")
    assert names_of(tmp_path) == ["a.txt"]
    with pytest.raises(DataError, match="a token store, not text"):
        sources_of(tmp_path / "out/train")


def test_shards_are_not_text(tmp_path):
    (tmp_path / "x_training_0.hdf5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    for path in (tmp_path, tmp_path / "x_training_0.hdf5"):
        with pytest.raises(DataError, match=r"HDF5 shards, not text.*add data_preprocessed"):
            sources_of(path)


# What is no file.


def test_missing_and_empty_inputs_are_errors(tmp_path):
    with pytest.raises(MissingFileError, match=r"missing\.txt"):
        sources_of(tmp_path / "missing.txt")
    with pytest.raises(
        DataError, match=r"no text in this folder; found nothing, expected files named \*\.txt"
    ):
        sources_of(tmp_path)
    write(tmp_path, "notes.md")
    with pytest.raises(DataError, match=r"no text in this folder; found notes\.md"):
        sources_of(tmp_path)


@pytest.mark.parametrize("name", ["pipe.txt", "wiki_00"])
def test_a_pipe_or_a_socket_is_refused_without_waiting(tmp_path, name):
    write(tmp_path, "a.txt")
    os.mkfifo(tmp_path / name)
    with pytest.raises(DataError, match=f"{name}: not a regular file"):
        sources_of(tmp_path)
    (tmp_path / name).unlink()
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(str(tmp_path / name))
        with pytest.raises(DataError, match=f"{name}: not a regular file"):
            sources_of(tmp_path)


@pytest.mark.parametrize("target", ["missing.txt", "real", "link.txt", "."])
def test_a_link_in_a_folder_is_refused(tmp_path, target):
    write(tmp_path, "real")
    (tmp_path / "link.txt").symlink_to(tmp_path / target)  # broken, to a file, to itself, to a folder
    with pytest.raises(DataError, match=r"link\.txt: a link, not a f"):
        sources_of(tmp_path)


def test_a_folder_with_the_name_of_a_text_is_a_folder(tmp_path):
    write(tmp_path, "x.txt/a.txt")
    assert names_of(tmp_path) == ["a.txt"]


# What a file is.


@pytest.mark.parametrize("ending", ["", *COMPRESS])
@pytest.mark.parametrize("is_named", [True, False])
def test_compressed_files_are_recognized_by_their_content(tmp_path, ending, is_named):
    for name, content in (("a.txt", TEXT), ("b.jsonl", RECORD), ("c.csv", "text\nOne. Two.\n")):
        data = content.encode()
        if ending:
            data = COMPRESS[ending](data[:9]) + COMPRESS[ending](data[9:])  # such files may be joined
        (tmp_path / (name + ending * is_named)).write_bytes(data)
    assert list(read_documents(tmp_path)) == [*DOCUMENTS, ["One.", "Two."], ["One. Two."]]
    assert [source.format for source in sources_of(tmp_path)] == ["text", "json-lines", "csv"]


@pytest.mark.parametrize("ending", COMPRESS)
def test_a_truncated_compressed_file_is_an_error(tmp_path, ending):
    content = "".join(f"{i} is a number.\n" for i in range(60_000)).encode()
    (tmp_path / f"a.txt{ending}").write_bytes(COMPRESS[ending](content)[:-50])
    with pytest.raises(DataError, match=rf"a\.txt\{ending}: "):
        list(read_documents(tmp_path))


def test_a_suffix_of_another_compression_is_an_error(tmp_path):
    write(tmp_path, "a.txt.gz")
    with pytest.raises(DataError, match=r"a\.txt\.gz: has the suffix of a gzip file, but is not one"):
        sources_of(tmp_path)


def test_json_lines_are_recognized_by_their_content(tmp_path):
    write(tmp_path, "a.txt", content=RECORD * 5)
    write(tmp_path, "b.txt", content='{"braces"} in prose\n{x}\n')
    assert [source.format for source in sources_of(tmp_path)] == ["json-lines", "text"]


@pytest.mark.parametrize(
    ("content", "found"),
    [('[{"text": "a"}]', "a JSON list"), ('{\n "text": "a"\n}', "JSON of several lines")],
)
def test_other_json_is_refused_with_advice(tmp_path, content, found):
    write(tmp_path, "a.json", content=content)
    with pytest.raises(DataError, match=f"not JSON lines; found {found}, .*fix: jq -c"):
        sources_of(tmp_path)


def test_files_beside_a_data_set_are_not_read(tmp_path):
    write(tmp_path, "data.json", content=RECORD)
    write(tmp_path, "dataset_info.json", "state.json", content='{"a": 1}')
    assert names_of(tmp_path) == ["data.json"]


def test_a_work_folder_beside_the_text_is_not_read_as_text(tmp_path):
    write(tmp_path, "a.txt", "run/checkpoints/STEP-1/vocab.txt", "run/tokenizer/made-for.json")
    write(tmp_path, "run/metrics.jsonl", "run/status.json", content='{"step": 1}\n')
    assert names_of(tmp_path) == ["a.txt"]


def test_the_format_can_be_given(tmp_path):
    write(tmp_path, "a.txt", "b.md", "c")
    write(tmp_path, "d.jsonl", content=RECORD)
    assert names_of(tmp_path, format="text") == ["a.txt", "b.md", "c"]
    assert the_source(tmp_path / "d.jsonl", format="text", layout="lines").layout == "lines"


def test_mixed_formats_are_reported(tmp_path, capsys):
    write(tmp_path, "text.txt")
    write(tmp_path, "AA/wiki_00", content=RECORD)
    sources_of(tmp_path)
    told = capsys.readouterr()
    assert "contains JSON lines and plain text; all are read" in told.err
    assert "1 file of plain text, a blank line ends a document (layout 'blank')" in told.out


def _docx() -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("word/document.xml", "<w/>")
    return data.getvalue()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"%PDF-1.7\n%\xe2\xe3", "a PDF.*fix: extract its text"),
        (_docx(), "a Word document .*fix: export it as plain text"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office document"),
        (b"\x89PNG\r\n", "a picture"),
        (b"\x7fELF" + bytes(1 << 20), "a program"),
        (bytes(1 << 20), "looks binary.*1048576 NUL bytes"),
        (gzip.compress(bytes(257) + b"ustar" + bytes(250), mtime=0), r"an archive \(tar\).*unpack"),
        ("Some words in a file.".encode("utf-16"), "text in UTF-16.*iconv -f utf-16 "),
        ("Some words in a file.".encode("utf-16-be"), "text in UTF-16.*iconv -f utf-16-be"),
        ("Some words in a file.".encode("utf-32"), "text in UTF-32.*iconv -f utf-32 "),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer.*git lfs pull"),
        (b"<!DOCTYPE html><p>text", "HTML or XML"),
    ],
)
def test_files_that_are_not_text_are_refused_with_advice(tmp_path, content, told):
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(DataError, match=rf"a\.txt: {told}"):
        sources_of(tmp_path)


# Whether it is still the same.


def test_a_changed_file_is_noticed_and_a_copy_has_the_same_hash(tmp_path):
    write(tmp_path, "a.txt", "b.txt")
    source, copy = sources_of(tmp_path)
    assert content_hash(source) == content_hash(copy)
    check_unchanged(source)
    os.utime(source.path, ns=(0, 0))
    with pytest.raises(DataError, match="changed while it was being read"):
        check_unchanged(source)
    with pytest.raises(DataError, match="changed while it was being read"):
        list(read_documents(source))
    os.remove(copy.path)
    with pytest.raises(MissingFileError, match=r"b\.txt"):
        list(read_documents(copy))


def test_a_file_that_is_shorter_than_it_was_is_an_error(tmp_path):
    write(tmp_path, "a.txt")
    source = the_source(tmp_path)
    with pytest.raises(DataError, match="was truncated"):
        list(read_documents(replace(source, num_bytes=source.num_bytes + 1)))


def test_the_same_file_by_two_spellings_is_read_once(tmp_path, monkeypatch):
    write(tmp_path, "corpus.txt")
    monkeypatch.chdir(tmp_path)
    assert len(sources_of(["corpus.txt", "./corpus.txt", tmp_path / "corpus.txt"])) == 1


def test_a_broken_first_record_does_not_hide_a_file_of_json_lines(tmp_path):
    folder = tmp_path / "wiki_zh" / "AA"
    folder.mkdir(parents=True)
    (folder / "wiki_00").write_text('{"text": "One."}\n')
    (folder / "wiki_01").write_text('{"id":1,"text":"broken\n{"text": "Two."}\n')
    with pytest.raises(DataError, match=r"wiki_01:1"):
        list(read_documents(tmp_path / "wiki_zh"))


def test_articles_may_be_called_like_files_that_are_not_read_as_json(tmp_path):
    write(tmp_path, "state.txt", "config.txt", "city.txt", "config.json", "license.txt")
    assert [source.name for source in sources_of(tmp_path)] == ["city.txt", "config.txt", "state.txt"]


@pytest.mark.slow
@pytest.mark.parametrize("ending", COMPRESS)
@pytest.mark.parametrize("size", [24, 300_000])
def test_data_after_the_compressed_stream_is_reported_and_skipped(tmp_path, capsys, ending, size):
    content = "".join(f"{i} is a number.\n\n" for i in range(60_000)).encode()
    data = COMPRESS[ending](content) + COMPRESS[ending](TEXT.encode())
    (tmp_path / f"a.txt{ending}").write_bytes(data + b"junk" * (size // 4))
    options = TextOptions(layout="blank")
    assert len(list(read_documents(tmp_path, options))) == 60_002
    told = capsys.readouterr().err
    assert f"a.txt{ending}: data after byte {len(data)} is not " in told
    capsys.readouterr()
    (tmp_path / f"a.txt{ending}").write_bytes(data + bytes(size))  # padding
    assert len(list(read_documents(tmp_path, options))) == 60_002
    assert "data after byte" not in capsys.readouterr().err


@pytest.mark.parametrize("ending", COMPRESS)
def test_a_damaged_second_member_is_an_error(tmp_path, ending):
    content = "".join(f"{i} is a number.\n" for i in range(9000)).encode()
    second = bytearray(COMPRESS[ending](content))
    second[len(second) // 2 :] = bytes(len(second) - len(second) // 2)
    (tmp_path / f"a.txt{ending}").write_bytes(COMPRESS[ending](content) + second)
    with pytest.raises(DataError, match="damaged: it cannot be decompressed"):
        list(read_documents(tmp_path))

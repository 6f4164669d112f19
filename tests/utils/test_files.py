"""Files that are there whole or not at all."""

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from nemo.utils.errors import StorageError, UsageError
from nemo.utils.files import (
    let_umask_decide,
    make_folder,
    missing,
    replacing,
    storage_errors,
    write_atomically,
)


def test_content_is_replaced_and_nothing_is_left_beside(tmp_path):
    path = tmp_path / "status.json"
    path.write_bytes(b"a long old content")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["status.json"]


def test_files_have_the_permissions_of_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "file", b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def test_a_failed_write_is_a_storage_error_and_leaves_nothing(tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    with pytest.raises(StorageError, match="taken: is a directory"):
        write_atomically(tmp_path / "taken", b"content")
    with pytest.raises(StorageError, match="no such file or directory"):
        write_atomically(tmp_path / "missing" / "file", b"content")
    assert [entry.name for entry in tmp_path.iterdir()] == ["taken"]


def test_other_errors_pass():
    with pytest.raises(UsageError, match="mine"), storage_errors("somewhere"):
        raise UsageError("mine")
    with pytest.raises(StorageError, match=r"^the first$"), storage_errors("somewhere"):
        raise StorageError("the first")


def test_files_of_other_libraries_get_the_umasks_permissions(tmp_path):
    """safetensors and tempfile let nobody but the owner read what they make."""
    (tmp_path / "folder").mkdir()
    before = os.umask(0o022)
    try:
        with replacing(tmp_path / "file") as aside:
            assert not aside.exists()  # some open what they write for a new file only, as HDF5 does
            handle, name = tempfile.mkstemp(dir=tmp_path)
            os.close(handle)
            os.replace(name, aside)
        handle, name = tempfile.mkstemp(dir=tmp_path / "folder")
        os.close(handle)
        let_umask_decide(tmp_path / "folder")
    finally:
        os.umask(before)
    for path in (tmp_path / "file", name):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o644
    assert len(list((tmp_path / "folder").iterdir())) == 1


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("corpas.txt", "found nothing of this name in {here}, expected text; fix: did you mean corpus.txt?"),
        ("zzz", "found nothing of this name in {here}, expected text"),
        ("texts/wiki/corpus.txt", "found no folder {here}/texts, expected text"),
        ("link", "found a link to nowhere, which does not exist, expected text"),
    ],
)
def test_a_missing_file_is_an_error_that_lists_what_exists(path, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "corpus.txt").touch()
    (tmp_path / "link").symlink_to("nowhere")
    assert str(missing(path, "text")) == f"{path}: no such file or folder; {told.format(here=tmp_path)}"


FLICKER = """
import os, sys
while True:
    os.makedirs(sys.argv[1], exist_ok=True)
    os.rmdir(sys.argv[1])
"""


def test_a_folder_is_made_while_another_process_removes_it(tmp_path):
    with subprocess.Popen([sys.executable, "-c", FLICKER, tmp_path / "a"]) as process:
        try:
            for _ in range(20_000):
                make_folder(tmp_path / "a")
            assert process.poll() is None
        finally:
            process.kill()


@pytest.mark.parametrize("make", [Path.touch, lambda path: path.symlink_to("nothing")], ids=["file", "link"])
def test_a_folder_does_not_replace_something_else(tmp_path, make):
    make(tmp_path / "a")
    with pytest.raises(FileExistsError):
        make_folder(tmp_path / "a")

"""What tests share is whole, or it is made again."""

import pytest

from tests.conftest import made_once, write_english


def test_a_folder_that_failed_to_build_is_rebuilt(tmp_path):
    def fail(folder):
        write_english(folder)
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        made_once(tmp_path / "english", fail)
    made_once(tmp_path / "english", write_english)
    before = (tmp_path / "english" / "train.txt").stat().st_ino
    made_once(tmp_path / "english", fail)  # nobody makes it a second time
    assert (tmp_path / "english" / "train.txt").stat().st_ino == before

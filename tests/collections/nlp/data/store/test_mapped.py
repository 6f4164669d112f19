"""Arrays that are files do not fill memory, and are what they were."""

from pathlib import Path

import numpy as np
import pytest

from nemo.collections.nlp.data.store.mapped import SMALL, let_go, taken


@pytest.fixture
def large(tmp_path):
    """A file of zeros, but for a number here and there, mapped as token stores are."""
    path = tmp_path / "large.bin"
    array = np.memmap(path, "uint16", "w+", shape=SMALL)  # twice as many bytes
    array[:: SMALL // 1000] = np.arange(len(array[:: SMALL // 1000]))
    array.flush()
    return np.memmap(path, "uint16", "r").view(np.ndarray)


def mapped_bytes() -> int:
    """What this process has of files in its memory."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("RssFile:")[1].split()[0])


def test_released_pages_leave_memory_and_can_be_read_again(large):
    before = mapped_bytes()
    total = int(large.sum(dtype=np.int64))
    assert mapped_bytes() > before + large.nbytes // 2
    let_go(large)
    assert mapped_bytes() < before + large.nbytes // 10
    assert int(large.sum(dtype=np.int64)) == total > 0


def test_random_places_do_not_bring_the_whole_file_into_memory(large):
    at = np.random.default_rng(0).integers(0, len(large), (5000, 3))
    at[:, 0] -= at[:, 0] % (SMALL // 1000)
    expected = np.where(at % (SMALL // 1000) == 0, at // (SMALL // 1000), 0)
    let_go(large)
    before = mapped_bytes()
    np.testing.assert_array_equal(taken(large, at), expected)
    assert mapped_bytes() < before + large.nbytes // 10


def test_arrays_in_memory_and_small_files_are_left_alone(tmp_path):
    np.arange(1000).tofile(tmp_path / "small.bin")
    for array in (
        np.arange(1000),
        np.zeros(SMALL, np.uint8),
        np.memmap(tmp_path / "small.bin", "int64", "r").view(np.ndarray),
    ):
        expected = array[:10].tolist()
        let_go(array)
        assert taken(array, np.arange(10)).tolist() == expected


def test_taking_no_rows_gives_an_empty_array(large):
    assert taken(large, np.empty((0, 4), int)).shape == (0, 4)

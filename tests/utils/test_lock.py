"""The work folder's lock, between real processes."""

import os
import signal
import subprocess
import sys

import pytest

from nemo.utils.errors import BusyError, StorageError
from nemo.utils.lock import WorkFolderLock

HOLD = """
import sys, time
from nemo.utils.lock import WorkFolderLock
with WorkFolderLock(sys.argv[1]):
    print("in", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that is in `tmp_path`."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"in\n"
    yield process
    process.kill()
    process.communicate()


def test_the_error_names_the_process_that_holds_the_lock(tmp_path, holder):
    with (
        pytest.raises(BusyError, match=rf"process {holder.pid} on .+ since \d{{4}}-") as caught,
        WorkFolderLock(tmp_path),
    ):
        pass
    assert caught.value.exit_code == 8
    assert str(tmp_path) in str(caught.value)


def test_a_killed_process_releases_the_lock(tmp_path, holder):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with WorkFolderLock(tmp_path):
        pass


def test_a_child_does_not_keep_the_lock_of_its_parent(tmp_path):
    fork = HOLD.replace("time.sleep(600)", "import os; os.fork() or time.sleep(60)")
    subprocess.run([sys.executable, "-c", fork, tmp_path], stdout=subprocess.DEVNULL, check=True)
    with WorkFolderLock(tmp_path):
        pass


def test_a_released_lock_can_be_taken_again(tmp_path):
    for _ in range(2):
        with WorkFolderLock(tmp_path / "new"), pytest.raises(BusyError), WorkFolderLock(tmp_path / "new"):
            pass


def test_a_holder_that_is_not_yet_identified_is_reported(tmp_path):
    with WorkFolderLock(tmp_path):
        (tmp_path / ".lock").write_text('{"pid"')
        with pytest.raises(BusyError, match="not identified itself"), WorkFolderLock(tmp_path):
            pass


def test_a_lock_that_is_a_link_is_refused(tmp_path):
    (tmp_path / "precious").write_text("kept")
    (tmp_path / ".lock").symlink_to("precious")
    with pytest.raises(StorageError), WorkFolderLock(tmp_path):
        pass
    assert (tmp_path / "precious").read_text() == "kept"


def test_a_released_lock_leaves_no_files(tmp_path):
    with WorkFolderLock(tmp_path / "a/b"):
        assert (tmp_path / "a/b/.lock").is_file()
    assert not list(tmp_path.iterdir())
    with WorkFolderLock(tmp_path / "a/b"):
        (tmp_path / "a/b/run").mkdir()
    assert [path.name for path in (tmp_path / "a/b").iterdir()] == ["run"]


HURRY = """
import sys, time
from pathlib import Path
from nemo.utils.errors import BusyError
from nemo.utils.lock import WorkFolderLock
folder, held = Path(sys.argv[1]), 0
while held < 200:
    try:
        with WorkFolderLock(folder):
            (folder / "in").touch(exist_ok=False)
            (folder / "in").unlink()
            held += 1
    except BusyError:
        pass
"""


def test_two_processes_never_hold_the_lock_at_once(tmp_path):
    jobs = [subprocess.Popen([sys.executable, "-c", HURRY, tmp_path / "run"]) for _ in range(2)]
    assert [job.wait() for job in jobs] == [0, 0]
    assert not list(tmp_path.glob("run/*")) and not list(tmp_path.glob("run/.*"))

"""A folder after something that was refused in it."""

import pytest

from nemo.utils.errors import Preempted, UsageError
from nemo.utils.refusal import RestoreOnFailure


def content(folder):
    return {
        str(path.relative_to(folder)): path.read_text() if path.is_file() else None
        for path in folder.rglob("*")
    }


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "checkpoints/STEP-1").mkdir(parents=True)
    (tmp_path / "log_1.txt").write_text("a line\n")
    (tmp_path / "mine.txt").write_text("mine")
    return tmp_path


def work(folder, problem=None, begins=False):
    """Make what a run makes, and let it end with a problem."""
    with RestoreOnFailure(folder, made=["checkpoints", "made", "x_*"], appended=["log_*"]) as before:
        (folder / "made/deep").mkdir(parents=True)
        (folder / "made/deep/file").write_text("x")
        (folder / "x_1").write_text("x")
        (folder / "x_link").symlink_to(folder / "mine.txt")
        (folder / "checkpoints/STEP-2").mkdir()
        with open(folder / "log_1.txt", "a") as log:
            log.write("another line\n")
        (folder / "log_2.txt").write_text("new")
        (folder / "theirs.txt").write_text("somebody else's")
        if begins:
            before.begins()
        if problem is not None:
            raise problem


def test_a_refusal_removes_only_what_was_created(folder):
    before = content(folder)
    with pytest.raises(UsageError):
        work(folder, UsageError("no"))
    assert content(folder) == before | {"checkpoints/STEP-2": None, "theirs.txt": "somebody else's"}


@pytest.mark.parametrize(
    ("problem", "begins"), [(None, False), (UsageError("no"), True), (Preempted("stop"), False)]
)
def test_files_of_a_begun_or_stopped_run_are_kept(folder, problem, begins):
    if problem is None:
        work(folder)
    else:
        with pytest.raises(type(problem)):
            work(folder, problem, begins)
    assert content(folder)["log_1.txt"] == "a line\nanother line\n"
    assert {"made/deep/file", "x_1", "log_2.txt"} <= content(folder).keys()

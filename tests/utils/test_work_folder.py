"""What stands in a work folder."""

import json
import os
import subprocess
import sys

import pytest
import yaml

from nemo.utils.errors import StorageError
from nemo.utils.logging import logging
from nemo.utils.work_folder import WorkFolder

NOON = "2020-02-20_12-00-00"


@pytest.fixture
def folder(tmp_path):
    work_folder = WorkFolder(tmp_path / "run", timestamp=NOON)
    yield work_folder
    work_folder.close()


def rows(work_folder):
    return [json.loads(line) for line in work_folder.metrics_path.read_text().splitlines()]


def test_the_paths_of_a_work_folder(folder, tmp_path):
    assert folder.work_dir == tmp_path / "run"
    assert folder.checkpoint_dir == tmp_path / "run" / "checkpoints"
    assert folder.tensorboard_dir == tmp_path / "run" / "tensorboard"
    assert folder.checkpoint_dir.is_dir()


def test_time_may_be_a_folder(tmp_path):
    work_folder = WorkFolder(tmp_path, add_time=True, timestamp=NOON)
    assert work_folder.work_dir == tmp_path / NOON
    work_folder.close()


def test_the_command_is_kept(folder):
    text = (folder.work_dir / f"cmd-args_{NOON}.log").read_text()
    assert sys.argv[0] in text


def test_git_info_tells_commit_and_changes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    (tmp_path / "code.py").write_text("old\n")
    for command in (["init", "-q"], ["add", "code.py"], [*identity, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", *command], check=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout
    (tmp_path / "code.py").write_text("new\n")

    WorkFolder(tmp_path / "run", timestamp=NOON).close()
    text = (tmp_path / "run" / f"git-info_{NOON}.log").read_text()
    assert text.startswith(head)
    assert "-old\n+new\n" in text


def test_no_git_info_outside_a_checkout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    WorkFolder(tmp_path / "run").close()
    assert not list((tmp_path / "run").glob("git-info*"))


def test_files_are_copied_and_others_skipped(tmp_path, capsys):
    script = tmp_path / "train.py"
    script.write_text("code")
    files = [script, None, "/tmp/ipykernel_1/cell.py"]
    WorkFolder(tmp_path / "run", files_to_copy=files, timestamp=NOON).close()
    assert (tmp_path / "run" / f"train_{NOON}.py").read_text() == "code"
    said = capsys.readouterr().out
    assert "skipped None, which is not a file" in said
    assert "cell.py, which is not a file" in said


def test_each_log_holds_the_lines_of_its_own_run(tmp_path):
    first = WorkFolder(tmp_path / "first")
    logging.info("line one")
    second = WorkFolder(tmp_path / "second", global_rank=3, local_rank=1)
    logging.info("line two")
    second.close()
    logging.info("line three")
    first_log = (first.work_dir / "log_globalrank-0_localrank-0.txt").read_text()
    second_log = (second.work_dir / "log_globalrank-3_localrank-1.txt").read_text()
    assert "line one" in first_log and "line two" not in first_log
    assert "line two" in second_log and "line three" not in second_log


def test_ranks_come_from_torchrun(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "5")
    monkeypatch.setenv("LOCAL_RANK", "1")
    WorkFolder(tmp_path).close()
    assert (tmp_path / "log_globalrank-5_localrank-1.txt").exists()


def test_other_ranks_write_their_log_only(tmp_path):
    work_folder = WorkFolder(tmp_path, global_rank=1, files_to_copy=[__file__])
    work_folder.write_config({"a": 1})
    work_folder.write_status(step=1)
    work_folder.append_metrics({"step": 1})
    work_folder.truncate_metrics(0)
    work_folder.close()
    assert {path.name for path in tmp_path.iterdir()} == {
        "checkpoints",
        "log_globalrank-1_localrank-0.txt",
    }


def test_config_is_yaml_in_the_order_given(folder):
    folder.write_config({"work_dir": "ausgaben/größe", "lr": 1e-4, "betas": (0.9, 0.95), "seed": None})
    text = (folder.work_dir / "config.yaml").read_text()
    assert text.startswith("work_dir: ausgaben/größe\nlr: 0.0001\n")
    assert yaml.safe_load(text)["betas"] == [0.9, 0.95]


def test_status_keeps_fields_that_are_not_changed(folder):
    folder.write_status(state="training", step=3)
    folder.write_status(state="failed", code="DATA")
    status = json.loads((folder.work_dir / "status.json").read_text())
    assert status == {"state": "failed", "step": 3, "code": "DATA"}


def test_metrics_are_a_json_object_per_line(folder):
    folder.append_metrics({"step": 1, "loss": 2.5})
    folder.append_metrics({"step": 2, "loss": float("nan"), "lr": float("inf")})
    assert rows(folder) == [{"step": 1, "loss": 2.5}, {"step": 2, "loss": None, "lr": None}]


def test_resume_drops_later_rows_and_a_torn_line(folder):
    for step in (1, 2, 3, 2):
        folder.append_metrics({"step": step})
    with open(folder.metrics_path, "a") as file:
        file.write('{"step": 4, "lo')
    folder.truncate_metrics(2)
    folder.append_metrics({"step": 5})
    assert [row["step"] for row in rows(folder)] == [1, 2, 2, 5]


def test_truncating_missing_metrics_is_allowed(folder):
    folder.truncate_metrics(0)
    assert not folder.metrics_path.exists()


def test_training_survives_a_record_that_cannot_be_written(folder, capsys):
    folder.metrics_path.mkdir()
    (folder.work_dir / "status.json").mkdir()
    folder.append_metrics({"step": 1})
    folder.append_metrics({"step": 2})
    folder.write_status(step=2)
    warnings = capsys.readouterr().err
    assert warnings.count("metrics.jsonl: is a directory") == 1
    assert warnings.count("status.json: is a directory") == 1


def test_a_folder_that_cannot_be_made_is_a_storage_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="not a directory"):
        WorkFolder(tmp_path / "file" / "run")


def test_names_with_bytes_that_are_no_utf8_are_kept(tmp_path, monkeypatch, capsys):
    odd = os.fsdecode(b"caf\xe9")
    monkeypatch.setattr(sys, "argv", ["nemo-bert", odd])
    folder = WorkFolder(tmp_path / odd, timestamp=NOON)
    folder.write_config({"train_data": odd})
    folder.write_status(problem=odd)
    folder.append_metrics({"name": odd})
    logging.info("reading %s", odd)
    folder.close()
    assert (tmp_path / odd / f"cmd-args_{NOON}.log").read_bytes() == b"nemo-bert 'caf\xe9'\n"
    assert yaml.safe_load((folder.work_dir / "config.yaml").read_text()) == {"train_data": odd}
    assert json.loads((folder.work_dir / "status.json").read_text())["problem"] == odd
    assert rows(folder) == [{"name": odd}]
    log = (folder.work_dir / "log_globalrank-0_localrank-0.txt").read_text(encoding="utf-8")
    assert r"reading caf\udce9" in log and r"reading caf\udce9" in capsys.readouterr().out

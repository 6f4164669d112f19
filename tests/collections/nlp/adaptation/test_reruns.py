"""A rerun of `adapt`: after a kill, with other content, from another folder, with a task that is new."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from nemo.cli.main import main
from nemo.collections.nlp.adaptation import run as adaptation_run
from nemo.collections.nlp.options import AdaptationOptions
from tests.cli.outcome import error_of
from tests.conftest import write_english


def options_of(command: list[str], **changes: object) -> AdaptationOptions:
    """The same adaptation in Python."""
    names = [word.removeprefix("--") for word in command[3::2]]
    given = dict(zip(names, command[4::2], strict=True))
    counts = {name: int(given.pop(name)) for name in ("num_epochs", "seeds", "num_iters") if name in given}
    options = AdaptationOptions(model=command[1], text=(command[2],), **given, **counts)
    return replace(options, **changes)


def without_task(command: list[str]) -> list[str]:
    start = command.index("--task")
    return command[:start] + command[command.index("--text_layout") :]


@pytest.mark.slow
def test_a_kill_before_the_first_stage_is_done_costs_nothing(tmp_path, command):
    data, run = write_english(tmp_path / "english"), tmp_path / "run"
    sizes = [
        "--hidden_size",
        "32",
        "--num_hidden_layers",
        "1",
        "--num_attention_heads",
        "2",
        "--num_iters",
        "1",
    ]
    words = ["pretrain", "--data_dir", str(data), "--work_dir", str(run), "--vocab_size", "80", *sizes]
    assert main([*words, "--intermediate_size", "64", "--no-report", "data_text"]) == 0
    command = without_task(command)
    command[1] = str(run)
    assert main([*command, "--level", "vocabulary", "--num_iters", "1"]) == 2  # leaves nothing
    options = options_of(command, level="vocabulary", num_iters=None)
    adaptation_run.adapt(options)
    (tmp_path / "out/stages/begin.json").unlink()  # as after a kill: the export and the texts are there
    shutil.rmtree(tmp_path / "out/stages")
    assert adaptation_run.adapt(options).texts["base"]


@pytest.mark.slow
def test_other_content_under_the_same_name_is_refused(tmp_path, command, capsys):
    command = [*without_task(command), "--pieces", "0"]
    assert main(command) == 0
    for name, what in (("field.txt", "text"), ("general.txt", "replay"), ("bert/vocab.txt", "model")):
        before = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(before + b"more\n")
        assert main(command) == 2
        assert f"out, {what}: has changed since the adaptation began" in error_of(capsys)
        (tmp_path / name).write_bytes(before)
    (tmp_path / "field.txt").unlink()  # it is no longer needed
    assert main(command) == 0


@pytest.mark.slow
def test_time_and_leaks_of_earlier_attempts_are_told(tmp_path, command, capsys, monkeypatch):
    (tmp_path / "test").write_text("".join(f"{word} O\n" for word in "abcdefgh"))
    field = tmp_path / "field.txt"
    field.write_text(
        "\n\n".join([f"{word} cat a b c d e f g h ." for word in "ijklmno"]) + "\n\n" + field.read_text()
    )

    def interrupted(options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(adaptation_run, "finetune", interrupted)
        assert main(command) == 130
    seconds = tmp_path / "out/stages/seconds.json"
    assert "finetune_base" in json.loads(seconds.read_bytes())
    planted = json.loads(seconds.read_bytes()) | {"finetune_base": 3600.0}
    seconds.write_text(json.dumps(planted))
    assert main(command) == 0
    times, page = seconds.read_bytes(), (tmp_path / "out/report.html").read_text()
    assert json.loads(times)["finetune_base"] > 3600 and re.search(r"60\.\d min", page)
    capsys.readouterr()
    assert main(command) == 0
    assert seconds.read_bytes() == times
    assert "occur in the text" in capsys.readouterr().err and "occur in the text" in page


@pytest.mark.slow
def test_a_task_may_come_later_and_stays(tmp_path, command, capsys, monkeypatch):
    assert main([*without_task(command), "--pieces", "0"]) == 0
    pretrained = (tmp_path / "out/stages/continue.json").stat().st_mtime_ns
    assert main([*without_task(command), "--pieces", "0", "--seed", "5"]) == 2
    assert "--seed: the folder has an adaptation with a different option" in error_of(capsys)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert main([*command, "--pieces", "0"]) == 0
    assert (tmp_path / "out/stages/continue.json").stat().st_mtime_ns == pretrained
    assert "F1 on test after" in capsys.readouterr().out
    assert main([*command, "--pieces", "0", "--num_epochs", "2"]) == 2
    assert "--num_epochs: the folder has an adaptation with a different option" in error_of(capsys)


@pytest.mark.slow
def test_scores_without_a_test_set_say_what_they_are_of(tmp_path, command):
    result = adaptation_run.adapt(options_of(command, test=None, pieces=0, num_iters=1))
    assert "F1 on a tenth of train (which also selected the learning rate) after" in result.verdict
    assert Path(result.folder).name == "model"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--level", "vocabulary", "--pieces", "0"], "nothing would be left to do"),
        (["--level", "vocabulary", "--minutes", "5"], "--level vocabulary and --minutes cannot"),
        (["--level", "vocabulary", "--num_iters", "5"], "--level vocabulary and --num_iters cannot"),
        (["--level", "vocabulary", "--compare_stages"], "--level vocabulary and --compare_stages cannot"),
        (["--replay_share", "0.5"], "--replay_share: needs --replay"),
        (["--replay", "text.txt"], "--replay: the same text as that of the field"),
        (["--task", "classify"], "--task: needs --train"),
        (["--label_column", "x"], "--label_column: needs --train"),
        (["--lr", "1e-4"], "--lr: needs --train"),
    ],
)
def test_options_that_contradict_each_other_are_refused(capsys, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    assert main(["adapt", "bert", "text.txt", *words]) == 2
    assert message in error_of(capsys)

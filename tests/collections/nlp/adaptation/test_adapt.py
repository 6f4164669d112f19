"""Adapting end to end on a tiny BERT; what the verdict says of figures; leaks; restarts."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

from nemo.cli.main import main
from nemo.collections.nlp.adaptation.losses import ModelFigures
from nemo.collections.nlp.adaptation.page import write_page
from nemo.collections.nlp.adaptation.result import Adaptation, Score
from nemo.collections.nlp.adaptation.run import FOLDERS, adapt
from nemo.collections.nlp.adaptation.text import leak_into
from nemo.collections.nlp.finetuning.examples import LabeledText
from nemo.collections.nlp.options import AdaptationOptions
from tests.cli.outcome import error_of
from tests.huggingface_folders import write_huggingface


def adaptation(base, adapted, figure="f1"):
    scores = {"base": Score(*base), "adapted": Score(*adapted)} if figure else {}
    return Adaptation(Path("model"), {}, 0, figure, scores, "test.txt", {"extend": 60.0, "continue": 2220.0})


def test_the_verdict_is_one_sentence_with_its_error():
    gained = adaptation((0.70, 0.010, 5), (0.72, 0.005, 5))
    assert gained.gain == (pytest.approx(0.02), pytest.approx(math.sqrt((0.01**2 + 0.005**2) / 5)))
    assert gained.verdict == "+2.0 +- 0.5 F1 on test.txt after 38 minutes of adaptation"
    assert adaptation((0.72, 0.005, 5), (0.70, 0.01, 5)).verdict.startswith("-2.0 +- 0.5 F1")


def test_a_difference_within_the_noise_is_not_called_a_gain():
    unclear = adaptation((0.70, 0.02, 5), (0.72, 0.02, 5))
    assert unclear.verdict.startswith("no measurable gain (+2.0 +- 1.3 F1")
    assert "not conclusive" in adaptation((0.70, None, 1), (0.72, None, 1)).verdict
    assert "the gain is unknown" in adaptation(None, None, figure=None).verdict


def test_the_page_begins_with_the_verdict_and_what_follows_from_it(tmp_path):
    for base, adapted, advice in (
        ((0.70, 0.01, 5), (0.72, 0.01, 5), "The adapted model is better"),
        ((0.72, 0.01, 5), (0.70, 0.01, 5), "The base model is better"),
        ((0.70, 0.02, 5), (0.72, 0.02, 5), "The difference may be chance"),
        ((0.70, None, 1), (0.72, None, 1), "use --seeds 5"),
    ):
        measured = {"field": ModelFigures(None, 1.5, 0.01)}
        outcome = replace(adaptation(base, adapted), texts={"base": measured, "adapted": measured})
        page = write_page(outcome, tmp_path).read_text()
        heading, text = re.search(r"<h1>(.*?)</h1>\s*<p>(.*?)</p>", page).groups()
        assert heading == outcome.verdict and advice in text
        assert "1.500" in page and "1.00%" in page and "extending the vocabulary" in page


def test_the_page_warns_of_overfitting(tmp_path):
    outcome = adaptation((0.70, 0.02, 5), (0.71, 0.02, 5))
    for loss, is_worse in ((4.5, True), (4.3, False), (None, False)):
        texts = {
            "base": {"field": ModelFigures(4.4, 1.5, 0.0)},
            "adapted": {"field": ModelFigures(loss, 1.5, 0.0)},
        }
        page = write_page(replace(outcome, texts=texts), tmp_path).read_text()
        assert ("worse on held-out text of the field" in page) == is_worse


def test_a_test_part_needs_something_to_train_on(tmp_path, capsys):
    assert main(["adapt", "bert", "text.txt", "--test", "test.txt"]) == 2
    assert "--test: needs --train; fix: give the labeled" in error_of(capsys)


def test_test_sentences_are_found_in_running_text(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("Before. One two three, four five six\nseven EIGHT nine! After.\n\nAnother one.\n")
    leaked = LabeledText(("one two three four five six seven eight nine .",), ("x",), "test.csv:7")
    other = LabeledText(("one two three four five six seven eight ten",), ("x",), "")
    short = LabeledText(("another one",), ("x",), "")
    warning = leak_into(text, [leaked, other, short, leaked], "test", "the text")
    assert warning.startswith("2 of 4 examples of test occur in the text, the first at test.csv:7")
    assert leak_into(text, [other, short], "test", "the text") is None


@pytest.mark.slow
def test_adapt_writes_a_report_and_a_rerun_does_nothing(tmp_path, command, capsys):
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "base      F1" in printed and "adapted   F1" in printed and "F1 on test after" in printed
    page = (tmp_path / "out" / "report.html").read_text()
    assert "general text" in page and "entity-level micro F1" in page
    assert "http" not in page.replace("https://", "http://").split("<body>")[1]
    done = {path.stem: path.stat().st_mtime_ns for path in (tmp_path / "out" / "stages").iterdir()}
    assert {"begin", "extend", "continue", "measure_base", "measure_adapted"} <= done.keys()
    measured = json.loads((tmp_path / "out" / "stages" / "measure_base.json").read_text())["result"]
    assert measured["field"]["mlm_loss"] > 0 and measured["general"]["pieces_per_word"] > 1
    assert main(command) == 0  # nothing is left to do
    assert {path.stem: path.stat().st_mtime_ns for path in (tmp_path / "out" / "stages").iterdir()} == done
    capsys.readouterr()
    assert main([*command, "--num_iters", "6"]) == 2
    assert "an adaptation with a different option" in error_of(capsys)


@pytest.mark.slow
def test_without_new_entries_and_pretraining_the_model_is_the_base(tmp_path, command, monkeypatch):
    monkeypatch.setattr("nemo.collections.nlp.adaptation.run.WORTH_TOKENS", 2)  # no entry pays
    monkeypatch.setattr("nemo.collections.nlp.adaptation.run.WORTH_UNKNOWN", 2)
    options = AdaptationOptions(
        model=command[1],
        text=(command[2],),
        text_layout="lines",
        level="vocabulary",
        work_dir=str(tmp_path / "out"),
    )
    result = adapt(options)
    assert (str(result.folder), result.new_pieces) == (command[1], 0)
    assert result.texts["base"] == result.texts["adapted"]
    assert result.verdict.endswith("the gain is unknown")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--test", "fish"], "'B-Fish' is not in the training data"),
        (["--replay", "short.txt"], "--replay short.txt: too little text to hold some out for evaluation"),
        (["--max_seq_length", "9999"], "longer than the model allows"),
    ],
)
def test_a_refused_command_leaves_no_files(tmp_path, command, capsys, monkeypatch, change, message):
    monkeypatch.chdir(tmp_path)
    Path("fish").write_text("the O\n\nfish B-Fish\n")
    Path("short.txt").write_text("Too short.\n")
    assert main([*command, *change]) in (2, 3)
    assert message in error_of(capsys)
    assert not Path("out").exists()


@pytest.mark.slow
def test_pretraining_may_count_steps_and_let_the_masking_rate_fall(tmp_path, command):
    assert main([*command, "--num_iters", "3", "--mask_probability", "0.3:0.15", "--seeds", "1"]) == 0
    out = tmp_path / "out"
    assert json.loads((out / "stages" / "continue.json").read_text())["result"]["steps"] == 3
    assert "mask_probability: 0.3:0.15" in (out / "continue" / "config.yaml").read_text()


def test_minutes_and_steps_cannot_be_combined(command, capsys):
    assert main([*command, "--minutes", "1"]) == 2
    assert "--num_iters and --minutes cannot be combined" in error_of(capsys)


def test_a_masking_rate_is_refused_before_the_work(command, capsys):
    assert main([*command, "--mask_probability", "0.3:2"]) == 2
    assert "--mask_probability" in error_of(capsys)


@pytest.mark.slow
def test_general_text_may_be_measured_only(tmp_path, command):
    assert main([*command, "--replay_share", "0", "--seeds", "1"]) == 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert "general text" in page


@pytest.mark.slow
def test_each_stage_is_measured_on_request(tmp_path, command, capsys):
    capsys.readouterr()
    command = [*command, "--num_iters", "2", "--seeds", "1"]
    assert main(command) == 0
    assert "continued" not in capsys.readouterr().out
    assert main([*command, "--compare_stages"]) == 0  # also when all else is done
    printed = capsys.readouterr().out
    models = re.findall(r"^(\w+) +F1", printed, re.MULTILINE)
    assert models == ["base", "extended", "continued", "adapted"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Extended: the base with new entries only." in page
    assert "Continued: the base with more pretraining only." in page
    sizes = {
        model: json.loads((tmp_path / "out" / folder / "config.json").read_text())["vocab_size"]
        for model, folder in FOLDERS.items()
    }
    assert sizes["continued"] < sizes["extended"] == sizes["adapted"]


@pytest.mark.slow
def test_a_bert_without_mlm_head_is_extended_and_learns_one(tmp_path, command):
    write_huggingface(tmp_path / "bert", "BertModel")
    options = AdaptationOptions(
        model=command[1], text=(command[2],), text_layout="lines", num_iters=1, work_dir=str(tmp_path / "out")
    )
    result = adapt(options)
    assert result.new_pieces > 0
    assert result.texts["extended"]["field"].mlm_loss is None
    vocabulary = (tmp_path / "out" / "model" / "vocab.txt").read_text().split()
    # The head starts from frequencies: not even one step is needed to guess better than by chance.
    assert result.texts["adapted"]["field"].mlm_loss < math.log(len(vocabulary)) - 0.5


@pytest.mark.slow
def test_test_sentences_in_the_general_text_are_reported(tmp_path, command, capsys):
    words = [chr(number) for number in range(ord("a"), ord("k"))]
    (tmp_path / "test").write_text("".join(f"{word}\tO\n" for word in words))
    general = tmp_path / "general.txt"
    leaks = [f"{start} cat {' '.join(words)}." for start in words]  # not all of them are held out
    general.write_text("\n\n".join([*leaks, general.read_text()]))
    only_measured = ["--seeds", "1"]
    assert main([*command, "--replay_share", "0.5", *only_measured]) == 0
    told = capsys.readouterr().err
    assert f"1 of 1 examples of {tmp_path / 'test'} occur in --replay {general}" in told
    assert "occur in the text" not in told


@pytest.mark.slow
def test_nothing_is_said_about_next_sentences(tmp_path, command, capsys):
    assert main([*command, "--num_iters", "1", "--seeds", "1"]) == 0
    told = "".join(capsys.readouterr())
    assert "samples per epoch" in told
    assert "next-sentence" not in told and "second sentence" not in told

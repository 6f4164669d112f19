"""`nemo-bert pretrain TEXT`: everything is chosen, said, and kept for the next time."""

import json
import os
import shlex
import shutil
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from nemo.cli import recipe_run
from nemo.cli.main import main
from nemo.cli.pretrain import parse_options
from nemo.utils.errors import UsageError
from tests.cli.outcome import error_of, weights
from tests.conftest import write_english
from tests.huggingface_folders import write_huggingface

TINY = (
    "--no-report "
    "--size tiny --vocab_size 120 --max_seq_length 32 --threads 1 --num_iters 6 --eval_step_freq 2"
)


def rows(run):
    return [json.loads(line) for line in Path(run, "metrics.jsonl").read_text().splitlines()]


@pytest.fixture
def my_text(tmp_path, monkeypatch):
    """A folder to work in, with my_text.txt in a folder of its own."""
    write_english(tmp_path / "texts")
    os.rename(tmp_path / "texts/train.txt", tmp_path / "texts/my_text.txt")
    os.remove(tmp_path / "texts/valid.txt")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "texts/my_text.txt"


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("my.txt data_text", "give either a text or data_text/data_preprocessed"),
        ("my.txt --train_data other.txt", "given twice, as an argument and as --train_data"),
        ("my.txt --size mini --bert_checkpoint b", "--size and --bert_checkpoint cannot be combined"),
        ("--size tiny --train_data x", "--size: only available with the recipe"),
        ("my.txt --patience 2 --eval_step_freq -1", "--patience and --eval_step_freq -1 cannot"),
        ("my.txt --size huge", "not one of the choices"),
        ("my.txt --size bse", "did you mean 'base'?"),
    ],
)
def test_invalid_options_are_refused(words, found):
    with pytest.raises(UsageError, match=found.replace("?", r"\?")):
        parse_options(shlex.split(words))


def test_a_file_named_like_a_kind_of_data_needs_its_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data_text").write_text("A text.")
    assert main(["pretrain", "data_text"]) == 2
    assert "write ./data_text to train on it" in error_of(capsys)
    assert parse_options(["./data_text"]).texts == ("./data_text",)


@pytest.mark.slow
def test_a_dry_run_shows_the_table_and_writes_nothing(my_text, capsys):
    before = sorted(my_text.parent.parent.rglob("*"))
    assert main(["pretrain", str(my_text), "--dry_run", "--minutes", "2"]) == 0
    table = capsys.readouterr().out
    for word in ("tokenizer", "vocabulary", "model", "held out", "precision", "--minutes 2"):
        assert word in table
    assert sorted(my_text.parent.parent.rglob("*")) == before


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_the_table_has_every_word_of_its_reasons(width, monkeypatch, capsys):
    reason = "English, with spaces between words; a text of this size has too few of each to learn it twice"
    console = Console(width=width)
    monkeypatch.setattr(recipe_run, "make_console", lambda: console)
    recipe_run.print_table([("tokenizer", "word-piece, lower-cased", reason)])
    shown = capsys.readouterr().out
    assert all(len(line) <= width for line in shown.splitlines())
    assert set(reason.split()) <= set(shown.split())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "code", "found"),
    [
        ("--bert_checkpoint cut --max_seq_length 32", 4, "cut/model.safetensors"),
        ("--bert_checkpoint whole --max_seq_length 32 --tokenizer broken", 2, "broken"),
        ("--eval_data latin.txt", 3, "latin.txt:1: text that is not UTF-8"),
        ("--eval_data empty.txt", 3, "no text"),
        ("--tokenizer word-pice", 2, "did you mean 'word-piece'?"),
        ("--tokens_per_batch 16", 2, "less than the longest sequence"),
        ("--work_dir latin.txt", 2, "the work folder path is a file"),
        ("--masking stored", 2, "no masks are stored in text"),
    ],
)
def test_a_dry_run_fails_where_the_run_would(words, code, found, my_text, capsys):
    write_huggingface(Path("whole"))
    shutil.copytree("whole", "cut")
    weights_file = Path("cut/model.safetensors")
    weights_file.write_bytes(weights_file.read_bytes()[:2000])
    shutil.copytree("whole", "broken")
    Path("broken/tokenizer.json").write_text("{")
    Path("latin.txt").write_bytes("Käse und Brot.\n".encode("latin-1") * 1000)
    Path("empty.txt").write_text("")
    command = ["pretrain", str(my_text), "--num_iters", "2", "--threads", "1", *words.split()]
    before = sorted(Path().rglob("*"))
    capsys.readouterr()  # what writing the model said
    assert main([*command, "--dry_run"]) == code
    assert found in error_of(capsys)
    assert sorted(Path().rglob("*")) == before
    assert main(command) == code
    assert found in error_of(capsys)


@pytest.mark.slow
def test_a_run_leaves_nothing_beside_the_text_and_can_be_repeated(my_text, capsys):
    words = ["pretrain", str(my_text), *TINY.split()]
    assert main(words) == 0
    assert "held-out MLM loss" in capsys.readouterr().out
    assert [path.name for path in my_text.parent.iterdir()] == ["my_text.txt"]
    run = my_text.parent.parent / "outputs/my_text"
    text = (run / "config.yaml").read_text()
    assert "#   tokenizer: word-piece" in text and "#   held out: 10.0% of the documents" in text
    config = yaml.safe_load(text)
    assert (config["hidden_size"], config["keep_best"], config["num_iters"]) == (128, True, 6)
    train, test = (
        json.loads((run / "data" / name / "manifest.json").read_text())["counts"]["documents"]
        for name in ("train", "test")
    )
    assert train + test == 120  # none is lost
    assert main(["export", str(run), "exported"]) == 0
    assert "| training text | my_text.txt |" in Path("exported/README.md").read_text()
    recipe = json.loads((run / "recipe.json").read_text())
    assert list(recipe["languages"]) == ["en"]
    # The same command goes on, and has nothing to do; what is known is not predicted again; another text is
    # refused.
    (run / "recipe.json").write_text(json.dumps(recipe | {"languages": {"la": 1.0}}))
    assert main(words) == 0
    for part in json.loads((run / "about.json").read_text())["data"].values():
        assert part["languages"] == {"la": 1.0}
    assert sorted(p.name for p in (run / "checkpoints").glob("STEP-*"))[-1] == "STEP-6"
    other = my_text.with_name("other.txt")
    other.write_text(my_text.read_text().replace("The", "A"))
    capsys.readouterr()
    assert main(["pretrain", str(other), *TINY.split(), "--work_dir", str(run)]) == 2
    assert "the folder has a run on other text" in error_of(capsys)
    # And its configuration repeats it, to the bit.
    assert main(["pretrain", "--config", str(run / "config.yaml"), "--work_dir", "again"]) == 0
    first, second = (
        weights(folder / "checkpoints/STEP-6") for folder in (run, my_text.parent.parent / "again")
    )
    assert all((first[name] == second[name]).all() for name in first)


@pytest.mark.slow
def test_options_of_a_resume_are_shown_as_what_replaces_choices(my_text, capsys):
    words = ["pretrain", str(my_text), *TINY.split()]
    assert main([*words, "--num_iters", "2"]) == 0
    capsys.readouterr()
    assert main([*words, "--num_iters", "3", "--lr", "5e-4"]) == 0
    assert "from now on" in capsys.readouterr().out
    text = Path("outputs/my_text/config.yaml").read_text()
    changed = "--lr 0.0005, --num_iters 3 (given; replaces the choice made when the run began)"
    assert f"#   from now on: {changed}" in text and yaml.safe_load(text)["lr"] == 5e-4


@pytest.mark.slow
def test_prepared_text_and_held_out_text_of_its_own(my_text, capsys):
    held_out = my_text.with_name("held_out.txt")
    held_out.write_text(my_text.read_text()[:5000])
    words = [*TINY.split(), "--num_iters", "2"]
    assert main(["pretrain", str(my_text), "--eval_data", str(held_out), "--work_dir", "a", *words]) == 0
    assert sorted(p.name for p in my_text.parent.iterdir()) == ["held_out.txt", "my_text.txt"]
    assert not list(my_text.parent.parent.glob("a/data/test"))
    capsys.readouterr()
    assert main(["pretrain", "a/data", "--work_dir", "b", *words]) == 2
    assert "--vocab_size: the text is already tokenized; fix: leave it out" in error_of(capsys)
    at = words.index("--vocab_size")
    assert main(["pretrain", "a/data", "--work_dir", "b", *words[:at], *words[at + 2 :]]) == 0
    assert "already prepared" in capsys.readouterr().out


@pytest.mark.slow
def test_patience_ends_a_run_at_the_same_step_after_a_stop(my_text, capsys):
    """At a learning rate of 0.05 nothing is learned after the first steps."""
    spoiled = [*TINY.split(), "--lr", "0.05", "--grad_norm_clip", "-1", "--lr_policy", "CosineAnnealing"]
    words = [
        "pretrain",
        str(my_text),
        *spoiled,
        "--num_iters",
        "40",
        "--patience",
        "3",
        "--save_step_freq",
        "1",
    ]
    assert main([*words, "--work_dir", "whole"]) == 0
    assert "out of --patience" in capsys.readouterr().out
    last = rows("whole")[-1]
    assert last["step"] < 40
    # A run whose newest checkpoints are lost goes on from an older one, and ends where it would have.
    steps = sorted(int(p.name[5:]) for p in (my_text.parent.parent / "whole/checkpoints").glob("STEP-*"))
    for step in steps[1:]:
        shutil.rmtree(f"whole/checkpoints/STEP-{step}")
    assert main([*words, "--work_dir", "whole"]) == 0
    assert rows("whole")[-1]["step"] == last["step"]

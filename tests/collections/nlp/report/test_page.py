"""A report shows what is in a run's folder, whatever that is, and none of it becomes code of the page."""

import re

import pytest

from nemo.collections.nlp.report import write_report
from nemo.utils.errors import DataError, MissingFileError, UsageError
from tests.collections.nlp.report.run_folders import write_run

MOST_BYTES = 2_000_000
EVIL = '</script><script>alert(1)</script><img src=x onerror=alert(2)> & "quoted" $$x$$ {{ 1234 * 5678 }}'

FILES = ("metrics", "status", "config", "about", "guesses")


def page_on(*runs):
    return write_report(runs, runs[0] / "page.html").read_text(encoding="utf-8")


def body_of(page):
    """What a person reads, tags and scripts left out."""
    body = page[page.index("\n<body>\n") :]
    return re.sub(r"<script.*?</script>|<[^>]*>", " ", body, flags=re.DOTALL)


def test_the_page_shows_curves_figures_text_and_options(tmp_path):
    text = body_of(page_on(write_run(tmp_path / "mine")))
    for part in (
        "MLM loss", "MLM accuracy", "Learning rate", "Throughput",  # curves
        "held-out loss", "5.050 nats", "0.950 nats (the entropy is 6.000)",  # 5 + exp(-3), and 6 less that
        "cat", "90%", "documents", "English 100%", "entries", "layers", "lr", "0.5", "python", "3.11",
        "nemo-bert pretrain --lr 0.5",
    ):  # fmt: skip
        assert part in text, part


@pytest.mark.slow
def test_a_page_needs_nothing_else_and_is_small(tmp_path):
    runs = [write_run(tmp_path / f"run{i}", steps=2000) for i in range(8)]
    page = page_on(*runs)
    assert len(page.encode()) < MOST_BYTES
    addresses = re.findall(r"""<(?:script|link|img|iframe)[^>]*(?:src|href)=["']?([^"'> ]+)""", page)
    assert [address for address in addresses if not address.startswith("data:")] == []


def test_content_of_files_is_escaped(tmp_path):
    about = {"command": EVIL, "environment": {EVIL: EVIL}, "tokenizer": {EVIL: EVIL, "example": [EVIL]}}
    about["data"] = {"training": {EVIL: EVIL, "examples": [EVIL]}}
    sentence = {"before": EVIL, "word": EVIL, "after": EVIL, "guesses": {"1": [[EVIL, 0.5]]}}
    config = f"#  {EVIL}: {EVIL} ({EVIL})\nwork_dir: '{EVIL}'\n"
    run = write_run(
        tmp_path / EVIL.replace("/", "_"),
        about=about,
        guesses={"sentences": [sentence]},
        config=config,
        status={"state": EVIL, "problem": EVIL},
    )
    other = write_run(tmp_path / "other")
    page = page_on(run, other)
    assert "<script>alert(1)" not in page
    assert "<img" not in page
    assert "7006652" not in body_of(page)


@pytest.mark.slow
def test_choices_come_with_reasons_and_defaults_last(tmp_path):
    head = (
        "# Chosen.\n#   optimizer: AdamW at 0.5 (what it (mostly) likes)\n#   model: tiny: 2 layers (given)\n"
    )
    config = f"{head}seed: 0\nlr: 0.5\nmode: data_text\n"
    text = body_of(page_on(write_run(tmp_path / "run", config=config)))
    assert re.search(r"optimizer\s+AdamW at 0\.5\s+what it \(mostly\) likes", text)
    assert re.search(r"model\s+tiny: 2 layers\s+given", text)
    assert re.search(r"lr\s+0\.5.*at their defaults.*seed", text, re.DOTALL)


def test_runs_stand_side_by_side_and_have_names_of_their_own(tmp_path):
    config = "lr: 0.25\nmode: data_text\nseed: 0\n"
    runs = [write_run(tmp_path / "a" / "run"), write_run(tmp_path / "b" / "run", config=config)]
    text = body_of(page_on(*runs))
    assert all(str(run) in text for run in runs)
    assert re.search(r"lr\s+0\.5\s+0\.25", text)


@pytest.mark.parametrize("missing", FILES)
def test_a_run_without_one_of_its_files_is_reported(tmp_path, missing):
    assert "Result" in body_of(page_on(write_run(tmp_path / "run", **{missing: None})))


def test_a_run_without_held_out_text_says_so(tmp_path):
    text = body_of(page_on(write_run(tmp_path / "run", evaluations=False)))
    assert "nothing was held out" in text
    assert "Accuracy" not in text


def test_a_run_without_steps_has_no_curves(tmp_path):
    assert "there are no curves" in body_of(page_on(write_run(tmp_path / "run", metrics="")))


def test_time_of_a_resumed_run_is_that_of_all_its_parts(tmp_path):
    rows = "".join(
        f'{{"step": {n}, "mlm_loss": 5, "seconds": {s}}}\n' for n, s in ((1, 1), (2, 60), (3, 5), (4, 65))
    )
    assert "2 min 05 s" in body_of(page_on(write_run(tmp_path / "run", metrics=rows)))


ODD = [
    "",
    "{",
    "[]",
    "null",
    "7",
    '"text"',
    "\x00\ufffd",
    "[" * 100_000,
    '{"a": NaN}',
    '{"step": "x", "state": []}',
    '{"step": 1e999, "mlm_loss": true}',
    '{"data": {"training": []}, "model": 1, "environment": [], "tokenizer": 2}',
    '{"data": {"training": {"pairs": {"1": 2}, "languages": 3, "sentence_tokens": [1]}}}',
    '{"sentences": [1, {}, {"guesses": {"0": [["a"]]}}, {"guesses": {"x": []}}]}',
]


@pytest.mark.slow
@pytest.mark.parametrize("content", ODD, ids=range(len(ODD)))
def test_damaged_files_do_not_stop_a_report(tmp_path, content):
    assert "Result" in body_of(page_on(write_run(tmp_path / "run", **dict.fromkeys(FILES, content))))


def test_damaged_files_are_named(tmp_path):
    text = body_of(page_on(write_run(tmp_path / "run", **dict.fromkeys(FILES, "{"))))
    for name in ("status.json", "config.yaml", "about.json", "guesses.json"):
        assert f"{name} is damaged" in text
    assert "metrics.jsonl: 1 of its lines cannot be read" in text


def test_a_folder_that_is_not_a_run_is_refused(tmp_path):
    with pytest.raises(DataError, match="not the work folder of a run"):
        write_report([tmp_path], tmp_path / "page.html")
    with pytest.raises(MissingFileError, match="no such run"):
        write_report([tmp_path / "absent"], tmp_path / "page.html")
    assert list(tmp_path.iterdir()) == []


def test_a_report_never_replaces_a_file_that_is_not_one(tmp_path):
    (tmp_path / "text.txt").write_text("My text.")

    with pytest.raises(UsageError, match=r"text\.txt: not overwritten: the file is not a report"):
        write_report([write_run(tmp_path / "run")], tmp_path / "text.txt")
    with pytest.raises(UsageError, match="no such folder"):
        write_report([tmp_path / "run"], tmp_path / "nowhere" / "page.html")

    assert (tmp_path / "text.txt").read_text() == "My text."

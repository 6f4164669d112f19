"""`prepare`: text -> stores and shards, by whatever engine, whatever happens meanwhile."""

import gzip
import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from nemo.cli.main import main
from nemo.collections.nlp.data.datasets import BertPretrainingPreprocessedDataset
from nemo.collections.nlp.data.inputs import sources_of
from nemo.collections.nlp.data.store.token_store import TokenStore
from nemo.collections.nlp.data.tokenizers import load_tokenizer
from nemo.collections.nlp.data.tokenizers.vocabulary import train_tokenizer
from nemo.collections.nlp.preparation import plan, watch
from nemo.collections.nlp.preparation.options import PrepareOptions
from nemo.collections.nlp.preparation.prepare import prepare
from nemo.utils import progress
from nemo.utils.errors import UsageError
from tests.cli.outcome import error_of
from tests.collections.nlp.preparation.conftest import command, contents, start
from tests.conftest import PATIENCE, write_english


def test_both_forms_are_written_under_the_tutorials_names(undisturbed):
    manifest = json.loads((undisturbed / "manifest.json").read_bytes())
    assert [source["name"] for source in manifest["sources"]] == ["0.txt", "1.txt", "2.txt", "3.txt"]
    train, test = (TokenStore(undisturbed / name) for name in ("train", "test"))
    documents = [store.manifest["counts"]["documents"] for store in (train, test)]
    assert sum(documents) == manifest["counts"]["documents"] == 4 * 2800
    assert 0.07 < documents[1] / sum(documents) < 0.13
    for seq_length, predictions in ((32, 5), (64, 10)):
        name = (
            f"hdf5_lower_case_0_seq_len_{seq_length}_max_pred_{predictions}"
            "_masked_lm_prob_0.15_random_seed_7_dupe_factor_1"
        )
        shards = sorted(path.name for path in (undisturbed / name / "text").iterdir())
        assert shards == ["text_test_0.hdf5", *(f"text_training_{i}.hdf5" for i in range(3))]
        tokenizer = load_tokenizer(undisturbed / name / "bert")
        data = BertPretrainingPreprocessedDataset(undisturbed / name, predictions, tokenizer=tokenizer)
        assert len(data) == sum(
            file["rows"] for shard, file in manifest["shards"][name]["files"].items() if "training" in shard
        )
        assert sum(len(batch["labels"]) for batch in data.batches(512)) == len(data)


def test_nothing_but_the_result_is_left(undisturbed):
    names = {path.name for path in undisturbed.iterdir()}
    assert {name for name in names if not name.startswith("hdf5_")} == {
        "bert", "manifest.json", "test", "train"
    }  # fmt: skip


def test_no_document_is_on_both_sides(undisturbed):
    def texts(store: TokenStore) -> set[bytes]:
        starts = store.sentence_offsets[store.document_offsets]
        return {store.tokens[a:b].tobytes() for a, b in itertools.pairwise(starts)}

    assert not texts(TokenStore(undisturbed / "train")) & texts(TokenStore(undisturbed / "test"))


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_ends_with_the_same(undisturbed, corpus, tmp_path):
    rng = random.Random(3)
    words = command(corpus, tmp_path / "out", "--workers", "2")
    kills = 0
    for _ in range(3):
        run = start(words)
        time.sleep(rng.uniform(0.5, 5.0))
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
            kills += 1
        run.communicate()
    run = start(words)
    told = run.communicate(timeout=PATIENCE)[0]
    assert run.returncode == 0, told
    assert kills
    assert contents(tmp_path / "out") == contents(undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_killing_the_main_process_ends_its_workers(undisturbed, corpus, tmp_path, workers):
    words = command(corpus, tmp_path / "out", "--workers", workers)
    run = start(words)
    while not list(work_of(tmp_path / "out").glob("tasks/tokenize-*.json")):
        assert run.poll() is None
        time.sleep(0.01)
    os.kill(run.pid, signal.SIGKILL)
    run.communicate(timeout=PATIENCE)  # what is left of its processes would keep the pipe open
    run = start(words)
    told = run.communicate(timeout=PATIENCE)[0]
    assert run.returncode == 0, told
    assert contents(tmp_path / "out") == contents(undisturbed)


@pytest.mark.slow
def test_one_process_takes_only_what_it_needs(corpus, tmp_path):
    """What would take longer to import than a small text takes; as for every small text, unless told."""
    words = command(corpus, tmp_path / "out")
    script = (
        f"import sys; from nemo.cli.main import main; assert main({words}) == 0;"
        "heavy = {'torch', 'transformers', 'datatrove', 'multiprocess', 'pyarrow.compute'};"
        "heavy &= set(sys.modules); sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_little_work_is_that_of_text_and_passes_together(tmp_path, monkeypatch):
    (tmp_path / "text.txt").write_text("A line.\n" * 100)  # 800 bytes
    (tmp_path / "text.txt.gz").write_bytes(gzip.compress(b"A line.\n" * 100))

    def is_small(name: str, **options) -> bool:
        text = PrepareOptions(inputs=(str(tmp_path / name),), **options)
        return plan.make_plan(text, sources_of(text.inputs), "word-piece").is_small

    passes = {"phases": "16/2,32/4", "dupe_factor": 3}
    for limit, once, seven_times in ((799, False, False), (800, True, False), (5600, True, True)):
        monkeypatch.setattr(plan, "SMALL_BYTES", limit)
        assert (is_small("text.txt"), is_small("text.txt", **passes)) == (once, seven_times)
    stored = (tmp_path / "text.txt.gz").stat().st_size
    for limit, expected in ((stored, False), (stored * plan.COMPRESSION, True)):
        monkeypatch.setattr(plan, "SMALL_BYTES", limit)
        assert is_small("text.txt.gz") is expected


@pytest.mark.slow
def test_one_process_reports_its_progress(corpus, tmp_path, monkeypatch, capsys):
    for module, name in (
        (watch, "SECONDS_BETWEEN_GLANCES"),
        (watch, "SECONDS_BETWEEN_LOOKS"),
        (progress, "TICK"),
        (progress, "SILENCE"),
        (progress, "MOST_SILENCE"),
    ):
        monkeypatch.setattr(module, name, 0.01)
    assert main(command(corpus, tmp_path / "out")) == 0
    told = capsys.readouterr().out
    assert re.search(r"tokenize, [0-4] of 4 MB, [0-9]+ s", told)
    assert re.search(r"shards, [1-7] of 8 tasks, [0-9]+ s", told)


def work_of(out: Path) -> Path:
    return out / ".work"


def stopped(corpus: Path, out: Path) -> Path:
    """A run that was killed when all its parts were there and its shards were not."""
    run = start(command(corpus, out, "--workers", "1"))
    while not (work_of(out) / "assembled.json").exists():
        assert run.poll() is None
        time.sleep(0.02)
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate()
    return work_of(out)


@pytest.mark.slow
def test_existing_parts_are_not_rebuilt(undisturbed, corpus, tmp_path):
    work = stopped(corpus, tmp_path / "out")
    made = {path: path.stat().st_mtime_ns for path in work.glob("parts/*/part.json")}
    assert len(made) == 4
    damaged = work / "parts" / "00002" / "tokens.bin"
    damaged.write_bytes(damaged.read_bytes()[:-2])
    (work / "assembled.json").unlink()
    (folder,) = (path.name for path in undisturbed.glob("hdf5_*seq_len_64*"))
    (tmp_path / "out" / folder / "text").mkdir(parents=True, exist_ok=True)
    (tmp_path / "out" / folder / "text" / f".text_test_0.hdf5.{0:032x}.tmp").write_bytes(b"half a shard")
    plan = work / "plan.json"
    seen: dict[Path, int] = {}
    run = start(command(corpus, tmp_path / "out", "--workers", "1"))
    while run.poll() is None and plan.exists():
        for path in made:
            if path.exists():
                seen[path] = path.stat().st_mtime_ns
        time.sleep(0.01)
    told = run.communicate()[0]
    assert run.returncode == 0, told
    assert {path.parent.name for path in made if seen[path] != made[path]} == {"00002"}
    assert contents(tmp_path / "out") == contents(undisturbed)


@pytest.mark.slow
def test_unfinished_work_with_other_options_is_discarded(corpus, tmp_path, capsys):
    stopped(corpus, tmp_path / "out")
    assert main([*command(corpus, tmp_path / "out"), "--test_fraction", "0", "--workers", "1"]) == 0
    assert not (tmp_path / "out" / "test").exists()
    assert "discarding unfinished work with different text or options" in capsys.readouterr().out


@pytest.mark.slow
def test_finished_work_is_not_repeated(undisturbed, corpus, capsys):
    before = {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*.bin")}
    assert main(command(corpus, undisturbed)) == 0
    assert "already exists" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*.bin")}


def test_a_folder_with_something_else_in_it_is_refused(corpus, undisturbed, tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    assert main(command(corpus, tmp_path)) == 5
    assert "notes.txt" in error_of(capsys)
    assert main(command(corpus, undisturbed, "--test_fraction", "0.2")) == 5
    assert "different options" in error_of(capsys)


@pytest.mark.slow
def test_two_runs_do_not_share_a_folder(corpus, tmp_path, capsys):
    run = start(command(corpus, tmp_path / "out", "--workers", "1"))
    while not (tmp_path / "out" / ".work").exists():
        assert run.poll() is None
        time.sleep(0.01)
    assert main(command(corpus, tmp_path / "out")) == 8
    assert f"process {run.pid}" in error_of(capsys)
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate()


@pytest.mark.slow
def test_a_worker_that_is_killed_ends_the_run_and_is_named(undisturbed, corpus, tmp_path):
    run = start(command(corpus, tmp_path / "out", "--workers", "2"))
    notes: list[Path] = []
    while not notes:
        assert run.poll() is None
        notes = [
            n for n in work_of(tmp_path / "out").glob("tasks/shards-*.json") if '"running"' in n.read_text()
        ]
    pid = json.loads(notes[0].read_text())["pid"]
    os.kill(pid, signal.SIGKILL)
    told = run.communicate(timeout=PATIENCE)[0]
    assert run.returncode == 7
    assert re.fullmatch(
        rf"error\[DISTRIBUTED\] task {notes[0].stem}, text/text_\w+\.hdf5 of (32|64) tokens: worker process "
        rf"{pid} was killed by SIGKILL, most likely because the memory ran out; fix: use fewer --workers, "
        r"and run the same command again: it resumes from the finished tasks",
        told.splitlines()[-1],
    )


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_the_error_of_a_task_reaches_the_user_as_it_was(corpus, tmp_path, workers):
    shutil.copytree(corpus / "text", tmp_path / "text")
    with open(tmp_path / "text" / "3.txt", "ab") as file:
        file.write(b"caf\xe9\n")
    words = command(corpus, tmp_path / "out", "--workers", workers)
    words[1] = str(tmp_path / "text")
    run = start(words)
    told = run.communicate(timeout=PATIENCE)[0]
    assert run.returncode == 3
    last = told.splitlines()[-1]
    assert last.startswith("error[DATA]") and "3.txt" in last and "0xe9" in last
    assert "Traceback" not in told


def test_duplicates_are_counted_and_removed_on_request(tmp_path):
    texts = [f"Document {i} tells of {i * i}.\nIt has two lines, and ends with {i}." for i in range(40)]
    (tmp_path / "text.txt").write_text("\n\n".join([*texts, *texts[:10]]), encoding="utf-8")
    found = []
    for remove in (False, True):
        options = PrepareOptions(
            inputs=(str(tmp_path / "text.txt"),),
            out=str(tmp_path / f"out-{remove}"),
            vocab_size=120,
            workers=1,
            text_layout="blank",
            remove_duplicates=remove,
        )
        manifest = prepare(options)
        assert manifest["counts"]["exact_duplicates"] == 10
        found.append(sum(store["counts"]["documents"] for store in manifest["stores"].values()))
    assert found == [50, 40]


def test_chinese_json_lines_become_both_forms(tmp_path):
    folder = tmp_path / "wiki_zh" / "AA"
    folder.mkdir(parents=True)
    subjects = ["长江", "黄河", "北京", "上海", "学校", "老师", "医院", "科学"]
    ends = ["历史悠久", "规模很大", "十分重要", "受到欢迎"]
    rng = random.Random(0)
    with open(folder / "wiki_00", "w", encoding="utf-8") as file:
        for number in range(60):
            text = "".join(
                f"{rng.choice(subjects)}的{rng.choice(subjects)}{rng.choice(ends)}。" for _ in range(8)
            )
            record = {"id": number, "title": f"第{number}", "text": f"第{number}\n\n{text}"}
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
    out = tmp_path / "out"
    words = [
        "prepare",
        str(tmp_path / "wiki_zh"),
        "--out",
        str(out),
        "--vocab_size",
        "100",
        "--phases",
        "32/5",
    ]
    assert main([*words, "--workers", "1"]) == 0
    store = TokenStore(out / "train")
    lengths = np.diff(store.sentence_offsets)
    assert len(lengths) == store.manifest["counts"]["documents"] * 8  # sentences, by their full stops
    assert store.starts_word.mean() < 0.8  # words of several characters
    (shards,) = out.glob("hdf5_*")
    assert (shards / "wiki_zh" / "wiki_zh_training_0.hdf5").is_file()


@pytest.mark.parametrize("phases", ["", "128", "128/20;512/80", "128/20,128/20", "a/b", "128/20,"])
def test_invalid_phases_are_refused(phases):
    with pytest.raises(UsageError, match="--phases"):
        PrepareOptions(inputs=("text.txt",), phases=phases)


def test_an_empty_text_is_an_error(tmp_path, capsys):
    (tmp_path / "text.txt").write_text(" \n\n")
    train_tokenizer("word-piece", [write_english(tmp_path / "english") / "train.txt"], tmp_path / "bert", 80)
    words = ["prepare", str(tmp_path / "text.txt"), "--out", str(tmp_path / "out"), "--workers", "1"]
    assert main([*words, "--tokenizer", str(tmp_path / "bert")]) == 3
    assert "text.txt: no text in the corpus" in error_of(capsys)


def test_the_order_of_inputs_leaves_no_trace(tmp_path):
    write_english(tmp_path / "english")
    paths = [str(tmp_path / "english" / name) for name in ("train.txt", "valid.txt")]
    for name, inputs in (("a", paths), ("b", paths[::-1])):
        out = ["--out", str(tmp_path / name), "--vocab_size", "100", "--phases", "16/2", "--workers", "1"]
        assert main(["prepare", *inputs, *out]) == 0
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_more_shards_than_documents_are_refused(tmp_path, capsys):
    (tmp_path / "text.txt").write_text("One line.\nAnd another.\n\n" * 2 + "A third.\nA last one.\n")
    words = ["prepare", str(tmp_path / "text.txt"), "--out", str(tmp_path / "out"), "--vocab_size", "60"]
    assert main([*words, "--phases", "16/2", "--num_shards", "50", "--workers", "1"]) == 2
    assert "more shards than documents" in error_of(capsys)


def test_published_splits_are_not_mixed_into_the_training_text(tmp_path, capsys):
    text = write_english(tmp_path / "english")
    (text / "valid.txt").rename(text / "test-00000.txt")
    out = tmp_path / "out"
    assert main(["prepare", str(text), "--out", str(out), "--vocab_size", "80", "--test_fraction", "0"]) == 0
    manifest = json.loads((out / "manifest.json").read_bytes())
    assert [source["name"] for source in manifest["sources"]] == ["train.txt"]
    assert manifest["counts"]["documents"] == 120
    assert "not trained on, by name: test-00000.txt (test)" in capsys.readouterr().out


def test_data_of_an_earlier_version_is_kept_with_a_warning(tmp_path, capsys):
    text = write_english(tmp_path / "english")
    (tmp_path / "book.txt").write_text((text / "valid.txt").read_text().replace("\n\n", "\n"))
    words = ["prepare", str(tmp_path / "book.txt"), "--out", str(tmp_path / "out"), "--vocab_size", "80"]
    assert main([*words, "--test_fraction", "0"]) == 0
    assert "out/train: 1 document: half of the pairs have a random B" in capsys.readouterr().err
    path = tmp_path / "out/manifest.json"
    manifest = json.loads(path.read_bytes())
    del manifest["reader"]
    path.write_text(json.dumps(manifest))
    assert main([*words, "--test_fraction", "0"]) == 0
    assert "was made by a version that splits text differently" in capsys.readouterr().err
    assert json.loads(path.read_bytes()) == manifest

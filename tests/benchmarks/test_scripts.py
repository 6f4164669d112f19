"""The benchmarks of the training step from their command lines, on tiny models."""

import json
from dataclasses import replace

import adapt
import finetune
import gpu
import pytest
import record
import saves
import step
import train
from measure import WARM_UP_STEPS
from overhead import PHASES
from ways import synthetic_batches

from tests.collections.nlp.finetuning.conftest import sentences, write_columns
from tests.conftest import write_english
from tests.huggingface_folders import write_huggingface

pytestmark = pytest.mark.slow
SHORT = ["--windows", "2", "--seconds", "0.02", "--probe_seconds", "0.02"]


def run(script, words, path):
    """Its report; whether the machine was steady meanwhile is nothing that a test can ask for."""
    assert script.main([*words, *SHORT, "--json", str(path)]) in (0, 1)
    return json.loads(path.read_text(encoding="utf-8"))


def test_step_script_runs(tmp_path, capsys):
    report = run(step, ["--shapes", "tiny", "--threads", "1", "--against"], tmp_path / "step.json")
    (case,) = report["cases"]
    (ours,) = case["ways"]
    assert case["problems"] == [] and ours["way"] == "ours O0"
    assert len(ours["windows"]) == 2 and ours["start_s"] > 0 and ours["peak_memory"] > 0

    tokens = [batch.tokens for batch in synthetic_batches(step.SHAPES["tiny"])]
    start = WARM_UP_STEPS
    for window in ours["windows"]:
        seen = range(start, start + window["steps"])
        assert window["tokens"] == sum(tokens[i % len(tokens)] for i in seen)
        start = seen.stop

    assert report["environment"]["versions"]["torch"] and report["environment"]["cpu"]["cores"]
    assert set(report["probe"]) == {"before", "after"} and isinstance(report["steady"], bool)
    assert "| ours O0 |" in capsys.readouterr().out


def test_step_script_keeps_its_results_when_it_is_stopped(tmp_path, monkeypatch):
    compare = step.compare

    def stopped_in_the_second_shape(jobs, *more):
        if jobs[0].shape.name == "pairs512":
            raise KeyboardInterrupt
        return compare(jobs, *more)

    monkeypatch.setattr(step, "compare", stopped_in_the_second_shape)
    path = tmp_path / "step.json"
    words = ["--shapes", "tiny", "pairs512", "--threads", "1", "--against", "--json", str(path)]
    with pytest.raises(KeyboardInterrupt):
        step.main([*words, *SHORT])
    (case,) = json.loads(path.read_text(encoding="utf-8"))["cases"]
    assert case["shape"]["name"] == "tiny" and len(case["ways"][0]["windows"]) == 2


def test_all_ways_get_the_same_batches_of_many_sizes(tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(step, "compare", lambda jobs, *more: (given.extend(jobs), ([], []))[1])
    monkeypatch.setitem(step.SHAPES, "tiny", replace(step.SHAPES["tiny"], padding=0.0, batch_size=8))
    words = ["--shapes", "tiny", "--against", "default", "bf16"]
    for more, sizes in ([], 10), (["--fixed_lengths"], 1):
        given.clear()
        step.main([*words, *SHORT, *more])
        tokens = [[batch.tokens for batch in job.batches] for job in given]
        assert all(each == tokens[0] for each in tokens) and len(given) > 3
        assert len(set(tokens[0])) == 1 if sizes == 1 else len(set(tokens[0])) > sizes


def test_a_record_in_one_command(tmp_path, capsys):
    text = write_english(tmp_path / "english") / "train.txt"
    words = ["--tiny", "--text", str(text), "--out", str(tmp_path / "record")]
    assert record.main(words) in (0, 1)  # 1: the machine was not steady
    told = (tmp_path / "record" / "README.md").read_text(encoding="utf-8")
    assert "| ours O0 |" in told and "| backward |" in told and "--minutes 0.05 took" in told
    assert str(tmp_path) not in told
    on_time = json.loads((tmp_path / "record" / "on_time.json").read_text(encoding="utf-8"))
    assert on_time["seconds"] > 3 and on_time["plan"].startswith("0:") and len(on_time["load"]) == 2
    assert record.main(words) in (0, 1)
    assert "step.txt exists" in capsys.readouterr().out


def test_a_real_run(tmp_path, capsys):
    text = write_english(tmp_path / "english") / "train.txt"
    words = [str(text), "--steps", "50", "--level", "O0", "--profile", "3"]
    options = "--vocab_size 120 --hidden_size 32 --num_hidden_layers 2 --num_attention_heads 2 "
    options += "--intermediate_size 64 --max_seq_length 32 --batch_size 4 --threads 1"
    path = tmp_path / "train.json"
    assert train.main([*words, *SHORT, "--json", str(path), *options.split()]) in (0, 1)
    (report,) = json.loads(path.read_text(encoding="utf-8"))["cases"]
    run = report["run"]
    assert [w["steps"] for w in run["windows"]] == [3, 3] and run["steps"] == 6
    assert 0 < run["tokens"] <= run["steps"] * 4 * 32
    assert 0 <= run["stall_share"] < 1 and 0 <= run["logging_share"] < 1
    assert report["share_of_loop"] == run["tokens_per_s"] / report["loop"]["tokens_per_s"]
    assert report["shape"]["padding_counted"] > 0 and len(report["loop"]["windows"]) == 2
    overhead = run["overhead"]
    assert overhead["ms"] > 0 and sum(overhead["phases_ms"].values()) == pytest.approx(overhead["ms"])
    assert all(overhead["phases_ms"][phase] > 0 for phase in PHASES)  # the functions are still called so
    assert overhead["reads"]["tolist"] >= 1
    told = capsys.readouterr().out
    assert "of the loop's" in told and "| backward |" in told


def test_gpu_on_a_cpu(tmp_path, capsys):
    words = ["--device", "cpu", "--tiny", "--level", "O0", "--threads", "1", "--shapes", "base512"]
    report = run(gpu, words, tmp_path / "gpu.json")
    (case,) = report["cases"]
    (ours,) = case["ways"]
    assert ours["way"] == "ours O0" and ours["syncs_per_step"] is None
    assert ours["mfu"] == ours["flops_per_s"] / 989e12
    lines = capsys.readouterr().out.splitlines()
    assert json.loads(next(line for line in lines if line.startswith("{"))) == case


def test_gpu_script_skips_what_time_does_not_allow(tmp_path):
    report = run(gpu, ["--device", "cpu", "--tiny", "--minutes", "-1"], tmp_path / "gpu.json")
    assert [case["ways"] for case in report["cases"]] == [[]] * 4
    assert all("no time was left" in problem for case in report["cases"] for problem in case["problems"])


def test_saves_script_runs(tmp_path, capsys):
    path = tmp_path / "saves.json"
    words = ["--shapes", "tiny", "--steps", "3", "--windows", "2", "--threads", "1", "--json", str(path)]
    assert saves.main(words) == 0
    (case,) = json.loads(path.read_text(encoding="utf-8"))["cases"]
    for way in ("none", "background", "waiting"):
        assert len(case["seconds_of_windows"][way]) == len(case["seconds_blocked"][way]) == 2
    assert case["bytes"] > 3 * 4 * 1200 * 32  # weights and two moments of the vocabulary alone
    assert "| tiny |" in capsys.readouterr().out


def test_finetune_script_runs(tmp_path, capsys):
    pytest.importorskip("accelerate", reason="Trainer needs the extra bench")
    write_huggingface(tmp_path / "bert", "BertModel", max_position_embeddings=128)
    train, test = write_columns(tmp_path / "train", 40, seed=1), write_columns(tmp_path / "test", 10, seed=2)
    path = tmp_path / "finetune.json"
    assert (
        finetune.main([*map(str, (tmp_path / "bert", train, test)), "--seeds", "1", "--json", str(path)]) == 0
    )
    runs = json.loads(path.read_text(encoding="utf-8"))["runs"]
    for way in ("ours", "theirs"):
        assert 0 <= runs[way][0]["f1"] <= 1 and runs[way][0]["seconds"] > 0
    assert "times as long" in capsys.readouterr().out


def test_adapt_script_runs(tmp_path, monkeypatch):
    write_huggingface(tmp_path / "bert", "BertModel", max_position_embeddings=128)
    for folder in ("bc5cdr_ner", "abc_news"):
        (tmp_path / folder).mkdir()
    for seed, name in enumerate(("train", "dev", "test")):
        path = write_columns(tmp_path / "bc5cdr_ner" / f"{name}.txt", 400, seed)
        path.write_text(path.read_text().replace("\n\nowl", "\n\n-DOCSTART- (1)\n\nowl"))  # of each abstract
    news = "\n\n".join("\n".join(words) for words in sentences(400, seed=3))
    (tmp_path / "abc_news" / "news.txt").write_text(news)
    small = replace(adapt.CASES["published_bio"], sizes=(40, 10, 20), lr="1e-2")
    monkeypatch.setitem(adapt.CASES, "published_bio", small)
    monkeypatch.setitem(adapt.MASK_CASES, "masks_published", ("published_bio", 2))
    out = tmp_path / "out"
    words = [tmp_path, "--published", tmp_path / "bert", "--out", out, "--seeds", "2", "--minutes", "0.02"]
    assert adapt.main([*map(str, words), "--only", "published_bio", "masks_published"]) == 0
    report = json.loads((out / "adapt.json").read_text(encoding="utf-8"))
    task, masks = report["published_bio"], report["masks_published"]
    assert [len(runs) for runs in task["runs"].values()] == [2, 2, 2, 2]
    assert task["scores"].keys() == {"base", "extended", "continued", "adapted"}
    assert all(loss > 0 for losses in masks["losses"].values() for loss in losses)

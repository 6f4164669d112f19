"""From a text file to a trained, evaluated, exported BERT, through the doors a user has."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from nemo.cli.main import main
from tests.cli.outcome import weights
from tests.conftest import PATIENCE, write_english

EXAMPLE = Path(__file__).parents[2] / "examples/nlp/language_modeling/bert_pretraining.py"
TINY = shlex.split(
    "--tokenizer word-piece --vocab_size 80 --hidden_size 32 --num_hidden_layers 2 --num_attention_heads 2 "
    "--intermediate_size 64 --max_seq_length 32 --batch_size 8 --optimizer adam_w --lr 1e-3 "
    "--train_step_freq 5 --eval_step_freq -1 --threads 1"
)


def pretrain(data: Path, work_dir: Path, *more: str) -> int:
    words = ["pretrain", "--data_dir", str(data), "--work_dir", str(work_dir), *TINY, "data_text", *more]
    return main(words)


def rows(work_dir: Path) -> list[dict]:
    return [json.loads(line) for line in (work_dir / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A work folder of 40 steps."""
    folder = tmp_path_factory.mktemp("trained")
    data = write_english(folder / "english")
    assert pretrain(data, folder / "run", "--num_iters", "40", "--lr_policy", "CosineAnnealing") == 0
    return folder / "run", data


def test_a_run_writes_all_documented_files(trained):
    run, _ = trained
    names = {path.name for path in run.iterdir()}
    assert {"config.yaml", "metrics.jsonl", "status.json", "tensorboard", "checkpoints", "tokenizer"} <= names
    assert (run / "checkpoints" / "bert-config.json").is_file()
    checkpoint = run / "checkpoints" / "STEP-40"
    files = {path.name for path in checkpoint.iterdir()}
    assert {"BERT.safetensors", "BertTokenClassifier.safetensors", "SequenceClassifier.safetensors"} <= files
    assert {"optimizer.safetensors", "state.json", "manifest.json", "bert-config.json", "vocab.txt"} <= files
    status = json.loads((run / "status.json").read_text())
    assert (status["state"], status["step"], status["checkpoint"]) == ("finished", 40, "STEP-40")
    assert list((run / "tensorboard").iterdir())


def test_a_run_ends_with_a_report_of_its_text_and_predictions(trained):
    run, data = trained
    log = (run / "log_globalrank-0_localrank-0.txt").read_text(encoding="utf-8").splitlines()
    after = log[next(i for i, line in enumerate(log) if "done: 40" in line) :]
    told = [line for line in after if "writing the report" not in line]  # a busy machine takes its time
    assert told[2].endswith(f"report: {run / 'report.html'}")
    page = (run / "report.html").read_text(encoding="utf-8")
    page = page[page.index("\n<body>\n") :]
    assert "<td>120</td>" in page and "English" in page  # documents of the text
    sentences = json.loads((run / "guesses.json").read_bytes())["sentences"]
    assert sentences and all(list(sentence["guesses"]) == ["0", "40"] for sentence in sentences)
    held_out = (data / "valid.txt").read_text(encoding="utf-8").lower()
    for sentence in sentences:
        words = f"{sentence['before']} {sentence['word']} {sentence['after']}".strip().replace(" .", ".")
        assert words.lower() in held_out


def test_metrics_have_the_documented_fields_and_the_loss_falls(trained):
    run, _ = trained
    training = [row for row in rows(run) if "loss" in row]
    evaluation = [row for row in rows(run) if "eval_loss" in row]
    assert [row["step"] for row in training] == [1, *range(5, 41, 5)]
    assert {
        "step", "epoch", "loss", "mlm_loss", "nsp_loss", "lr", "grad_norm", "tokens_per_s", "seconds"
    } == set(training[0])  # fmt: skip
    assert {
        "eval_mlm_loss", "eval_mlm_accuracy", "eval_nsp_loss", "eval_nsp_accuracy", "eval_unigram_entropy"
    } <= set(evaluation[-1])  # fmt: skip
    assert evaluation[-1]["step"] == 40
    assert training[-1]["mlm_loss"] < training[0]["mlm_loss"]
    assert training[0]["loss"] == pytest.approx(training[0]["mlm_loss"] + training[0]["nsp_loss"])


@pytest.mark.slow
def test_the_same_command_again_does_nothing_more(trained, capsys):
    run, data = trained
    before = {path: path.stat().st_mtime_ns for path in (run / "checkpoints").rglob("*.safetensors")}
    assert pretrain(data, run, "--num_iters", "40", "--lr_policy", "CosineAnnealing") == 0
    assert "resuming from" in capsys.readouterr().out
    after = {path: path.stat().st_mtime_ns for path in (run / "checkpoints").rglob("*.safetensors")}
    assert before == after


@pytest.mark.slow
def test_the_configuration_of_a_run_repeats_it(trained, tmp_path):
    run, _ = trained
    assert (
        main(["pretrain", "--config", str(run / "config.yaml"), "--work_dir", str(tmp_path / "again")]) == 0
    )
    first, again = (weights(d / "checkpoints" / "STEP-40") for d in (run, tmp_path / "again"))
    assert all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.slow
def test_a_run_killed_at_any_moment_resumes_to_the_same_weights(trained, tmp_path):
    run, data = trained
    words = [
        sys.executable, str(EXAMPLE), "--data_dir", str(data), "--work_dir", str(tmp_path / "killed"), *TINY,
        "--save_step_freq", "3", "data_text", "--num_iters", "40", "--lr_policy", "CosineAnnealing",
    ]  # fmt: skip
    checkpoints = tmp_path / "killed" / "checkpoints"
    for wanted in (2, 5):  # kill it once early and once later
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        while process.poll() is None and len(list(checkpoints.glob("STEP-*"))) < wanted - 1:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    assert "resuming from" in done.stdout
    expected, found = weights(run / "checkpoints" / "STEP-40"), weights(checkpoints / "STEP-40")
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    training = [row["step"] for row in rows(tmp_path / "killed") if "loss" in row]
    assert sorted(set(training)) == training  # no step is told twice


def test_evaluation_does_not_depend_on_the_batch_size(trained, capsys):
    run, data = trained
    told = []
    for batch_size in ("3", "16"):
        words = ["evaluate", str(run), "--eval_data", str(data / "valid.txt"), "--json"]
        assert main([*words, "--batch_size", batch_size]) == 0
        told.append(json.loads(capsys.readouterr().out))
    assert told[0] == pytest.approx(told[1], rel=1e-5)
    assert told[0]["mlm_loss"] == pytest.approx(rows(run)[-1]["eval_mlm_loss"], rel=1e-5)


def test_fill_mask_prints_predictions(trained, capsys):
    run, _ = trained
    assert main(["fill-mask", str(run), "The [MASK] sees the [MASK].", "--top", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert all(len(line.split()) == 6 for line in lines)  # three words, three probabilities
    assert main(["fill-mask", str(run), "Nothing is hidden."]) == 2


@pytest.mark.slow
def test_an_export_is_loaded_by_transformers(trained, tmp_path, capsys):
    from transformers import AutoTokenizer, BertForPreTraining

    run, _ = trained
    folder = tmp_path / "exported"
    assert main(["export", str(run), str(folder)]) == 0
    model, info = BertForPreTraining.from_pretrained(folder, output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("The cat sees the dog.", "The dog likes the cat.", return_tensors="pt")
    assert model(**ids).prediction_logits.shape[-1] == tokenizer.vocab_size
    assert tokenizer.model_max_length == 32  # so that truncation knows where to cut
    assert "nsp_accuracy" in (folder / "README.md").read_text()
    assert main(["export", str(run), str(folder)]) == 2
    assert main(["export", str(run), str(folder), "--force"]) == 0


def test_status_json_records_a_stopped_run(tmp_path):
    data = write_english(tmp_path / "english")
    assert pretrain(data, tmp_path / "run", "--lr", "1e30", "--optimizer", "sgd", "--num_iters", "9") == 6
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert status["state"] == "stopped"
    assert "not finite" in status["problem"]


@pytest.mark.slow
def test_starting_from_counts_beats_chance_before_the_first_step(tmp_path):
    data = write_english(tmp_path / "english")
    words = ["--num_iters", "1", "--initialization", "counts", "--eval_step_freq", "1"]
    assert pretrain(data, tmp_path / "run", *words) == 0
    first = next(row for row in rows(tmp_path / "run") if "eval_loss" in row)
    assert first["step"] == 0
    assert first["eval_mlm_loss"] < first["eval_unigram_entropy"] - 0.3


@pytest.mark.parametrize(
    "more", [("--patience", "2", "--eval_step_freq", "1"), ("--keep_best",)], ids=["patience", "keep_best"]
)
def test_options_that_compare_held_out_losses_need_held_out_data(tmp_path, capsys, more):
    data = write_english(tmp_path / "english")
    (data / "valid.txt").unlink()
    assert pretrain(data, tmp_path / "run", *more) == 2
    assert f"{more[0]}: there is no held-out data; fix: give it: --eval_data" in capsys.readouterr().err


@pytest.mark.slow
def test_minutes_become_steps_that_a_rerun_keeps(tmp_path, capsys):
    data = write_english(tmp_path / "english")
    assert pretrain(data, tmp_path / "run", "--minutes", "0.01") == 0
    steps = rows(tmp_path / "run")[-1]["step"]
    assert pretrain(data, tmp_path / "run", "--minutes", "0.01") == 0
    assert rows(tmp_path / "run")[-1]["step"] == steps


@pytest.mark.parametrize(
    ("more", "exit_code", "message"),
    [
        (("--batch_size", "0"), 2, "--batch_size: out of range; found 0"),
        (("--bach_size", "8"), 2, "did you mean --batch_size?"),
        (("--num_attention_heads", "5"), 2, "the hidden size is not divisible by the number of heads"),
        (("--num_epochs", "1", "--num_iters", "5"), 2, "--num_epochs and --num_iters cannot be combined"),
        (("--optimizer", "adamw"), 2, "did you mean 'adam_w'"),
        (("--train_data", "nowhere.txt"), 3, "nowhere.txt"),
        (("--vocab_size", "3"), 2, "vocab_size"),
        (("--load_dir", "nowhere"), 4, "nowhere: no checkpoint to resume from"),
        (("--bert_checkpoint", "nowhere.pt"), 3, "nowhere.pt: no such file"),
        (("--nsp_weight", "0"), 2, "--nsp_weight: out of range"),
        (
            ("--only_mlm_loss", "--nsp_weight", "0.5"),
            2,
            "--only_mlm_loss and --nsp_weight cannot be combined",
        ),
        (("--tokenizer", "wordpiece"), 2, "did you mean 'word-piece'"),
        (("--initialization", "counts", "--bert_checkpoint", "x"), 2, "one would overwrite the other"),
        (("--max_seq_length", "4"), 2, "--max_seq_length: out of range"),
        (("--config_file", "nowhere.json"), 3, "nowhere.json"),
    ],
)
def test_mistakes_end_in_one_line_and_the_right_exit_code(tmp_path, capsys, more, exit_code, message):
    data = write_english(tmp_path / "english")
    assert pretrain(data, tmp_path / "run", *more) == exit_code
    errors = [line for line in capsys.readouterr().err.splitlines() if " warning: " not in line]
    assert len(errors) == 1
    assert errors[0].startswith("error[")
    assert message in errors[0]


def test_a_rerun_with_other_data_or_sizes_is_refused(trained, tmp_path, capsys):
    run, data = trained
    assert pretrain(data, run, "--num_iters", "50", "--batch_size", "4") == 4
    assert "a different samples_per_step; found 8, expected 4" in capsys.readouterr().err
    assert pretrain(data, run, "--num_iters", "50", "--seed", "4") == 4
    assert "a different seed; found 0, expected 4" in capsys.readouterr().err
    assert pretrain(data, run, "--num_iters", "50", "--hidden_size", "16") == 4
    capsys.readouterr()
    assert pretrain(data, run, "--num_iters", "50", "--num_attention_heads", "4") == 4
    assert "a different num_attention_heads; found 2, expected 4" in capsys.readouterr().err
    assert pretrain(data, run, "--num_iters", "50", "--hidden_act", "relu") == 4
    assert "a different hidden_act; found gelu, expected relu" in capsys.readouterr().err


def test_a_refused_rerun_leaves_the_record_of_the_good_run_alone(trained):
    run, data = trained
    files = [run / "config.yaml", run / "checkpoints" / "bert-config.json", run / "metrics.jsonl"]
    before = [file.read_bytes() for file in files]
    assert pretrain(data, run, "--num_iters", "50", "--hidden_size", "16") == 4
    assert pretrain(data, run, "--num_iters", "50", "--vocab_size", "90") == 2
    assert [file.read_bytes() for file in files] == before


def test_a_rerun_of_a_finished_run_logs_no_metric_twice(trained):
    run, data = trained
    assert pretrain(data, run, "--num_iters", "40", "--lr_policy", "CosineAnnealing") == 0
    evaluated = [row["step"] for row in rows(run) if "eval_loss" in row]
    assert sorted(set(evaluated)) == evaluated


@pytest.mark.slow
def test_a_tokenizer_left_by_a_run_with_other_options_is_not_used(tmp_path, capsys):
    data = write_english(tmp_path / "english")
    assert pretrain(data, tmp_path / "run", "--vocab_size", "60", "--num_iters", "1") == 0
    shutil.rmtree(tmp_path / "run" / "checkpoints")  # as where it was killed before the first
    assert pretrain(data, tmp_path / "run", "--vocab_size", "70", "--num_iters", "1") == 0
    assert "was trained with a different vocab_size" in capsys.readouterr().out
    assert len((tmp_path / "run" / "tokenizer" / "vocab.txt").read_text().splitlines()) == 70


def test_a_configuration_file_gives_the_sizes(tmp_path):
    data = write_english(tmp_path / "english")
    sizes = {
        "model_type": "bert", "vocab_size": 70, "hidden_size": 24, "num_hidden_layers": 1,
        "num_attention_heads": 3, "intermediate_size": 48, "max_position_embeddings": 24,
    }  # fmt: skip
    config = tmp_path / "sizes.json"
    config.write_text(json.dumps(sizes))
    assert pretrain(data, tmp_path / "run", "--config_file", str(config), "--num_iters", "1") == 0
    saved = json.loads((tmp_path / "run" / "checkpoints" / "bert-config.json").read_text())
    assert {name: saved[name] for name in sizes} == sizes
    assert "max_seq_length: 24" in (tmp_path / "run" / "config.yaml").read_text()


@pytest.mark.slow
def test_only_the_masked_language_model_can_be_trained_and_exported(tmp_path):
    from transformers import AutoModelForMaskedLM

    data = write_english(tmp_path / "english")
    assert pretrain(data, tmp_path / "run", "--only_mlm_loss", "--num_iters", "2") == 0
    assert "nsp_loss" not in rows(tmp_path / "run")[0]
    assert main(["export", str(tmp_path / "run"), str(tmp_path / "exported")]) == 0
    _, info = AutoModelForMaskedLM.from_pretrained(tmp_path / "exported", output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))


@pytest.mark.slow
def test_the_next_sentence_loss_has_its_weight_in_training(tmp_path):
    data = write_english(tmp_path / "english")
    assert pretrain(data, tmp_path / "run", "--nsp_weight", "0.25", "--num_iters", "2") == 0
    trained, evaluated = (row for row in rows(tmp_path / "run") if row["step"] == 2)
    assert trained["loss"] == pytest.approx(trained["mlm_loss"] + 0.25 * trained["nsp_loss"], abs=1e-4)
    plain = evaluated["eval_mlm_loss"] + evaluated["eval_nsp_loss"]  # as `evaluate` has it
    assert evaluated["eval_loss"] == pytest.approx(plain, abs=1e-4)


@pytest.mark.slow
def test_training_does_not_wait_for_transformers_to_be_imported(tmp_path):
    data = write_english(tmp_path / "english")
    words = ["pretrain", "--data_dir", str(data), "--work_dir", str(tmp_path / "run"), *TINY, "data_text"]
    words += ["--num_iters", "2", "--no-report"]
    script = (
        f"import sys; from nemo.cli.main import main; code = main({words});"
        "sys.exit(code or 'transformers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert rows(tmp_path / "run")


def test_more_processes_than_were_started_are_refused(tmp_path, capsys):
    assert pretrain(tmp_path, tmp_path / "run", "--num_gpus", "2") == 2
    assert "--num_gpus: does not match the number of processes started; found 2" in capsys.readouterr().err


@pytest.fixture
def data_with_vocabulary(trained, tmp_path):
    """The text with the vocabulary of the run in `[data_dir]/bert`, as the tutorial says."""
    run, data = trained
    shutil.copytree(data, tmp_path / "data", ignore=shutil.ignore_patterns("bert"))
    (tmp_path / "data" / "bert").mkdir()
    shutil.copy(run / "tokenizer" / "vocab.txt", tmp_path / "data" / "bert" / "vocab.txt")
    return tmp_path / "data"


def test_load_dir_continues_another_run(trained, data_with_vocabulary, tmp_path):
    run, _ = trained
    words = ["--load_dir", str(run / "checkpoints"), "--num_iters", "41", "--train_step_freq", "1"]
    assert pretrain(data_with_vocabulary, tmp_path / "run", *words) == 0
    first = next(row for row in rows(tmp_path / "run") if "loss" in row)
    assert first["step"] == 41
    assert first["mlm_loss"] < rows(run)[0]["mlm_loss"] - 0.2


def test_bert_checkpoint_takes_the_encoder_alone(trained, data_with_vocabulary, tmp_path):
    run, _ = trained
    source = run / "checkpoints" / "STEP-40" / "BERT.safetensors"
    words = ["--bert_checkpoint", str(source), "--num_iters", "1", "--lr", "1e-12"]
    assert pretrain(data_with_vocabulary, tmp_path / "run", *words) == 0
    expected, found = (load_file(f) for f in (source, tmp_path / "run/checkpoints/STEP-1/BERT.safetensors"))
    assert all(torch.allclose(expected[name], found[name], atol=1e-9) for name in expected)


def test_text_that_is_held_out_is_never_trained_on(tmp_path, capsys):
    data = write_english(tmp_path / "english")
    (data / "train.txt").rename(data / "book.txt")
    words = ["pretrain", "--train_data", str(data), "--work_dir", str(tmp_path / "run"), *TINY, "data_text"]
    assert main([*words, "--eval_data", str(data / "book.txt")]) == 2
    assert "the held-out text is also trained on" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_of_other_minutes_is_not_taken_for_the_same(tmp_path, capsys):
    data = write_english(tmp_path / "english")
    assert pretrain(data, tmp_path / "run", "--minutes", "0.01") == 0
    assert pretrain(data, tmp_path / "run", "--minutes", "0.02") == 2
    assert "planned for a different duration" in capsys.readouterr().err


def test_a_fault_of_ours_is_one_line_too(capsys, monkeypatch):
    import nemo.cli.tokenizer

    monkeypatch.setattr(nemo.cli.tokenizer, "run", lambda words: 1 // 0)
    assert main(["tokenizer"]) == 1
    assert capsys.readouterr().err.startswith("error[INTERNAL] internal error: ZeroDivisionError")


def test_help_is_quick_because_nothing_heavy_is_imported():
    script = (
        "import sys; from nemo.cli.main import main; main(['pretrain', '--help']);"
        "heavy = {'torch', 'numpy', 'transformers', 'yaml'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--mask_probability" in done.stdout


def test_an_unknown_command_is_answered_with_the_closest(capsys):
    assert main(["pretrian"]) == 2
    assert "did you mean pretrain?" in capsys.readouterr().err
    assert main(["--help"]) == 0
    assert "fill-mask" in capsys.readouterr().out


@pytest.mark.parametrize("spelling", ["data_text", "--data_text"])
def test_the_kind_of_data_may_be_spelled_both_ways(spelling):
    from nemo.cli.pretrain import parse_options

    assert parse_options(["--lr", "1", spelling, "--train_data", "x"]).mode == "data_text"
    assert parse_options(["--train_data", "x"]).mode == "data_preprocessed"


@pytest.mark.parametrize(
    ("words", "betas"),
    [
        ("", (0.95, 0.25)),
        ("--optimizer fused_novograd --beta1 0.9", (0.9, 0.25)),
        ("--optimizer adam_w", (0.9, 0.999)),
        ("--optimizer adam_w --beta2 0.98", (0.9, 0.98)),
    ],
)
def test_default_betas_depend_on_the_optimizer(words, betas):
    from nemo.cli.pretrain import parse_options
    from nemo.collections.nlp.pretraining.training import optimization_params

    options = parse_options(["--train_data", "x", *words.split()])
    assert optimization_params(options, max_steps=1)["betas"] == betas


@pytest.mark.slow
def test_evaluate_obeys_the_text_options(trained, tmp_path, capsys):
    run, data = trained
    text = tmp_path / "text.txt"
    text.write_bytes((data / "valid.txt").read_bytes() + b"\nA caf\xe9 in the garden.\n")

    assert main(["evaluate", str(run), "--eval_data", str(text)]) == 3
    assert "--invalid_bytes replace" in capsys.readouterr().err
    assert main(["evaluate", str(run), "--eval_data", str(text), "--invalid_bytes", "replace"]) == 0

"""The tutorial's second road, through the command line: from prepared HDF5 shards to a trained BERT."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from nemo.cli.main import main
from nemo.collections.nlp.data.tokenizers import TokenizerSpec, load_tokenizer
from nemo.collections.nlp.data.tokenizers.vocabulary import train_tokenizer
from tests.cli.outcome import error_of, weights
from tests.conftest import PATIENCE, write_english
from tests.shards import Row, make_rows, write_shard, write_variable_shard

LENGTH, PREDICTIONS = 32, 5
TINY = shlex.split(
    "--no-report "
    f"--max_predictions_per_seq {PREDICTIONS} --hidden_size 32 --num_hidden_layers 1 --num_attention_heads 2 "
    "--intermediate_size 64 --batch_size 8 --optimizer adam_w --lr 1e-3 --train_step_freq 5 --threads 1 "
    "--eval_step_freq -1"
)


def pretrain(work_dir: Path, *words: str) -> int:
    return main(["pretrain", *TINY, "--work_dir", str(work_dir), *words])


def rows_of(tokenizer: TokenizerSpec, text: Path, number: int, seed: int) -> list[Row]:
    """Pairs of sentences of a text."""
    lines = [line for line in text.read_text().splitlines() if line]
    sentences = [ids.tolist() for ids in tokenizer.encode_batch(lines)]
    specials = tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id
    return make_rows(number, LENGTH, PREDICTIONS, tokenizer.vocab_size, seed, sentences, specials)


def metrics(work_dir: Path) -> list[dict]:
    return [json.loads(line) for line in (work_dir / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """NVIDIA's folder with two shards for training and a held-out one, their tokenizer, the held-out rows."""
    folder = tmp_path_factory.mktemp("made")
    text = write_english(folder / "text")
    tokenizer = train_tokenizer("word-piece", [text / "train.txt"], folder / "tokenizer", 80)
    name = f"hdf5_lower_case_1_seq_len_{LENGTH}_max_pred_{PREDICTIONS}_masked_lm_prob_0.15_random_seed_12345"
    shards = folder / name / "wikicorpus_en"
    for number, rows in enumerate((90, 60)):
        path = shards / f"wikicorpus_en_training_{number}.hdf5"
        write_shard(path, rows_of(tokenizer, text / "train.txt", rows, number), LENGTH, PREDICTIONS)
    held_out = rows_of(tokenizer, text / "valid.txt", 30, 9)
    write_shard(shards / "wikicorpus_en_test_0.hdf5", held_out, LENGTH, PREDICTIONS)
    return folder / name, folder / "tokenizer", held_out


@pytest.fixture(scope="module")
def trained(made, tmp_path_factory):
    """A work folder of 40 steps."""
    shards, tokenizer, _ = made
    run = tmp_path_factory.mktemp("trained") / "run"
    words = ["--train_data", str(shards), "--eval_data", str(shards), "--tokenizer", str(tokenizer)]
    assert pretrain(run, *words, "--num_iters", "40", "data_preprocessed") == 0
    return run, words


def test_a_run_on_shards_writes_the_same_files_as_one_on_text(trained):
    run, _ = trained
    files = {path.name for path in (run / "checkpoints" / "STEP-40").iterdir()}
    assert {"BERT.safetensors", "BertTokenClassifier.safetensors", "SequenceClassifier.safetensors"} <= files
    assert {"optimizer.safetensors", "bert-config.json", "vocab.txt", "manifest.json"} <= files
    training = [row for row in metrics(run) if "loss" in row]
    assert [row["step"] for row in training] == [1, *range(5, 41, 5)]
    assert training[-1]["mlm_loss"] < training[0]["mlm_loss"] - 0.3
    assert (
        json.loads((run / "checkpoints" / "bert-config.json").read_text())["max_position_embeddings"]
        == LENGTH
    )


def test_evaluation_covers_the_held_out_rows_and_no_others(trained, made):
    run, _ = trained
    held_out = made[2]
    last = [row for row in metrics(run) if "eval_loss" in row][-1]
    targets = Counter(row.tokens[position] for row in held_out for position in row.hidden)
    share = np.array(list(targets.values())) / targets.total()
    assert last["eval_unigram_entropy"] == pytest.approx(-(share * np.log(share)).sum(), rel=1e-5)
    assert last["eval_loss"] == pytest.approx(last["eval_mlm_loss"] + last["eval_nsp_loss"], rel=1e-5)
    assert (last["eval_nsp_accuracy"] * len(held_out)) % 1 == pytest.approx(0, abs=1e-4)
    assert (last["eval_mlm_accuracy"] * targets.total()) % 1 == pytest.approx(0, abs=1e-3)


@pytest.mark.slow
def test_no_kind_of_data_at_all_means_shards(made, tmp_path):
    shards, tokenizer, _ = made
    words = ["--data_dir", str(shards), "--tokenizer", str(tokenizer), "--save_step_freq", "-1"]
    assert pretrain(tmp_path / "run", *words) == 0
    assert metrics(tmp_path / "run")[-1]["step"] == 100  # NeMo 0.10's default
    assert "eval_mlm_loss" in metrics(tmp_path / "run")[-1]
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert (config["mode"], config["num_iters"], config["max_seq_length"]) == (
        "data_preprocessed",
        100,
        LENGTH,
    )


@pytest.mark.parametrize(
    "words", [("--num_epochs", "2", "data_preprocessed"), ("--data_preprocessed", "--num_epochs", "2")]
)
def test_epochs_are_finite_and_options_may_stand_on_either_side(made, tmp_path, words):
    shards, tokenizer, _ = made
    assert pretrain(tmp_path / "run", "--train_data", str(shards), "--tokenizer", str(tokenizer), *words) == 0
    assert json.loads((tmp_path / "run" / "status.json").read_text())["step"] == 2 * 19  # ceil(150 / 8)


def test_the_configuration_of_a_run_repeats_it(trained, tmp_path):
    run, _ = trained
    assert (
        main(["pretrain", "--config", str(run / "config.yaml"), "--work_dir", str(tmp_path / "again")]) == 0
    )
    first, again = (weights(folder / "checkpoints" / "STEP-40") for folder in (run, tmp_path / "again"))
    assert all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.slow
def test_a_run_killed_at_any_moment_resumes_to_the_same_weights(trained, tmp_path):
    run, words = trained
    command = [
        sys.executable, "-m", "nemo.cli.main", "pretrain", *TINY, *words, "--num_iters", "40",
        "--work_dir", str(tmp_path / "killed"), "--save_step_freq", "3",
    ]  # fmt: skip
    checkpoints = tmp_path / "killed" / "checkpoints"
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while process.poll() is None and len(list(checkpoints.glob("STEP-*"))) < 3:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    assert "resuming from" in done.stdout
    expected, found = weights(run / "checkpoints" / "STEP-40"), weights(checkpoints / "STEP-40")
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_many_unknown_tokens_are_warned_of(made, tmp_path, capsys):
    shards, tokenizer, _ = made
    words = (tokenizer / "vocab.txt").read_text().split("\n")
    frequent, unknown = words.index("the"), words.index("[UNK]")
    words[frequent], words[unknown] = words[unknown], words[frequent]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    given = ["--train_data", str(shards), "--eval_data", str(shards), "--num_iters", "1", "data_preprocessed"]
    assert pretrain(tmp_path / "good", *given, "--tokenizer", str(tokenizer)) == 0
    assert "are unknown" not in capsys.readouterr().err
    assert pretrain(tmp_path / "bad", *given, "--tokenizer", str(tmp_path / "vocab.txt")) == 0
    assert re.search(r"\d% of the tokens are unknown; they can be neither", capsys.readouterr().err)


def test_a_rerun_on_other_shards_or_on_text_is_refused(trained, made, tmp_path, capsys):
    run, words = trained
    shards, tokenizer, _ = made
    shutil.copytree(shards, tmp_path / "shards")
    next(tmp_path.glob("shards/*/*training_1.hdf5")).unlink()
    other = ["--train_data", str(tmp_path / "shards"), *words[2:]]
    assert pretrain(run, *other, "--num_iters", "50") == 4
    assert "a different shards" in error_of(capsys)
    text = write_english(tmp_path / "text")
    words = TINY[3:]  # no --max_predictions_per_seq
    words += ["--data_dir", str(text), "--tokenizer", str(tokenizer), "--max_seq_length", str(LENGTH)]
    assert main(["pretrain", *words, "--work_dir", str(run), "--num_iters", "50", "data_text"]) == 4
    assert "a different mode; found data_preprocessed, expected data_text" in error_of(capsys)


def test_a_run_on_shards_can_be_used(trained, made, tmp_path, capsys):
    run, _ = trained
    text = write_english(tmp_path / "text")
    assert main(["evaluate", str(run), "--eval_data", str(text / "valid.txt"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["mlm_loss"] > 0
    assert main(["fill-mask", str(run), "The [MASK] sees the dog."]) == 0
    assert main(["export", str(run), str(tmp_path / "exported")]) == 0


@pytest.mark.slow
def test_a_run_without_a_tokenizer_works_and_warns(made, tmp_path, capsys):
    shards, tokenizer, _ = made
    words = ["--data_dir", str(shards), "--vocab_size", "80", "--num_iters", "2"]
    assert pretrain(tmp_path / "run", *words) == 0
    assert "no tokenizer is given" in capsys.readouterr().err
    config = json.loads((tmp_path / "run/checkpoints/STEP-2/bert-config.json").read_text())
    assert (config["vocab_size"], config["pad_token_id"]) == (80, 0)
    guess = ["fill-mask", str(tmp_path / "run"), "The [MASK] sees the dog."]
    assert main(guess) == 2
    error = error_of(capsys)
    assert "the run had no tokenizer; fix: give the tokenizer that made its shards: --tokenizer" in error
    for place in (tokenizer, tokenizer / "vocab.txt"):
        assert main([*guess, "--tokenizer", str(place)]) == 0
    capsys.readouterr()
    text = write_english(tmp_path / "text") / "valid.txt"
    named = ["--tokenizer", str(tokenizer)]
    assert main(["evaluate", str(tmp_path / "run"), "--eval_data", str(text), *named]) == 0
    assert main(["export", str(tmp_path / "run"), str(tmp_path / "exported"), *named]) == 0
    assert pretrain(tmp_path / "run", *words, *named) == 4
    assert "a different tokenizer; found none" in error_of(capsys)


def test_a_checkpoint_with_its_tokenizer_takes_no_other(trained, made, capsys):
    assert main(["fill-mask", str(trained[0]), "[MASK]", "--tokenizer", str(made[1])]) == 2
    assert "the checkpoint has its own tokenizer; fix: leave out --tokenizer" in error_of(capsys)


def test_the_tokenizer_beside_the_shards_is_used(made, tmp_path, capsys):
    shards, tokenizer, _ = made
    shutil.copytree(shards, tmp_path / "data")
    shutil.copytree(tokenizer, tmp_path / "data" / "bert")
    assert pretrain(tmp_path / "run", "--data_dir", str(tmp_path / "data"), "--num_iters", "1") == 0
    out = capsys.readouterr().out
    assert f"using the tokenizer in {tmp_path / 'data' / 'bert'}" in out
    assert "for example: [CLS] " in out  # so that a person can see whether it is the right one


@pytest.mark.parametrize("place", ["", "wikicorpus_en", "wikicorpus_en/wikicorpus_en_training_0.hdf5"])
def test_masks_are_drawn_anew_with_the_tokenizer_of_the_prepared_folder(made, tmp_path, capsys, place):
    shards, tokenizer, _ = made
    shutil.copytree(shards, tmp_path / "data")
    shutil.copytree(tokenizer, tmp_path / "data" / "bert")
    words = ["--train_data", str(tmp_path / "data" / place), "--num_iters", "2", "--mask_probability", "0.3"]
    assert pretrain(tmp_path / "run", *words, "--masking", "whole_word") == 0
    out = capsys.readouterr().out
    assert f"using the tokenizer in {tmp_path / 'data' / 'bert'}" in out
    assert "masks: new ones (whole_word)" in out
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert (config["masking"], config["mask_probability"]) == ("whole_word", 0.3)
    assert pretrain(tmp_path / "run", *words, "--masking", "span") == 4
    assert "a different masking; found whole_word, expected span" in error_of(capsys)


def test_a_model_is_evaluated_on_shards_as_the_run_did(trained, made, tmp_path, capsys):
    run, _ = trained
    last = [row for row in metrics(run) if "eval_loss" in row][-1]

    def figures(*more: str) -> dict[str, float]:
        capsys.readouterr()
        assert main(["evaluate", str(run), "--eval_data", str(made[0]), "--json", *more]) == 0
        return json.loads(capsys.readouterr().out)

    assert figures()["mlm_loss"] == pytest.approx(last["eval_mlm_loss"], rel=1e-5)
    assert figures()["nsp_accuracy"] == pytest.approx(last["eval_nsp_accuracy"], rel=1e-5)
    drawn = figures("--masking", "whole_word", "--mask_probability", "0.3")
    assert drawn == figures("--masking", "whole_word", "--mask_probability", "0.3")
    assert drawn["unigram_entropy"] != figures()["unigram_entropy"]
    for more, message in (
        (["--mask_probability", "0.3"], "the masks are already in the shards; found 0.3"),
        (["--max_seq_length", "16"], f"rows of a different length; found {LENGTH}, expected 16"),
    ):
        assert main(["evaluate", str(run), "--eval_data", str(made[0]), *more]) == 2
        assert message in error_of(capsys)


def test_shards_without_padding_and_without_labels(made, tmp_path, capsys):
    tokenizer = made[1]
    text = write_english(tmp_path / "text")
    rows = rows_of(load_tokenizer(tokenizer), text / "train.txt", 60, 0)
    write_variable_shard(tmp_path / "mlperf" / "training" / "part_0.hdf5", rows)
    write_variable_shard(tmp_path / "mlperf" / "eval_varlength" / "part_0.hdf5", rows[:20])
    words = ["--tokenizer", str(tokenizer), "--num_iters", "2"]
    assert pretrain(tmp_path / "1", "--data_dir", str(tmp_path / "mlperf"), *words) == 0
    write_shard(tmp_path / "intel" / "train_shard_0.hdf5", rows, LENGTH, PREDICTIONS, labels=False)
    assert pretrain(tmp_path / "2", "--data_dir", str(tmp_path / "intel"), *words) == 3
    assert "no labels for next-sentence prediction" in error_of(capsys)
    assert pretrain(tmp_path / "2", "--data_dir", str(tmp_path / "intel"), *words, "--only_mlm_loss") == 0
    assert "nsp_loss" not in metrics(tmp_path / "2")[0]


def test_a_configuration_file_may_have_more_positions_than_the_rows(made, tmp_path, capsys):
    """BERT's first phase: rows of 128 tokens, a model for 512."""
    sizes = {
        "model_type": "bert", "vocab_size": 80, "hidden_size": 24, "num_hidden_layers": 1,
        "num_attention_heads": 3, "intermediate_size": 48, "max_position_embeddings": 50,
    }  # fmt: skip
    config = tmp_path / "sizes.json"
    config.write_text(json.dumps(sizes))
    words = ["--data_dir", str(made[0]), "--config_file", str(config), "--num_iters", "1"]
    assert pretrain(tmp_path / "run", *words) == 0
    saved = json.loads((tmp_path / "run/checkpoints/bert-config.json").read_text())
    assert {name: saved[name] for name in sizes} == sizes
    assert "max_seq_length: 32" in (tmp_path / "run/config.yaml").read_text()
    config.write_text(json.dumps({**sizes, "max_position_embeddings": 16}))
    assert pretrain(tmp_path / "short", *words) == 2
    assert "rows longer than the model allows; found 32, expected 16 or less" in error_of(capsys)


@pytest.mark.parametrize(
    ("words", "exit_code", "message"),
    [
        ("--data_dir text", 3, "there is text in this folder, but no HDF5 shards; .*add data_text"),
        ("--train_data text/train.txt", 3, "train.txt: this is a text file; .*add data_text"),
        ("--data_dir nowhere", 3, "nowhere: no such file or folder"),
        ("--data_dir shards --eval_data nowhere", 3, "nowhere: no such file or folder"),
        ("--data_dir shards --mask_probability 0.2", 2, "masks are already in the shards; .*--masking wh"),
        ("--data_dir shards --masking words", 2, "--masking: .*stored, token, whole_word, span"),
        ("--data_dir shards --vocab_size 80 --masking span", 2, "word boundaries .*give .*--tokenizer"),
        ("--data_dir shards --sample_size 9", 2, "--sample_size: only for data_text"),
        ("--data_dir shards --initialization counts", 2, "counts: needs text to count words in"),
        ("--data_dir shards --tokenizer word-piece", 2, "no tokenizer can be trained on shards"),
        ("--data_dir shards --max_predictions_per_seq 20", 3, "found 5, expected 20; fix: give --max_pred"),
        ("--data_dir shards --max_seq_length 64", 2, "rows of a different length; found 64"),
        ("--data_dir shards --vocab_size 60", 3, "beyond the vocabulary; .*--vocab_size"),
        ("--data_dir shards --tokenizer wrong", 3, r"a different tokenizer: \[CLS\] has a different id"),
        ("--data_dir shards --eval_data {one}", 2, "training_0.hdf5: the held-out shard is also trained on"),
        ("--train_data {one} --eval_data other", 3, r"made with a different tokenizer than .*\[CLS\] 77"),
        ("--data_dir shards data_text", 2, "--max_pred.*: only for data_preprocessed, .*data_text"),
    ],
)  # fmt: skip
def test_mistakes_end_in_one_line_and_the_right_exit_code(
    made, tmp_path, monkeypatch, capsys, words, exit_code, message
):
    monkeypatch.chdir(tmp_path)
    write_english(tmp_path / "text")
    (tmp_path / "shards").symlink_to(made[0])
    one = next(made[0].rglob("*training_0.hdf5"))
    if "wrong" in words:
        (tmp_path / "wrong").mkdir()
        tokens = (made[1] / "vocab.txt").read_text().split("\n")[:-1]
        (tmp_path / "wrong" / "vocab.txt").write_text("\n".join(reversed(tokens)) + "\n")
    if "other" in words:
        rows = make_rows(60, LENGTH, PREDICTIONS, 77, specials=(77, 78, 79))
        write_shard(tmp_path / "other" / "a.hdf5", rows, LENGTH, PREDICTIONS)
    words = words.format(one=one)
    assert pretrain(tmp_path / "run", "--num_iters", "1", *shlex.split(words)) == exit_code
    assert re.search(message, error_of(capsys))
    assert not (tmp_path / "run" / "checkpoints" / "STEP-1").exists()


def test_text_mode_refuses_shards(made, tmp_path, capsys):
    words = ["--data_dir", str(made[0]), "--work_dir", str(tmp_path / "run"), "data_text"]
    assert main(["pretrain", *words]) == 3
    assert "HDF5 shards, not text; fix: to train on shards add data_preprocessed" in error_of(capsys)
    assert main(["pretrain", *words, "--masking", "stored"]) == 2
    assert "no masks are stored in text; expected token, whole_word, span" in error_of(capsys)


def test_a_run_on_shards_continues_one_on_text(made, trained, tmp_path, capsys):
    """Weights, tokenizer and sizes come from another run; so does its tokenizer's check."""
    shards, _, _ = made
    run, _ = trained
    words = ["--data_dir", str(shards), "--bert_checkpoint", str(run), "--num_iters", "1"]
    assert pretrain(tmp_path / "on", *words) == 0
    assert "weights from" in capsys.readouterr().out
    assert (tmp_path / "on/checkpoints/STEP-1/vocab.txt").is_file()

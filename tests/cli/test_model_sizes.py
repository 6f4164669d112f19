"""Segments, positions and sizes of a model, what is kept of a source, and checkpoints copied alone."""

import json
import os
import shlex
import shutil
import stat
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file

from nemo.cli.main import main
from nemo.collections.nlp.options import PretrainingOptions
from nemo.collections.nlp.pretraining import pretrain as pretrain_with
from nemo.utils.arguments import read_options
from tests.cli.outcome import error_of
from tests.conftest import write_english
from tests.huggingface_folders import SIZES, write_huggingface
from tests.shards import make_rows, write_shard

TINY = shlex.split("--no-report --batch_size 8 --optimizer adam_w --lr 1e-3 --eval_step_freq -1 --threads 1")
STEPS = ("--num_iters", "2")
FLAGS = shlex.split(
    "--hidden_size 16 --num_hidden_layers 1 --num_attention_heads 2 --intermediate_size 24 "
    "--tokenizer word-piece --vocab_size 80"
)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return write_english(tmp_path_factory.mktemp("text") / "english")


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    write_shard(folder / "training.hdf5", make_rows(16, vocab_size=60), 16, 3)
    return folder


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A Hugging Face folder."""
    folder = tmp_path_factory.mktemp("source") / "bert"
    write_huggingface(folder)
    return folder


def pretrain(text: Path, work_dir: Path, *words: str) -> int:
    end = () if "--minutes" in words else STEPS
    more = ("--data_dir", str(text), "--work_dir", str(work_dir), *TINY, *end, *words)
    return main(["pretrain", *more, "data_text"])


def newest(work_dir: Path) -> Path:
    return max((work_dir / "checkpoints").glob("STEP-*"), key=lambda path: int(path.name[5:]))


def config_of(work_dir: Path) -> dict:
    return json.loads((newest(work_dir) / "bert-config.json").read_text())


def positions(work_dir: Path) -> int:
    return load_file(newest(work_dir) / "BERT.safetensors")[
        "bert.embeddings.position_embeddings.weight"
    ].shape[0]


def write_config(path: Path, **changes) -> str:
    transformers.BertConfig(**{**SIZES, **changes}).to_json_file(path)
    return str(path)


# Segments: a model with one has no next sentence to predict.


@pytest.mark.parametrize("of", ["--config_file", "--bert_checkpoint"])
@pytest.mark.parametrize("data", ["text", "shards"])
def test_one_segment_is_refused_with_next_sentence_prediction(text, shards, tmp_path, capsys, of, data):
    if of == "--config_file":
        model = write_config(tmp_path / "one.json", type_vocab_size=1, vocab_size=60)
    else:
        write_huggingface(tmp_path / "one", type_vocab_size=1)
        model = str(tmp_path / "one")
    capsys.readouterr()
    if data == "text":
        assert pretrain(text, tmp_path / "run", of, model, "--tokenizer", "word-piece") == 2
    else:
        words = [*TINY, *STEPS, of, model, "--work_dir", str(tmp_path / "run")]
        assert main(["pretrain", "--data_dir", str(shards), *words]) == 2
    error = error_of(capsys)
    assert f"{model} type_vocab_size: next-sentence prediction needs two segments; found 1" in error
    assert "--only_mlm_loss" in error
    assert not (tmp_path / "run" / "tokenizer").exists()


@pytest.mark.slow
@pytest.mark.parametrize("data", ["text", "shards"])
def test_one_segment_is_fine_for_the_masked_language_model_alone(text, shards, tmp_path, data):
    write_huggingface(tmp_path / "one", "BertForMaskedLM", type_vocab_size=1)
    words = ["--bert_checkpoint", str(tmp_path / "one"), "--only_mlm_loss"]
    if data == "text":
        assert pretrain(text, tmp_path / "run", *words) == 0
    else:
        assert (
            main(
                [
                    "pretrain",
                    "--data_dir",
                    str(shards),
                    *TINY,
                    "--num_iters",
                    "2",
                    *words,
                    "--work_dir",
                    str(tmp_path / "run"),
                ]
            )
            == 0
        )
    assert config_of(tmp_path / "run")["type_vocab_size"] == 1
    assert main(["evaluate", str(tmp_path / "run"), "--eval_data", str(text / "valid.txt")]) == 0
    assert main(["export", str(tmp_path / "run"), str(tmp_path / "out")]) == 0
    assert transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "out").config.type_vocab_size == 1


# Positions: a model may have more than the sequences that it learns from at first.


@pytest.mark.parametrize(
    ("words", "length"), [((), 40), (("--max_seq_length", "24"), 24), (("--max_seq_length", "128"), 40)]
)
def test_a_configuration_file_gives_the_positions_and_the_flag_the_length(text, tmp_path, words, length):
    sizes = write_config(tmp_path / "sizes.json", vocab_size=80)
    more = ("--config_file", sizes, "--tokenizer", "word-piece", "--vocab_size", "80")
    assert pretrain(text, tmp_path / "run", *more, *words) == 0
    assert positions(tmp_path / "run") == 40
    settled = read_options(PretrainingOptions, tmp_path / "run" / "config.yaml")
    assert (settled["max_seq_length"], settled["max_position_embeddings"]) == (length, 40)
    # A rerun with all of it in a file is the same run, of the same length.
    again = ("--config", str(tmp_path / "run" / "config.yaml"), "--num_iters", "3")
    assert main(["pretrain", *again, "--work_dir", str(tmp_path / "run")]) == 0
    settled = read_options(PretrainingOptions, tmp_path / "run" / "config.yaml")
    assert (settled["max_seq_length"], settled["num_iters"]) == (length, 3)


def test_a_length_in_a_file_of_options_counts_even_if_it_is_the_usual_one(text, tmp_path):
    sizes = write_config(tmp_path / "sizes.json", vocab_size=80, max_position_embeddings=160)
    (tmp_path / "bert.yaml").write_text(f"config_file: {sizes}\nmax_seq_length: 128\n")
    more = ("--config", str(tmp_path / "bert.yaml"), "--tokenizer", "word-piece", "--vocab_size", "80")
    assert pretrain(text, tmp_path / "run", *more) == 0
    assert read_options(PretrainingOptions, tmp_path / "run" / "config.yaml")["max_seq_length"] == 128
    assert positions(tmp_path / "run") == 160


@pytest.mark.slow
def test_two_phases_short_sequences_first(text, tmp_path, capsys):
    """As in the paper: most steps on short sequences, the rest on all positions."""
    more = (*FLAGS, "--max_seq_length", "16", "--max_position_embeddings", "32")
    assert pretrain(text, tmp_path / "first", *more) == 0
    assert positions(tmp_path / "first") == 32
    assert pretrain(text, tmp_path / "first", *more, "--num_iters", "3") == 0  # a rerun goes on
    second = ("--bert_checkpoint", str(tmp_path / "first"), "--max_seq_length", "32")
    assert pretrain(text, tmp_path / "second", *second) == 0
    assert positions(tmp_path / "second") == 32
    capsys.readouterr()
    too_long = ("--bert_checkpoint", str(tmp_path / "first"), "--max_seq_length", "33")
    assert pretrain(text, tmp_path / "third", *too_long) == 2
    assert "--max_seq_length: longer than the model allows; found 33, expected 32" in error_of(capsys)


def test_two_phases_over_shards(shards, tmp_path):
    words = ["--hidden_size", "16", "--num_hidden_layers", "1", "--num_attention_heads", "2"]
    more = [*TINY, *STEPS, *words, "--vocab_size", "60", "--max_position_embeddings", "24"]
    assert main(["pretrain", "--data_dir", str(shards), *more, "--work_dir", str(tmp_path / "run")]) == 0
    assert positions(tmp_path / "run") == 24


@pytest.mark.parametrize("data", ["text", "shards"])
def test_fewer_positions_than_tokens_are_refused(text, shards, tmp_path, capsys, data):
    if data == "text":
        assert pretrain(text, tmp_path / "run", *FLAGS, "--max_position_embeddings", "64") == 2
        expected = (
            "--max_position_embeddings: fewer positions than a sequence has tokens; found 64, expected 128"
        )
    else:
        more = [*TINY, *STEPS, "--vocab_size", "60", "--max_position_embeddings", "8"]
        assert main(["pretrain", "--data_dir", str(shards), *more, "--work_dir", str(tmp_path / "run")]) == 2
        expected = "rows longer than the model allows; found 16, expected 8 or less"
    assert expected in error_of(capsys)


def test_positions_that_contradict_the_model_are_refused(source, text, tmp_path, capsys):
    words = ("--bert_checkpoint", str(source), "--max_position_embeddings", "64")
    assert pretrain(text, tmp_path / "run", *words) == 2
    assert "--max_position_embeddings: contradicts" in error_of(capsys)


def test_a_flag_overridden_by_a_configuration_file_has_no_effect(text, tmp_path, capsys):
    sizes = write_config(tmp_path / "sizes.json", vocab_size=80)
    more = ("--config_file", sizes, "--tokenizer", "word-piece", "--vocab_size", "80", "--hidden_size", "64")
    assert pretrain(text, tmp_path / "run", *more) == 0
    assert f"--hidden_size 64 has no effect: {sizes} says 16" in capsys.readouterr().err


# A work folder of another model, and checkpoints without what belongs to them.


@pytest.fixture(scope="module")
def finished(tmp_path_factory, text):
    work_dir = tmp_path_factory.mktemp("finished") / "run"
    assert pretrain(text, work_dir, *FLAGS, "--max_seq_length", "32") == 0
    return work_dir


@pytest.fixture
def run(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("option", "value", "found"),
    [
        ("hidden_size", 32, 16),
        ("num_hidden_layers", 2, 1),
        ("num_attention_heads", 4, 2),
        ("intermediate_size", 64, 24),
        ("hidden_act", "relu", "gelu"),
        ("max_position_embeddings", 64, 32),
    ],
)
def test_a_work_folder_of_another_size_is_refused_by_the_option(run, text, capsys, option, value, found):
    more = [*FLAGS, "--max_seq_length", "32", "--num_iters", "3", f"--{option}", str(value)]
    assert pretrain(text, run, *more) == 4
    error = error_of(capsys)
    assert (
        f"{run}: the checkpoint comes from a run with a different {option}; found {found}, expected {value}"
        in error
    )
    assert "fix: use the same options, or another --work_dir" in error


@pytest.mark.parametrize("also", [(), ("--num_iters", "3")])
def test_checkpoints_without_their_config_yaml_go_on(run, text, also):
    """Only checkpoints and tokenizer were copied."""
    (run / "config.yaml").unlink()
    assert pretrain(text, run, *FLAGS, "--max_seq_length", "32", *also) == 0
    assert (run / "config.yaml").is_file()


@pytest.mark.parametrize(
    ("words", "known", "fix"),
    [
        (
            ("--load_dir", "elsewhere"),
            "what the run started from",
            "leave --load_dir and --bert_checkpoint out",
        ),
        (
            ("--bert_checkpoint", "x"),
            "what the run started from",
            "leave --load_dir and --bert_checkpoint out",
        ),
        (("--minutes", "1"), "how many steps were planned", "give --num_iters"),
    ],
)
def test_a_missing_config_yaml_is_an_error_that_names_what_is_lost(run, text, capsys, words, known, fix):
    (run / "config.yaml").unlink()
    assert pretrain(text, run, *FLAGS, "--max_seq_length", "32", *words) == 2
    error = error_of(capsys)
    assert f"config.yaml: missing, although there are checkpoints: only this file records {known}" in error
    assert f"fix: copy it as well, or {fix}" in error


@pytest.mark.slow
def test_a_checkpoint_by_itself_can_be_used(run, text, tmp_path):
    shutil.copytree(newest(run), tmp_path / "elsewhere" / "STEP-2")
    for place in (tmp_path / "elsewhere", tmp_path / "elsewhere" / "STEP-2"):
        assert main(["evaluate", str(place), "--eval_data", str(text / "valid.txt")]) == 0
        assert main(["fill-mask", str(place), "The [MASK] sees the dog."]) == 0
        assert main(["export", str(place), str(tmp_path / "out"), "--force"]) == 0
        more = ("--load_dir", str(place), "--num_iters", "3")
        assert pretrain(text, tmp_path / f"on-{place.name}", *more) == 0


@pytest.mark.parametrize(
    "command", ["export {} out", "evaluate {} --eval_data x", "fill-mask {} [MASK]", "pretrain"]
)
def test_a_checkpoint_without_its_configuration_is_an_error(run, text, tmp_path, capsys, command):
    """As one that a script of one's own saved, without the file that tells the sizes."""
    step = newest(run)
    (step / "bert-config.json").unlink()
    (step.parent / "bert-config.json").unlink(missing_ok=True)
    manifest = json.loads((step / "manifest.json").read_text())
    del manifest["files"]["bert-config.json"]
    rewrite_manifest(step, manifest)
    if command == "pretrain":
        assert pretrain(text, tmp_path / "on", *FLAGS, "--max_seq_length", "32", "--load_dir", str(run)) == 2
        assert "nothing left to train" in error_of(capsys)  # its sizes are those of the options
        return
    assert main(shlex.split(command.format(run))) == 4
    error = error_of(capsys)
    assert f"{step}: the model has no configuration; expected bert-config.json" in error
    assert f"fix: copy the run's to {step.parent}" in error


def rewrite_manifest(step: Path, manifest: dict) -> None:
    """With the seal that a checkpoint's manifest has."""
    from nemo.backends.pytorch.checkpoints.manifest import _seal, to_json

    del manifest["sha256"]
    (step / "manifest.json").write_bytes(to_json(manifest | {"sha256": _seal(manifest)}))


# What is written, and for whom; what is kept of a source.


@pytest.mark.slow
def test_files_of_runs_and_exports_have_the_umasks_permissions(text, tmp_path):
    before = os.umask(0o022)
    try:
        assert pretrain(text, tmp_path / "run", *FLAGS, "--max_seq_length", "32") == 0
        assert main(["export", str(tmp_path / "run"), str(tmp_path / "out")]) == 0
        words = ["--out", str(tmp_path / "prepared"), "--tokenizer", "word-piece", "--vocab_size", "80"]
        assert main(["prepare", str(text / "train.txt"), *words]) == 0
        assert main(["tokenizer", str(text / "train.txt"), "--out", str(tmp_path / "tokenizer")]) == 0
    finally:
        os.umask(before)
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"]
    assert len(files) > 30
    assert {path.name for path in files if stat.S_IMODE(path.stat().st_mode) != 0o644} == set()


@pytest.mark.slow
def test_the_pooler_of_the_source_is_kept_by_the_masked_language_model(source, text, tmp_path, capsys):
    """Through a rerun and a second run, too, although nothing trains it."""
    first, second = tmp_path / "first", tmp_path / "second"
    only = ("--only_mlm_loss", "--bert_checkpoint")
    assert pretrain(text, first, *only, str(source)) == 0
    assert "the NSP head of" in capsys.readouterr().out
    assert pretrain(text, first, *only, str(source), "--num_iters", "3") == 0
    assert pretrain(text, second, *only, str(first)) == 0
    expected = transformers.BertModel.from_pretrained(source).pooler.dense
    for work_dir in (first, second):
        assert main(["export", str(work_dir), str(work_dir / "out")]) == 0
        model, info = transformers.BertModel.from_pretrained(work_dir / "out", output_loading_info=True)
        assert not info["missing_keys"]
        assert torch.equal(model.pooler.dense.weight, expected.weight)
        assert torch.equal(model.pooler.dense.bias, expected.bias)


def test_the_pooler_of_our_own_next_sentence_head_is_kept_too(finished, text, tmp_path):
    assert pretrain(text, tmp_path / "on", "--only_mlm_loss", "--bert_checkpoint", str(finished)) == 0
    assert main(["export", str(tmp_path / "on"), str(tmp_path / "out")]) == 0
    head = load_file(newest(finished) / "SequenceClassifier.safetensors")
    pooler = transformers.BertModel.from_pretrained(tmp_path / "out").pooler.dense
    assert torch.equal(pooler.weight, head["mlp.layer0.weight"])


@pytest.mark.slow
def test_an_untrained_pooler_is_not_exported(text, tmp_path):
    more = (*FLAGS, "--max_seq_length", "32", "--only_mlm_loss")
    assert pretrain(text, tmp_path / "run", *more) == 0
    assert main(["export", str(tmp_path / "run"), str(tmp_path / "out")]) == 0
    assert not [name for name in load_file(tmp_path / "out" / "model.safetensors") if "pooler" in name]


@pytest.mark.slow
def test_an_untied_decoder_stays_untied_in_a_rerun_and_an_export(text, tmp_path):
    """Its configuration says tied, and transformers 5 goes by the weights."""
    source = tmp_path / "source"
    write_huggingface(source, tie_word_embeddings=False)
    settings = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**settings, "tie_word_embeddings": True}))
    run = tmp_path / "run"
    assert pretrain(text, run, "--bert_checkpoint", str(source), "--lr", "1e-9") == 0
    assert pretrain(text, run, "--bert_checkpoint", str(source), "--lr", "1e-9", "--num_iters", "3") == 0
    assert main(["export", str(run), str(tmp_path / "out")]) == 0
    ids = torch.arange(5, 35)[None]
    ours, theirs = (
        transformers.BertForPreTraining.from_pretrained(folder).eval()(ids).prediction_logits
        for folder in (tmp_path / "out", source)
    )
    torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=0)


# An encoder without an MLM head is given one that knows the frequencies of the tokens.


@pytest.mark.slow
@pytest.mark.parametrize("data", ["text", "shards"])
@pytest.mark.parametrize("tied", [True, False])
def test_a_new_head_on_an_old_encoder_starts_near_the_unigram_entropy(text, tmp_path, data, tied):
    """A random one would be sure of random words: 2 nats more."""
    write_huggingface(tmp_path / "bert", "BertModel", tie_word_embeddings=tied)
    given = {"bert_checkpoint": str(tmp_path / "bert"), "only_mlm_loss": True, "threads": 1}
    common = {"num_iters": 1, "batch_size": 16, "eval_step_freq": -1, "work_dir": str(tmp_path / "run")}
    if data == "shards":
        words = ["--tokenizer", str(tmp_path / "bert"), "--phases", "24/8", "--test_fraction", "0.2"]
        assert main(["prepare", str(text / "train.txt"), "--out", str(tmp_path / "prepared"), *words]) == 0
        (folder,) = (tmp_path / "prepared").glob("hdf5_*")
        more = {"mode": "data_preprocessed", "data_dir": str(folder)}
    else:
        more = {"mode": "data_text", "data_dir": str(text), "max_seq_length": 32}
    result = pretrain_with(PretrainingOptions(**given, **common, **more))
    figures = result.figures_before
    assert figures["mlm_loss"] < figures["unigram_entropy"] + 0.5
    decoder = result.model.mlm.mlp.last_linear_layer.weight
    assert result.model.is_tied == tied
    torch.testing.assert_close(
        decoder, result.model.bert.bert.embeddings.word_embeddings.weight, atol=0.05, rtol=0
    )

"""Fine-tuning end to end: it learns, exports what transformers answers alike, resumes, and refuses."""

import gc
import json
import shutil

import pytest
import torch
import transformers

from nemo.cli.main import main
from nemo.collections.nlp.checkpoints.loading import load_pretrained
from nemo.collections.nlp.finetuning.model import FinetuningModel, open_encoder
from nemo.collections.nlp.finetuning.run import finetune
from nemo.collections.nlp.finetuning.windows import RowLayer
from nemo.collections.nlp.nm.trainables.common.huggingface import BERT
from nemo.collections.nlp.options import FinetuningOptions
from tests.cli.outcome import error_of
from tests.collections.nlp.finetuning.conftest import write_columns, write_texts
from tests.conftest import write_english
from tests.huggingface_folders import write_huggingface


def options_for(folder, bert, task, **changes):
    write = write_columns if task == "ner" else write_texts
    settings = {
        "model": bert,
        "task": task,
        "train": str(write(folder / "train", 300, seed=1)),
        "test": str(write(folder / "test", 60, seed=2)),
        "lr": "1e-2",
        "num_epochs": 2,
        "max_seq_length": 16,
        "work_dir": str(folder / "out"),
    }
    return FinetuningOptions(**(settings | changes))


def predictions(folder, lr):
    """What the model that was exported says of the test part."""
    lines = (folder / "out" / "runs" / f"lr-{lr:g}_seed-0" / "predictions.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.slow
def test_words_are_labeled_and_a_pipeline_labels_them_alike(tmp_path, bert):
    result = finetune(options_for(tmp_path, bert, "ner", lr="1e-5,1e-3,1e-2"))
    assert result.lr == 1e-2  # the others have learned next to nothing
    assert result.test[0]["f1"] > 0.9
    model = transformers.AutoModelForTokenClassification.from_pretrained(result.folder)
    assert model.config.id2label == {0: "O", 1: "B-Animal", 2: "I-Animal"}
    label = transformers.pipeline("token-classification", model=str(result.folder), ignore_labels=[])
    for sentence in predictions(tmp_path, 1e-2):
        text = " ".join(sentence["content"])
        starts = {0, *(i + 1 for i, character in enumerate(text) if character == " ")}
        answers = [token["entity"] for token in label(text) if token["start"] in starts]
        assert answers == sentence["predicted"]


@pytest.mark.slow
@pytest.mark.parametrize("task", ["classify", "pairs"])
def test_texts_are_labeled_and_a_pipeline_labels_them_alike(tmp_path, bert, task):
    result = finetune(options_for(tmp_path, bert, task, max_seq_length=32, num_epochs=3))
    assert result.test[0]["accuracy"] > 0.75
    label = transformers.pipeline("text-classification", model=str(result.folder))
    for example in predictions(tmp_path, 1e-2):
        texts = dict(zip(("text", "text_pair"), example["content"], strict=False))
        assert label(texts)["label"] == example["predicted"][0]


@pytest.mark.slow
def test_runs_leave_no_models_in_memory(tmp_path, bert):
    gc.collect()
    gc.disable()  # a model is hundreds of MB, and too few objects for a collection
    try:
        finetune(options_for(tmp_path, bert, "ner", seeds=4, num_epochs=1))
        assert sum(type(thing) is BERT for thing in gc.get_objects()) <= 3
    finally:
        gc.enable()


@pytest.mark.slow
def test_an_interrupted_run_resumes_to_the_same_figures(tmp_path, bert, monkeypatch):
    whole = finetune(options_for(tmp_path, bert, "ner", lr="1e-3", work_dir=str(tmp_path / "whole")))
    options = options_for(tmp_path, bert, "ner", lr="1e-3")
    made = []
    collate = RowLayer._collate

    def break_off(layer, rows):
        made.append(len(rows))
        if len(made) == 25:  # in the second epoch
            raise InterruptedError
        return collate(layer, rows)

    monkeypatch.setattr(RowLayer, "_collate", break_off)
    with pytest.raises(InterruptedError):
        finetune(options)
    made.clear()
    monkeypatch.setattr(
        RowLayer, "_collate", lambda layer, rows: made.append(len(rows)) or collate(layer, rows)
    )
    resumed = finetune(options)
    assert sum(made) < 2 * 300  # the first epoch is not made again
    assert resumed.test == whole.test and resumed.valid == whole.valid


@pytest.mark.slow
def test_more_seeds_add_to_the_existing_runs(tmp_path):
    bert = str(tmp_path / "bert")
    write_huggingface(tmp_path / "bert", "BertForMaskedLM")  # without a pooler
    one = finetune(options_for(tmp_path, bert, "ner", lr="1e-3"))
    made = tmp_path / "out" / "runs" / "lr-0.001_seed-0" / "valid.json"
    before = made.stat().st_mtime_ns
    two = finetune(options_for(tmp_path, bert, "ner", lr="1e-3", seeds=2))
    assert made.stat().st_mtime_ns == before
    assert two.test[0] == one.test[0]
    assert len(two.test) == 2 and two.test[0] != two.test[1]


@pytest.mark.slow
def test_the_command_prints_figures_with_their_definitions(tmp_path, bert, capsys):
    train = write_columns(tmp_path / "train", 100, seed=1)
    command = ["finetune", bert, "--train", str(train), "--work_dir", str(tmp_path / "out"), "--seeds", "2"]
    assert main([*command, "--lr", "1e-2", "--num_epochs", "1"]) == 0
    printed = capsys.readouterr().out
    assert "validation f1" in printed and "(mean and standard deviation of 2 seeds)" in printed
    assert "f1: entity-level micro F1 as seqeval" in printed


@pytest.mark.slow
def test_a_rate_that_lost_earlier_can_be_the_only_one_later(tmp_path, bert):
    both = finetune(options_for(tmp_path, bert, "ner", lr="1e-3,1e-2"))
    one = finetune(options_for(tmp_path, bert, "ner", lr="1e-3"))
    assert both.lr == 1e-2 and one.lr == 1e-3
    assert one.valid[0] == both.valid_by_lr[1e-3]  # it was trained again, as before
    made = tmp_path / "out" / "runs" / "lr-0.001_seed-0" / "checkpoints"
    (newest,) = (path.stat().st_mtime_ns for path in made.glob("STEP-*"))
    again = finetune(options_for(tmp_path, bert, "ner", lr="1e-3"))
    assert again.test == one.test
    assert [path.stat().st_mtime_ns for path in made.glob("STEP-*")] == [newest]


@pytest.mark.slow
def test_training_again_that_broke_off_is_not_taken_for_finished(tmp_path, bert, monkeypatch):
    first = finetune(options_for(tmp_path, bert, "ner", lr="1e-3"))
    shutil.rmtree(tmp_path / "out" / "runs" / "lr-0.001_seed-0" / "checkpoints")
    collate, made = RowLayer._collate, []

    def break_off(layer, rows):
        made.append(len(rows))
        if len(made) == 25:  # in the second epoch
            raise InterruptedError
        return collate(layer, rows)

    with monkeypatch.context() as broken:
        broken.setattr(RowLayer, "_collate", break_off)
        with pytest.raises(InterruptedError):
            finetune(options_for(tmp_path, bert, "ner", lr="1e-3"))
    (tmp_path / "out" / "runs" / "lr-0.001_seed-0" / "test.json").unlink()
    assert finetune(options_for(tmp_path, bert, "ner", lr="1e-3")).test == first.test


@pytest.mark.slow
def test_test_sentences_in_the_training_part_are_warned_of(tmp_path, bert, capsys):
    options = options_for(tmp_path, bert, "ner", num_epochs=1)
    with open(options.train, "a") as file:
        file.write("\nowl\tO\nsees\tO\ncat\tB-Animal\n")
    with open(options.test, "w") as file:
        file.write("owl\tO\nsees\tO\ncat\tB-Animal\n\nxyz\tO\nxyz\tO\nxyz\tO\ncat\tB-Animal\nxyz\tO\n")
    finetune(options)
    assert "1 of 2 examples of" in capsys.readouterr().err


def test_invalid_input_is_refused_with_its_exit_code(tmp_path, bert, capsys):
    train = str(write_columns(tmp_path / "train", 100, seed=1))
    (tmp_path / "fish").write_text("the O\n\nfish B-Fish\n")
    (tmp_path / "plain").write_text("the O\n\nfish O\n")
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text('{"model_type": "gpt2"}')
    for words, code, told in (
        (["--train", train, "--test", str(tmp_path / "fish")], 3, "fish:3: the label 'B-Fish' is not in the"),
        (["--train", str(tmp_path / "plain")], 3, "too few labels"),
        (["--train", str(tmp_path / "trian")], 3, f"no such file; found nothing of this name in {tmp_path}"),
        (["--train", str(tmp_path / "trian")], 3, f"fix: did you mean {train}?"),
        (["--train", str(other)], 3, "a folder instead of a file"),
        (["--train", train, "--lr", "fast"], 2, "not a learning rate"),
        (["--train", train, "--max_seq_length", "64"], 2, "longer than the model allows"),
        (["--train", train, "--pair_column", "b"], 2, "an option of --task pairs"),
        ([], 2, "a model and a labeled file are needed"),
    ):
        assert main(["finetune", bert, *words, "--work_dir", str(tmp_path / "out")]) == code
        assert told in error_of(capsys)
    (tmp_path / "adapted" / "model").mkdir(parents=True)
    (tmp_path / "adapted" / "model" / "config.json").touch()
    assert main(["finetune", str(tmp_path / "adapted"), "--train", train]) == 4
    assert f"fix: give {tmp_path / 'adapted' / 'model'}" in error_of(capsys)
    assert main(["fill-mask", bert, "the [MASK]"]) == 4
    assert "a Hugging Face folder" in error_of(capsys)
    assert main(["finetune", str(other), "--train", train]) == 2
    assert "not a BERT: model_type" in error_of(capsys)


@pytest.mark.slow
def test_a_run_of_ours_is_fine_tuned_from_its_weights_and_tokenizer(tmp_path):
    run = str(tmp_path / "run")
    text = write_english(tmp_path / "text")
    sizes = "--vocab_size 90 --hidden_size 16 --num_hidden_layers 1 --num_attention_heads 2"
    sizes += " --intermediate_size 16 --max_seq_length 32 --num_iters 1 --eval_step_freq -1"
    command = [
        "pretrain",
        "--train_data",
        str(text / "train.txt"),
        "--work_dir",
        run,
        *sizes.split(),
        "data_text",
    ]
    assert main(command) == 0
    source = load_pretrained(run)
    pretrained = open_encoder(run)
    assert pretrained.tokenizer.fingerprint == source.tokenizer.fingerprint
    model = FinetuningModel.of(pretrained, "classify", 3)
    for kind in ("weight", "bias"):
        pooler = getattr(source.model.nsp.mlp.layer0, kind)
        assert torch.equal(getattr(model.head.mlp.layer0, kind), pooler)
    result = finetune(options_for(tmp_path, run, "classify", num_epochs=1))
    assert transformers.pipeline("text-classification", model=str(result.folder))("The cat")[0]["label"]


def test_several_processes_are_refused(tmp_path, bert, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="needs a single process; found 2"):
        finetune(options_for(tmp_path, bert, "ner"))


@pytest.mark.slow
def test_a_folder_has_the_runs_of_one_fine_tuning(tmp_path, bert):
    finetune(options_for(tmp_path, bert, "ner", num_epochs=1))
    with pytest.raises(ValueError, match="runs with a different num_epochs"):
        finetune(options_for(tmp_path, bert, "ner", num_epochs=2))
    write_huggingface(tmp_path / "bert", "BertModel", hidden_size=8)
    with pytest.raises(ValueError, match="runs with a different model; found other content; fix"):
        finetune(options_for(tmp_path, bert, "ner", num_epochs=1))

"""Going on with another run to the bit, and with a BERT from elsewhere, through the command line."""

import json
import shlex
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file

from nemo.backends.pytorch.checkpoints.checkpoint import list_checkpoints
from nemo.cli.main import main
from nemo.collections.nlp.checkpoints.initial_checkpoint import find_initial_checkpoint
from nemo.collections.nlp.options import PretrainingOptions
from nemo.collections.nlp.pretraining import pretrain
from nemo.collections.nlp.pretraining.text_data import open_data
from nemo.utils.arguments import read_options
from tests.cli.outcome import error_of
from tests.conftest import write_english

SIZES = shlex.split(
    "--no-report --hidden_size 32 --num_hidden_layers 2 --num_attention_heads 2 --intermediate_size 64 "
    "--max_seq_length 32 --vocab_size 80 --tokenizer word-piece"
)
TRAINING = shlex.split(
    "--batch_size 8 --optimizer adam_w --lr 1e-3 --lr_policy CosineAnnealing --train_step_freq 4 "
    "--eval_step_freq -1 --threads 1"
)
STEPS = ("--num_iters", "12")


def run(data: Path, work_dir: Path, *more: str) -> int:
    return main(
        ["pretrain", "--data_dir", str(data), "--work_dir", str(work_dir), *TRAINING, "data_text", *more]
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_english(tmp_path_factory.mktemp("data") / "english")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, data):
    """A work folder with STEP-6 and STEP-12."""
    work_dir = tmp_path_factory.mktemp("undisturbed") / "run"
    assert run(data, work_dir, *SIZES, *STEPS, "--save_step_freq", "6") == 0
    return work_dir


@pytest.fixture
def stopped(undisturbed, tmp_path):
    """The same run, stopped after 6 steps."""
    shutil.copytree(undisturbed, tmp_path / "stopped")
    shutil.rmtree(tmp_path / "stopped" / "checkpoints" / "STEP-12")
    return tmp_path / "stopped"


@pytest.fixture(scope="module")
def huggingface(tmp_path_factory, data):
    """A Hugging Face folder: a BERT with its heads, and a tokenizer of the text's words."""
    folder = tmp_path_factory.mktemp("hub") / "my-bert"
    words = sorted({word.strip(".").lower() for word in (data / "train.txt").read_text().split()})
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", *words]
    tokenizer = transformers.BertTokenizerFast(vocab={token: i for i, token in enumerate(tokens)})
    tokenizer.save_pretrained(folder)
    torch.manual_seed(3)
    config = transformers.BertConfig(
        vocab_size=len(tokens) + 3, hidden_size=24, num_hidden_layers=2, num_attention_heads=3,
        intermediate_size=40, max_position_embeddings=48, initializer_range=0.2, layer_norm_eps=1e-6,
    )  # fmt: skip
    transformers.BertForPreTraining(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("named", [".", "checkpoints", "checkpoints/STEP-6"])
def test_load_dir_continues_another_run_bit_for_bit(undisturbed, stopped, data, tmp_path, named):
    assert run(data, tmp_path / "on", "--load_dir", str(stopped / named), *STEPS) == 0
    expected, found = (folder / "checkpoints" / "STEP-12" for folder in (undisturbed, tmp_path / "on"))
    for name in ("BERT", "BertTokenClassifier", "SequenceClassifier", "optimizer"):
        ours, theirs = load_file(found / f"{name}.safetensors"), load_file(expected / f"{name}.safetensors")
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    for name in ("state.json", "bert-config.json", "vocab.txt"):
        assert (found / name).read_bytes() == (expected / name).read_bytes()


def test_the_continued_run_does_not_change(stopped, data, tmp_path):
    before = {path: path.read_bytes() for path in sorted(stopped.rglob("*")) if path.is_file()}
    assert run(data, tmp_path / "on", "--load_dir", str(stopped), "--num_iters", "7") == 0
    assert {path: path.read_bytes() for path in sorted(stopped.rglob("*")) if path.is_file()} == before


@pytest.mark.slow
def test_the_initial_checkpoint_is_evaluated_first(stopped, data, tmp_path, capsys):
    assert run(data, tmp_path / "on", "--load_dir", str(stopped), "--num_iters", "8") == 0
    rows = [json.loads(line) for line in (tmp_path / "on" / "metrics.jsonl").read_text().splitlines()]
    evaluated = {row["step"]: row["eval_mlm_loss"] for row in rows if "eval_mlm_loss" in row}
    assert list(evaluated) == [6, 8]
    told = capsys.readouterr().out
    assert f"held-out MLM loss {evaluated[6]:.2f} -> {evaluated[8]:.2f} (before -> after, unigram" in told


def test_with_another_text_the_epoch_begins_anew(stopped, data, tmp_path, capsys):
    shutil.copytree(data, tmp_path / "other", ignore=shutil.ignore_patterns("bert"))
    with (tmp_path / "other" / "train.txt").open("a") as file:
        file.write("\n\nThe cat sees the dog.\nThe dog sees the cat.\n")
    assert run(tmp_path / "other", tmp_path / "on", "--load_dir", str(stopped), "--num_iters", "8") == 0
    assert "restarting the epoch: the checkpoint has a different text" in capsys.readouterr().out
    state = json.loads((tmp_path / "on" / "checkpoints" / "STEP-8" / "state.json").read_text())
    assert (state["step"], state["epoch"], state["batch_in_epoch"]) == (8, 0, 2)


@pytest.mark.slow
def test_a_rerun_continues_in_its_own_folder(stopped, data, tmp_path, capsys):
    words = ("--load_dir", str(stopped), "--num_iters", "8")
    assert run(data, tmp_path / "on", *words) == 0
    capsys.readouterr()
    assert run(data, tmp_path / "on", *words) == 0
    assert f"resuming from {tmp_path / 'on'}" in capsys.readouterr().out


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("named", [".", "checkpoints/STEP-6"])
@pytest.mark.parametrize("file", ["BERT.safetensors", "optimizer.safetensors", "state.json"])
def test_a_damaged_run_is_refused(stopped, data, tmp_path, capsys, named, file):
    damage(stopped / "checkpoints" / "STEP-6" / file)
    assert run(data, tmp_path / "on", "--load_dir", str(stopped / named), *STEPS) == 4
    assert f"{file}: damaged" in error_of(capsys)
    assert not list((tmp_path / "on" / "checkpoints").glob("STEP-*"))


@pytest.mark.parametrize(
    ("more", "exit_code", "message"),
    [
        (("--hidden_size", "64"), 2, "--hidden_size: contradicts"),
        (("--vocab_size", "81"), 2, "--vocab_size: contradicts"),
        (("--max_seq_length", "40"), 2, "--max_seq_length: longer than the model allows; found 40"),
        (("--optimizer", "sgd"), 4, "a run with a different optimizer; found adam_w, expected sgd"),
        (("--only_mlm_loss",), 4, "a run with a different only_mlm_loss; found False, expected True"),
        (("--num_iters", "6"), 2, "nothing left to train; found 6 steps"),
        (("--bert_checkpoint", "x"), 2, "--load_dir and --bert_checkpoint cannot be combined"),
    ],
)
def test_a_run_that_does_not_fit_is_refused(stopped, data, tmp_path, capsys, more, exit_code, message):
    assert run(data, tmp_path / "on", "--load_dir", str(stopped), *STEPS, *more) == exit_code
    assert message in error_of(capsys)
    assert not list((tmp_path / "on" / "checkpoints").glob("STEP-*"))


def test_a_run_with_another_tokenizer_is_refused(stopped, huggingface, data, tmp_path, capsys):
    words = ["--load_dir", str(stopped), *STEPS, "--tokenizer", str(huggingface)]
    assert run(data, tmp_path / "on", *words) == 4
    assert "a run with a different tokenizer" in error_of(capsys)


def test_load_dir_with_only_weights_suggests_bert_checkpoint(huggingface, data, tmp_path, capsys):
    module = tmp_path / "nemo_0_10" / "checkpoints" / "BERT-STEP-5.pt"
    module.parent.mkdir(parents=True)
    module.touch()
    for folder, weights in ((tmp_path / "nemo_0_10", module), (huggingface, huggingface)):
        assert run(data, tmp_path / "on", "--load_dir", str(folder), *STEPS) == 4
        assert f"fix: to start from the weights alone, give --bert_checkpoint {weights}" in error_of(capsys)


def test_a_folder_that_holds_another_run_is_not_taken_for_a_continuation(
    undisturbed, stopped, huggingface, data, tmp_path, capsys
):
    shutil.copytree(undisturbed, tmp_path / "taken")
    for option, source in (("--load_dir", stopped), ("--bert_checkpoint", huggingface)):
        assert run(data, tmp_path / "taken", option, str(source), "--num_iters", "14") == 2
        assert "started from another checkpoint" in error_of(capsys)
    own = str(tmp_path / "taken" / "checkpoints")
    assert run(data, tmp_path / "taken", *SIZES, "--load_dir", own, "--num_iters", "14") == 0


def mlm_loss_of_transformers(folder: Path, batches) -> float:
    """What `BertForPreTraining` says of the same masks."""
    model = transformers.BertForPreTraining.from_pretrained(folder).eval()
    total, count = 0.0, 0
    for ids, types, mask, labels, output_mask, _ in batches:
        with torch.no_grad():
            scores = model(ids, token_type_ids=types, attention_mask=mask).prediction_logits
        chosen = output_mask.bool()
        total += torch.nn.functional.cross_entropy(scores[chosen], labels[chosen], reduction="sum").item()
        count += int(chosen.sum())
    return total / count


def test_one_command_continues_a_hugging_face_bert_and_logs_the_loss(huggingface, data, tmp_path, capsys):
    words = ["--num_iters", "30", "--max_seq_length", "32", "--lr", "5e-3"]
    assert run(data, tmp_path / "on", "--bert_checkpoint", str(huggingface), *words) == 0
    out = capsys.readouterr().out
    assert f"weights from {huggingface}: encoder, MLM head, NSP head; new: nothing" in out
    rows = [json.loads(line) for line in (tmp_path / "on" / "metrics.jsonl").read_text().splitlines()]
    before, after = (row for row in rows if "eval_mlm_loss" in row)
    assert before["step"] == 0
    assert after["eval_mlm_loss"] < before["eval_mlm_loss"] - 0.5
    told = (before["eval_mlm_loss"], after["eval_mlm_loss"], after["eval_unigram_entropy"])
    last = "held-out MLM loss {:.2f} -> {:.2f} (before -> after, unigram entropy {:.2f})".format(*told)
    assert any(line.endswith(last) for line in out.splitlines())

    config = json.loads((tmp_path / "on" / "checkpoints" / "bert-config.json").read_text())
    theirs = transformers.BertConfig.from_pretrained(huggingface).to_dict()
    for name in (
        "vocab_size",
        "hidden_size",
        "num_attention_heads",
        "max_position_embeddings",
        "layer_norm_eps",
    ):
        assert config[name] == theirs[name]
    settled = read_options(PretrainingOptions, tmp_path / "on" / "config.yaml")
    assert (settled["hidden_size"], settled["num_attention_heads"]) == (24, 3)


def test_the_initial_loss_equals_that_of_transformers(huggingface, data, tmp_path):
    options = PretrainingOptions(
        mode="data_text", data_dir=str(data), work_dir=str(tmp_path / "on"), num_iters=1, batch_size=8,
        bert_checkpoint=str(huggingface), max_seq_length=32, eval_step_freq=-1, threads=1,
    )  # fmt: skip
    result = pretrain(options)
    layer = open_data(options, tmp_path / "on", find_initial_checkpoint(options)).eval
    expected = mlm_loss_of_transformers(huggingface, layer.batches(0))
    assert result.figures_before["mlm_loss"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.slow
def test_a_continued_bert_works_in_export_evaluate_and_fill_mask(huggingface, data, tmp_path, capsys):
    assert run(data, tmp_path / "on", "--bert_checkpoint", str(huggingface), "--num_iters", "2") == 0
    assert main(["export", str(tmp_path / "on"), str(tmp_path / "out")]) == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"| continues | {huggingface.name} |" in card and str(tmp_path) not in card
    assert main(["evaluate", str(tmp_path / "on"), "--eval_data", str(data / "valid.txt")]) == 0
    assert main(["fill-mask", str(tmp_path / "on"), "the [MASK] sees the dog."]) == 0
    assert transformers.BertForPreTraining.from_pretrained(tmp_path / "out").config.vocab_size == (
        transformers.BertConfig.from_pretrained(huggingface).vocab_size
    )


@pytest.mark.parametrize(
    ("more", "exit_code", "message"),
    [
        (("--hidden_size", "32"), 2, "--hidden_size: contradicts"),
        (("--num_attention_heads", "4"), 2, "--num_attention_heads: contradicts"),
        (("--hidden_act", "relu"), 2, "--hidden_act: contradicts"),
        (("--max_seq_length", "49"), 2, "found 49, expected 48 or less, the max_position_embeddings of"),
        (("--initialization", "counts"), 2, "--initialization counts and --bert_checkpoint cannot"),
    ],
)
def test_options_that_contradict_the_model_are_refused(
    huggingface, data, tmp_path, capsys, more, exit_code, message
):
    words = ["--bert_checkpoint", str(huggingface), *STEPS, *more]
    assert run(data, tmp_path / "on", *words) == exit_code
    assert message in error_of(capsys)


@pytest.mark.slow
def test_minutes_are_counted_from_where_a_run_continues(stopped, huggingface, data, tmp_path):
    for option, source, first in (("--load_dir", stopped, 6), ("--bert_checkpoint", huggingface, 0)):
        work_dir = tmp_path / option
        assert run(data, work_dir, option, str(source), "--minutes", "1e-9") == 0
        newest = list_checkpoints(work_dir / "checkpoints")[-1].name
        assert newest in (f"STEP-{first + 1}", f"STEP-{first + 2}")  # what it takes to time a step


def test_an_unknown_model_name_is_one_clear_line(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert run(data, tmp_path / "on", "--bert_checkpoint", "nobody/no-such-bert", *STEPS) == 4
    assert "nobody/no-such-bert: no pretrained BERT of this name" in error_of(capsys)

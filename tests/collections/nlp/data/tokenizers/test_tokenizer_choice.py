from pathlib import Path

import pytest

from nemo.collections.nlp.checkpoints.initial_checkpoint import InitialCheckpoint
from nemo.collections.nlp.data.tokenizers.choice import (
    HubModel,
    TokenizerChoice,
    TokenizerRequest,
    choose_tokenizer,
    find_tokenizer,
)
from nemo.utils.errors import UsageError
from nemo.utils.logging import logging


def folder_with(place: Path, *names: str) -> Path:
    place.mkdir(parents=True)
    for name in names:
        (place / name).touch()
    return place


def model(tokenizer: str | None) -> InitialCheckpoint:
    return InitialCheckpoint("model", None, tokenizer, take=lambda model: [])


@pytest.fixture
def text(tmp_path) -> Path:
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "train.txt").write_text("text\n")
    return tmp_path / "text" / "train.txt"


def test_the_first_rule_that_has_a_tokenizer_decides(tmp_path, text):
    """What is named, else what belongs to a model, else what is beside the data, else a new one."""
    beside = folder_with(text.parent / "bert", "vocab.txt")
    everything = TokenizerRequest("named", None, model("of the model"), text, train_in=tmp_path / "new")
    assert choose_tokenizer(everything) == TokenizerChoice("named", "named by --tokenizer")
    kind = TokenizerRequest("sentence-piece", None, model("of the model"), text, train_in=tmp_path / "new")
    assert choose_tokenizer(kind).source == "of the model"
    without_model = TokenizerRequest("sentence-piece", data=text, train_in=tmp_path / "new")
    assert choose_tokenizer(without_model) == TokenizerChoice(str(beside), "beside the data")
    (beside / "vocab.txt").unlink()
    assert choose_tokenizer(without_model) == TokenizerChoice(
        str(tmp_path / "new"), "there is no other", is_new=True
    )
    assert choose_tokenizer(TokenizerRequest(data=text)) is None


def test_a_checkpoint_has_its_own_tokenizer_or_is_given_one(tmp_path):
    checkpoint = folder_with(tmp_path / "STEP-1", "tokenizer.json")
    assert choose_tokenizer(TokenizerRequest(checkpoint=checkpoint)).source == str(checkpoint)
    with pytest.raises(UsageError, match=r"STEP-1: the checkpoint has its own tokenizer; fix: leave"):
        choose_tokenizer(TokenizerRequest("named", checkpoint))
    bare = folder_with(tmp_path / "STEP-2")
    assert choose_tokenizer(TokenizerRequest(checkpoint=bare)) is None
    assert choose_tokenizer(TokenizerRequest("named", bare)).source == "named"


@pytest.mark.parametrize(
    ("files", "asked", "is_used"),
    [
        (["vocab.txt"], "sentence-piece", True),
        (["vocab.txt"], "word-piece", True),
        (["tokenizer.json"], "word-piece", True),
        (["tokenizer.model"], "sentence-piece", True),
        (["tokenizer.model", "vocab.txt"], "word-piece", False),  # which lists the model's pieces
        (["tokenizer.model", "tokenizer.json"], "word-piece", True),
        (["config.json"], "sentence-piece", False),
    ],
)
def test_a_tokenizer_beside_text_is_used_if_its_kind_fits(tmp_path, text, files, asked, is_used):
    beside = folder_with(text.parent / "bert", *files)
    choice = choose_tokenizer(TokenizerRequest(asked, data=text, train_in=tmp_path / "new"))
    assert choice.source == str(beside if is_used else tmp_path / "new")


def test_prepared_data_has_its_tokenizer_beside_it_or_its_folder(tmp_path):
    shards = folder_with(tmp_path / "hdf5" / "wiki", "wiki_training_0.hdf5")
    beside = folder_with(tmp_path / "hdf5" / "bert", "vocab.txt")
    for data in (tmp_path / "hdf5", shards, shards / "wiki_training_0.hdf5"):
        assert choose_tokenizer(TokenizerRequest(data=data, is_prepared=True)).source == str(beside)
    assert choose_tokenizer(TokenizerRequest(data=shards)) is None


def test_weights_without_their_tokenizer_get_no_new_one(tmp_path, text, caplog):
    request = TokenizerRequest("word-piece", initial=model(None), data=text, train_in=tmp_path / "new")
    with pytest.raises(UsageError, match="model: this model comes without its tokenizer"):
        choose_tokenizer(request)
    folder_with(text.parent / "bert", "vocab.txt")
    choose_tokenizer(request)
    assert "model has no tokenizer" in caplog.text


def test_a_slip_in_a_kind_is_answered_with_the_kind(tmp_path):
    with pytest.raises(
        UsageError, match="unknown tokenizer; found 'wordpiece'; fix: did you mean 'word-piece'"
    ):
        choose_tokenizer(TokenizerRequest("wordpiece", train_in=tmp_path))


def test_a_tokenizer_that_several_stages_open_is_logged_once(tmp_path, caplog):
    folder = folder_with(tmp_path / "model")
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n")
    with logging.temp_verbosity("WARNING"):  # which hides it, so it counts as not logged
        find_tokenizer(TokenizerRequest(initial=HubModel(str(folder))))
    for _ in range(3):
        assert find_tokenizer(TokenizerRequest(initial=HubModel(str(folder)))).vocab_size == 6
    told = f"using the tokenizer in {folder} (from the model {folder})"
    assert [record.getMessage() for record in caplog.records].count(told) == 1


def test_a_kind_is_a_name_if_no_tokenizer_can_be_trained(tmp_path):
    assert choose_tokenizer(TokenizerRequest("word-piece", train_in=tmp_path)).is_new
    assert choose_tokenizer(TokenizerRequest("word-piece", initial=HubModel("bert"))).source == "word-piece"

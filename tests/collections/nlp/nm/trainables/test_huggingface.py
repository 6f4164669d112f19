"""BERT as a neural module: where it may come from."""

import json

import pytest
import torch
import transformers

from nemo.collections.nlp.models.bert import BertModel
from nemo.collections.nlp.nm.trainables.common.huggingface import BERT
from nemo.utils.errors import CheckpointError, MissingFileError, UsageError

SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 20,
    "max_position_embeddings": 8,
}
IDS = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]])
TYPES = torch.tensor([[0, 0, 1, 1], [0, 1, 1, 1]])
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])


@pytest.fixture
def folder(tmp_path):
    """A Hugging Face folder of a model with pretraining heads."""
    torch.manual_seed(1)
    config = transformers.BertConfig(vocab_size=30, hidden_dropout_prob=0.2, **SIZES)
    transformers.BertForPreTraining(config).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def assert_same_hidden_states(bert, model):
    theirs = model(IDS, token_type_ids=TYPES, attention_mask=MASK).last_hidden_state
    torch.testing.assert_close(bert.eval()(IDS, TYPES, MASK), theirs, atol=1e-5, rtol=0)


def test_every_constructor_argument_takes_effect():
    arguments = {
        **SIZES,
        "hidden_act": "relu",
        "hidden_dropout_prob": 0.25,
        "attention_probs_dropout_prob": 0.5,
        "type_vocab_size": 3,
        "initializer_range": 0.125,
        "layer_norm_eps": 1e-5,
        "pad_token_id": 7,
    }
    bert = BERT(vocab_size=30, **arguments)
    for name, value in {"vocab_size": 30, **arguments}.items():
        assert getattr(bert.config, name) == value
    layer = bert.bert.encoder.layer[0]
    assert layer.output.dropout.p == 0.25
    assert layer.attention.self.dropout_prob == 0.5
    assert layer.output.LayerNorm.eps == 1e-5
    assert bert.bert.embeddings.token_type_embeddings.num_embeddings == 3
    assert bert.bert.embeddings.word_embeddings.padding_idx == 7
    assert layer.intermediate.dense.weight.std().item() == pytest.approx(0.125, rel=0.2)
    assert bert.hidden_size == 16


def test_weights_have_the_names_of_transformers():
    bert = BERT(vocab_size=30, **SIZES)
    theirs = transformers.BertForPreTraining(bert.config).state_dict()
    assert bert.state_dict().keys() == {name for name in theirs if name.startswith("bert.")}


def test_pooler_is_kept_but_not_trained():
    bert = BERT(vocab_size=30, **SIZES)
    frozen = [name for name, (_, trained) in bert.get_weights().items() if not trained]
    assert frozen == ["bert.pooler.dense.weight", "bert.pooler.dense.bias"]


def test_rows_leave_alone(folder):
    bert = BERT(str(folder)).eval()
    rows = torch.tensor([0, 6])
    torch.testing.assert_close(
        bert(IDS, TYPES, MASK, rows=rows), bert(IDS, TYPES, MASK).flatten(0, 1)[rows], atol=1e-6, rtol=1e-5
    )


def test_pretrained_folder_gives_the_same_model(folder):
    bert = BERT(pretrained_model_name=str(folder))
    assert bert.config.hidden_dropout_prob == 0.2
    assert_same_hidden_states(bert, transformers.BertModel.from_pretrained(folder))


def test_pretrained_folder_may_hold_a_plain_pickle_of_tensors(folder):
    model = transformers.BertModel.from_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert_same_hidden_states(BERT(str(folder)), model)


def test_pretrained_folder_may_lack_the_pooler(folder):
    model = transformers.BertForMaskedLM.from_pretrained(folder)
    model.save_pretrained(folder)
    assert_same_hidden_states(BERT(str(folder)), model.bert)


def test_a_file_of_nemo_0_10_is_restored(folder, tmp_path):
    """transformers 2.8 kept positions in a buffer."""
    model = transformers.BertModel.from_pretrained(folder)
    tensors = {f"bert.{name}": tensor for name, tensor in model.state_dict().items()}
    tensors["bert.embeddings.position_ids"] = torch.arange(8)[None]
    torch.save(tensors, tmp_path / "BERT-STEP-5.pt", _use_new_zipfile_serialization=False)
    bert = BERT(vocab_size=30, **SIZES)
    bert.restore_from(tmp_path / "BERT-STEP-5.pt")
    assert_same_hidden_states(bert, model)


def test_a_file_that_lacks_a_layer_changes_nothing(tmp_path):
    bert = BERT(vocab_size=30, **SIZES)
    before = {name: tensor.clone() for name, tensor in bert.state_dict().items()}
    torch.save({name: t + 1 for name, t in before.items() if "output" not in name}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=r"x\.pt: the encoder is not complete; found 8 weights missing"):
        bert.restore_from(tmp_path / "x.pt")
    assert all(torch.equal(tensor, before[name]) for name, tensor in bert.state_dict().items())


def test_name_is_found_in_the_cache_without_network(folder, tmp_path, monkeypatch):
    """The layout of the cache: refs name a commit, snapshots hold its files."""
    repository = tmp_path / "hub" / "models--google-bert--bert-base-uncased"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    (repository / "snapshots").mkdir()
    folder.rename(repository / "snapshots" / "abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert BERT("bert-base-uncased").config.vocab_size == 30


def test_dropout_of_a_pretrained_model_can_be_changed(folder):
    bert = BERT(str(folder), hidden_dropout_prob=0.0)
    assert bert.config.hidden_dropout_prob == 0.0
    assert bert.bert.embeddings.dropout.p == 0.0


def test_size_that_contradicts_the_pretrained_model_is_refused(folder):
    with pytest.raises(UsageError, match=r"hidden_size: contradicts .*; found 32, expected 16"):
        BERT(str(folder), hidden_size=32)
    assert BERT(str(folder), hidden_size=16).hidden_size == 16


def test_config_file_gives_the_sizes_of_a_new_model(tmp_path):
    BERT(vocab_size=30, layer_norm_eps=1e-6, **SIZES).config.to_json_file(tmp_path / "bert-config.json")
    bert = BERT(config_filename=str(tmp_path / "bert-config.json"))
    assert (bert.config.vocab_size, bert.config.layer_norm_eps) == (30, 1e-6)
    assert isinstance(bert.bert, BertModel)


def test_config_of_googles_release_is_read(tmp_path):
    """It has a key of its own and lacks those that came later."""
    settings = {"vocab_size": 30, "directionality": "bidi", "hidden_act": "gelu", **SIZES}
    (tmp_path / "bert_config.json").write_text(json.dumps(settings))
    assert BERT(config_filename=str(tmp_path / "bert_config.json")).config.vocab_size == 30


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not a BERT configuration"),
        ("[]", "not a JSON object"),
        ('{"hidden_size": "wide"}', "not a BERT configuration"),
        ('{"model_type": "roberta"}', "not a BERT: model_type; found roberta, expected bert"),
        ('{"position_embedding_type": "relative_key"}', "position_embedding_type; found relative_key"),
        ('{"quantization_config": {"quant_method": "gptq"}}', "the weights are quantized"),
    ],
)
def test_a_file_that_is_not_a_configuration_is_refused(tmp_path, content, words):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UsageError, match=words):
        BERT(config_filename=str(tmp_path / "config.json"))


def test_a_missing_config_file_is_an_error(tmp_path):
    with pytest.raises(MissingFileError, match="no such file"):
        BERT(config_filename=str(tmp_path / "none.json"))


@pytest.mark.parametrize("arguments", [{}, {"vocab_size": 30, "config_filename": "x.json"}])
def test_exactly_one_origin(arguments):
    with pytest.raises(UsageError, match="exactly one of pretrained_model_name, config_filename, vocab_size"):
        BERT(**arguments)


def test_heads_that_do_not_divide_the_width_are_refused_by_name():
    with pytest.raises(UsageError, match="hidden_size 16, num_attention_heads 3"):
        BERT(vocab_size=30, **{**SIZES, "num_attention_heads": 3})


def test_unknown_name_is_a_clear_error_without_network(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="nobody/no-such-bert: no pretrained BERT of this name"):
        BERT("nobody/no-such-bert")


def test_folder_without_weights_is_refused(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="no weights of a pretrained BERT"):
        BERT(str(folder))


def test_damaged_weights_are_refused(folder):
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match="damaged"):
        BERT(str(folder))


def test_weights_of_other_sizes_than_the_configuration_are_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": 31}))
    with pytest.raises(
        CheckpointError, match="the weights have a different vocab_size; found 30, expected 31"
    ):
        BERT(str(folder))


def test_incomplete_weights_are_refused(folder):
    model = transformers.BertModel.from_pretrained(folder)
    tensors = {k: v for k, v in model.state_dict().items() if "intermediate" not in k}
    torch.save(tensors, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"2 weights missing.*intermediate\.dense\.bias"):
        BERT(str(folder))


class Program:
    """What unpickling would run."""

    def __reduce__(self):
        return (open, ("written-by-a-pickle", "w"))


def test_pickled_programs_are_not_run(folder, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    torch.save({"embeddings.word_embeddings.weight": Program()}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="damaged"):
        BERT(str(folder))
    assert not (tmp_path / "written-by-a-pickle").exists()


def test_pretrained_models_are_listed_without_network():
    models = BERT.list_pretrained_models()
    assert len(models) == 22
    assert models[0].pretrained_model_name == "bert-base-uncased"
    assert {"pretrained_model_name", "description", "parameters", "location"} == set(models[0]._fields)

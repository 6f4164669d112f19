"""The settings of a BERT, against transformers.BertConfig."""

import dataclasses
import json

import pytest
import transformers

from nemo.collections.nlp.models.bert_settings import BertSettings
from nemo.utils.errors import UsageError

OURS_ALONE = {"keep_pooler", "others"}
NAMES = [setting.name for setting in dataclasses.fields(BertSettings) if setting.name not in OURS_ALONE]
OTHER_VALUES = {
    "vocab_size": 30,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "hidden_act": "relu",
    "hidden_dropout_prob": 0.2,
    "attention_probs_dropout_prob": 0.3,
    "max_position_embeddings": 20,
    "type_vocab_size": 1,
    "initializer_range": 0.1,
    "layer_norm_eps": 1e-5,
    "pad_token_id": 7,
    "tie_word_embeddings": False,
}


def values(settings):
    return {name: getattr(settings, name) for name in NAMES}


def test_defaults_are_those_of_transformers():
    assert values(BertSettings()) == values(transformers.BertConfig())


def test_transformers_reads_the_file(tmp_path):
    (tmp_path / "config.json").write_text(BertSettings(**OTHER_VALUES).to_json())
    assert values(transformers.BertConfig.from_pretrained(tmp_path)) == OTHER_VALUES


def test_a_file_of_transformers_is_read(tmp_path):
    transformers.BertConfig(**OTHER_VALUES, classifier_dropout=0.4).save_pretrained(tmp_path)
    settings = BertSettings.parse(json.loads((tmp_path / "config.json").read_text()), "config.json")
    assert values(settings) == OTHER_VALUES
    assert settings.as_transformers().classifier_dropout == 0.4
    assert BertSettings.parse(json.loads(settings.to_json()), "again") == settings


def test_a_whole_number_may_be_a_float():
    config = BertSettings.parse({"hidden_dropout_prob": 0, "layer_norm_eps": 1}, "x.json").as_transformers()
    assert (config.hidden_dropout_prob, config.layer_norm_eps) == (0, 1)


def test_the_pooler_to_keep_is_a_setting_of_ours_alone():
    settings = BertSettings(keep_pooler=True)
    assert BertSettings.parse(settings.to_dict(), "again").keep_pooler
    assert not hasattr(settings.as_transformers(), "keep_pooler")
    assert "keep_pooler" not in BertSettings().to_dict()


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("hidden_size", "wide", "int"),
        ("hidden_size", 1.5, "int"),
        ("hidden_size", True, "int"),
        ("hidden_size", None, "int"),
        ("hidden_act", 3, "str"),
        ("hidden_dropout_prob", "0.1", "float"),
        ("layer_norm_eps", False, "float"),
        ("pad_token_id", "0", "int or null"),
        ("tie_word_embeddings", 1, "bool"),
        ("keep_pooler", "yes", "bool"),
    ],
)
def test_a_wrong_type_is_refused(name, value, expected):
    message = rf"x\.json: not a BERT configuration; found {name} {value!r}, expected {expected}$"
    with pytest.raises(UsageError, match=message):
        BertSettings.parse({name: value}, "x.json")


@pytest.mark.parametrize("name", ["intermediate_size", "initializer_range"])
def test_a_huge_number_is_refused(name):
    with pytest.raises(UsageError, match=rf"x\.json: not a BERT configuration; found {name} 1000+, expected"):
        BertSettings.parse({name: 10**400}, "x.json")


def test_what_transformers_rejects_is_an_error_of_ours():
    with pytest.raises(UsageError, match=r"^x\.json: not a BERT configuration; found .*use_cache"):
        BertSettings.parse({"use_cache": "perhaps"}, "x.json").as_transformers("x.json")

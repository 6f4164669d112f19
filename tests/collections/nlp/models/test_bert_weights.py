"""Weights under the names that other people's files have: loaded as what they are, or refused by name."""

import shutil
from collections import OrderedDict

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from nemo.collections.nlp.checkpoints.initial_checkpoint import (
    find_initial_checkpoint,
    take_weights,
    with_sizes,
)
from nemo.collections.nlp.data.tokenizers import load_tokenizer
from nemo.collections.nlp.models.bert_weights import canonical, sizes_of
from nemo.collections.nlp.nm.pretraining_model import PretrainingModel, build_model
from nemo.collections.nlp.nm.trainables.common.huggingface import BERT
from nemo.collections.nlp.options import PretrainingOptions
from nemo.utils.errors import CheckpointError
from tests.huggingface_folders import IDS, MASK, SIZES, TYPES, answers, our_answers, write_huggingface


def start(place, **given) -> PretrainingModel:
    """The model that `pretrain --bert_checkpoint` starts with."""
    options = PretrainingOptions(mode="data_text", train_data="text.txt", bert_checkpoint=str(place), **given)
    origin = find_initial_checkpoint(options)
    options, config = with_sizes(options, origin)
    tokenizer = load_tokenizer(given.get("tokenizer") or origin.tokenizer)
    model = build_model(options, tokenizer, config)
    take_weights(model, origin)
    return model


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A folder, and its model as transformers reads it."""
    folder = tmp_path_factory.mktemp("source") / "bert"
    write_huggingface(folder)
    return folder, transformers.BertForPreTraining.from_pretrained(folder).eval()


def prefixed(prefix):
    return lambda tensors: {prefix + name: tensor for name, tensor in tensors.items()}


def renamed(*pairs):
    def rename(tensors):
        found = {}
        for name, tensor in tensors.items():
            for old, new in pairs:
                name = name.replace(old, new)
            found[name] = tensor
        return found

    return rename


AS_OTHERS_WRITE_THEM = {
    "DDP": prefixed("module."),
    "a Lightning module": prefixed("model."),
    "torch.compile": prefixed("_orig_mod."),
    "all three": prefixed("module._orig_mod.model."),
    "an encoder compiled in its model": renamed(("bert.", "bert._orig_mod.")),
    "layers compiled one by one": renamed((".attention.", "._orig_mod.attention.")),
    "FSDP": renamed(("bert.encoder.", "_fsdp_wrapped_module.bert.encoder._fsdp_wrapped_module.")),
    "NVIDIA": renamed(
        ("intermediate.dense.", "intermediate.dense_act."),
        ("pooler.dense.", "pooler.dense_act."),
        ("transform.dense.", "transform.dense_act."),
    ),
    "the first release": renamed(
        ("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta")
    ),
    "half precision": lambda tensors: {name: tensor.half() for name, tensor in tensors.items()},
    "buffers": lambda tensors: {
        **tensors,
        "bert.embeddings.position_ids": torch.arange(40)[None],
        "bert.embeddings.token_type_ids": torch.zeros(1, 40, dtype=torch.long),
    },
    "another head": lambda tensors: {**tensors, "classifier.weight": torch.zeros(3, 16)},
    "model": lambda tensors: {"model": tensors, "epoch": 3},
    "state_dict": lambda tensors: {"state_dict": OrderedDict(tensors), "global_step": 7},
    "model_state_dict": lambda tensors: {
        "model_state_dict": tensors,
        "optimizer_state_dict": {"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 0.1}]},
    },
    "DeepSpeed": lambda tensors: {"module": tensors, "dp_world_size": 8},
    "a wrapper in a wrapper": lambda tensors: {"model": {"state_dict": prefixed("module.")(tensors)}},
}


@pytest.mark.parametrize("way", AS_OTHERS_WRITE_THEM)
def test_a_folder_is_read_under_every_naming_of_its_weights(source, tmp_path, way):
    folder, theirs = source
    copied = tmp_path / "bert"
    shutil.copytree(folder, copied)
    (copied / "model.safetensors").unlink()
    torch.save(AS_OTHERS_WRITE_THEM[way](theirs.state_dict()), copied / "pytorch_model.bin")
    tolerance = 1e-2 if way == "half precision" else 1e-5
    for found, expected in zip(our_answers(start(copied)), answers(theirs), strict=True):
        torch.testing.assert_close(found, expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize("way", AS_OTHERS_WRITE_THEM)
@pytest.mark.parametrize("kind", ["BertForPreTraining", "BertModel"])
def test_a_file_is_read_under_every_naming_of_its_weights(source, tmp_path, way, kind):
    folder, theirs = source
    tensors = theirs.state_dict() if kind == "BertForPreTraining" else theirs.bert.state_dict()
    torch.save(AS_OTHERS_WRITE_THEM[way](tensors), tmp_path / "weights.pt")
    theirs.config.to_json_file(tmp_path / "sizes.json")
    given = {"config_file": str(tmp_path / "sizes.json"), "tokenizer": str(folder)}
    model = start(tmp_path / "weights.pt", **given)
    model.bert.eval()
    with torch.no_grad():
        expected = theirs.bert(IDS, token_type_ids=TYPES, attention_mask=MASK).last_hidden_state
        found = model.bert(IDS, TYPES, MASK)
    torch.testing.assert_close(found, expected, atol=1e-2 if way == "half precision" else 1e-5, rtol=0)


@pytest.mark.parametrize(
    ("wrap", "words"),
    [
        (prefixed("student."), r"unknown parameter names for a BERT; found student\.bert\.embeddings\.word"),
        (
            renamed(("bert.", "roberta.")),
            r"unknown parameter names for a BERT; found roberta\.embeddings\.word",
        ),
        (lambda t: prefixed("a.")(t) | prefixed("b.")(t), r"several BERTs; found a\.bert\..* and b\.bert\."),
        (lambda t: {"net": t, "epoch": 3}, r"not the weights of a module; found net \(OrderedDict\), epoch"),
        (lambda t: {"model": {"net": t}}, r"not the weights of a module; found net \(OrderedDict\)"),
        (lambda t: {"linear.weight": torch.zeros(2)}, "does not contain a BERT; found linear.weight"),
        (lambda t: {}, "does not contain a BERT; found nothing"),
        (
            lambda t: {**t, "bert.encoder.layer.0.attention.self.lora_A.weight": torch.zeros(2)},
            r"an encoder of another kind; found 1 weights not known, .*lora_A",
        ),
        (
            lambda t: {name: x for name, x in t.items() if "layer.1.output" not in name},
            r"not complete; found 4 weights missing, the first of them bert\.encoder\.layer\.1\.output",
        ),
    ],
)
def test_names_that_are_not_known_are_refused_and_named(source, tmp_path, wrap, words):
    folder, theirs = source
    torch.save(wrap(theirs.state_dict()), tmp_path / "weights.pt")
    theirs.config.to_json_file(tmp_path / "sizes.json")
    given = {"config_file": str(tmp_path / "sizes.json"), "tokenizer": str(folder)}
    with pytest.raises(CheckpointError, match=words):
        start(tmp_path / "weights.pt", **given)
    with pytest.raises(CheckpointError, match=words):
        BERT(config_filename=given["config_file"]).restore_from(tmp_path / "weights.pt")


@pytest.mark.parametrize(
    ("size", "value"),
    [
        ("hidden_size", 32),
        ("num_hidden_layers", 3),
        ("intermediate_size", 48),
        ("vocab_size", 70),
        ("max_position_embeddings", 50),
        ("type_vocab_size", 4),
    ],
)
def test_weights_of_another_size_are_refused_by_the_name_of_the_size(source, tmp_path, size, value):
    _, theirs = source
    torch.save(theirs.state_dict(), tmp_path / "weights.pt")
    found = getattr(theirs.config, size)
    with pytest.raises(
        CheckpointError, match=f"a different {size}; found {found}, expected {value}; fix: .*"
    ):
        BERT(**{**SIZES, size: value}).restore_from(tmp_path / "weights.pt")


def test_the_sizes_are_those_of_the_configuration(source):
    _, theirs = source
    sizes = sizes_of(canonical(theirs.state_dict(), "here"))
    assert sizes == {name: getattr(theirs.config, name) for name in sizes}
    assert len(sizes) == 6


DECODER, OLD_BIAS, BIAS = (f"cls.predictions.{name}" for name in ("decoder.weight", "bias", "decoder.bias"))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("biases", [(OLD_BIAS, BIAS), (OLD_BIAS,), (BIAS,)])
@pytest.mark.parametrize("decoder", ["absent", "the embeddings", "another"])
def test_the_decoder_is_the_one_that_transformers_computes_with(tmp_path, tied, biases, decoder):
    write_huggingface(tmp_path / "bert", tie_word_embeddings=tied)
    file = tmp_path / "bert" / "model.safetensors"
    tensors = {n: t for n, t in load_file(file).items() if n not in (DECODER, OLD_BIAS, BIAS)}
    words = tensors["bert.embeddings.word_embeddings.weight"]
    tensors |= {name: torch.randn(len(words)) for name in biases}
    if decoder != "absent":
        tensors[DECODER] = words.clone() if decoder == "the embeddings" else 0.3 * torch.randn_like(words)
    save_file(tensors, file, metadata={"format": "pt"})

    theirs, info = transformers.BertForPreTraining.from_pretrained(
        tmp_path / "bert", output_loading_info=True
    )
    theirs.eval()
    if BIAS in info["missing_keys"]:  # transformers 4, which wrote such files, had this one bias
        theirs.cls.predictions.decoder.bias = torch.nn.Parameter(tensors[OLD_BIAS])
    model = start(tmp_path / "bert")
    scores, pairs = our_answers(model)
    if DECODER in info["missing_keys"]:
        assert not tied  # there is no decoder, so the whole head is new
        assert (model.mlm.dense.weight.std() < 0.1).item()  # those of the source have 0.3
    else:
        torch.testing.assert_close(scores, answers(theirs)[0], atol=1e-5, rtol=0)
        assert model.is_tied == (tied and decoder != "another")
        assert model.bert.config.tie_word_embeddings == model.is_tied
    torch.testing.assert_close(pairs, answers(theirs)[1], atol=1e-5, rtol=0)

"""Weights that PyTorch cannot read: the error names them, and the way to convert them."""

import pytest
from transformers import BertConfig

from nemo.collections.nlp.checkpoints.initial_checkpoint import find_initial_checkpoint
from nemo.collections.nlp.models.weight_formats import refuse_other_framework
from nemo.collections.nlp.options import PretrainingOptions
from nemo.utils.errors import CheckpointError
from tests.huggingface_folders import SIZES, write_huggingface

GOOGLE = ["bert_model.ckpt.data-00000-of-00001", "bert_model.ckpt.index", "bert_model.ckpt.meta"]
MIDDLE = ["checkpoint", "model.ckpt-28252.data-00000-of-00001", "model.ckpt-28252.index"]

CASES = {
    "Google's folder": ("", GOOGLE, "TensorFlow", "bert_model.ckpt.index', from_tf=True, config=C"),
    "its prefix": ("bert_model.ckpt", GOOGLE, "TensorFlow", "bert_model.ckpt.index', from_tf=True, config=C"),
    "one of its files": (GOOGLE[0], GOOGLE, "TensorFlow", "bert_model.ckpt.index', from_tf=True, config=C"),
    "a checkpoint of training": ("", MIDDLE, "TensorFlow", "model.ckpt-28252.index', from_tf=True, config=C"),
    "Keras": ("", ["tf_model.h5"], "TensorFlow", "folder', from_tf=True)"),
    "Keras, its file": ("tf_model.h5", ["tf_model.h5"], "TensorFlow", "folder', from_tf=True)"),
    "Flax": ("", ["flax_model.msgpack"], "Flax", "folder', from_flax=True)"),
    "ONNX": ("", ["model.onnx"], "ONNX", "use the model it was made from"),
    "GGUF": ("model.gguf", ["model.gguf"], "GGUF", "use the model it was made from"),
}


@pytest.mark.parametrize("config", ["bert_config.json", "config.json", None])
@pytest.mark.parametrize("case", CASES)
def test_weights_of_another_framework_are_named_with_the_way_to_convert(tmp_path, case, config):
    named, files, framework, fix = CASES[case]
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in files:
        (folder / name).write_bytes(b"\x00")
    if config is not None:
        BertConfig(**SIZES).to_json_file(folder / config)
    given = {"bert_checkpoint": str(folder / named)}
    with pytest.raises(CheckpointError) as error:
        find_initial_checkpoint(PretrainingOptions(mode="data_text", train_data="text.txt", **given))
    assert f"{folder / named}: weights for {framework}, not for PyTorch" in str(error.value)
    assert fix in str(error.value)


def test_the_suggested_command_is_valid_python(tmp_path):
    """transformers 4 is not here to run it, so this is as far as it goes."""
    (tmp_path / "bert_model.ckpt.index").touch()
    with pytest.raises(CheckpointError) as error:
        refuse_other_framework(tmp_path)
    _, _, program = str(error.value).partition('python -c "')
    compile(program.removesuffix('"'), "<fix>", "exec")


def test_weights_for_pytorch_are_preferred_to_others(tmp_path):
    write_huggingface(tmp_path / "bert")
    (tmp_path / "bert" / "tf_model.h5").touch()
    (tmp_path / "bert" / "model.onnx").touch()
    find_initial_checkpoint(
        PretrainingOptions(mode="data_text", train_data="x", bert_checkpoint=str(tmp_path / "bert"))
    )

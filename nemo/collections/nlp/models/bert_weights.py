"""Names of a BERT's weights: in files from other programs, in Hugging Face's, and in our modules.

Most files use the names of `transformers.BertForPreTraining`. Exceptions: the first releases called a norm's
weights gamma and beta, NVIDIA calls a dense layer with its activation `dense_act`, and wrappers of a module
(DDP, torch.compile, a class of the user) add a prefix.
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from nemo.collections.nlp.models.bert_settings import BertSettings
from nemo.utils.errors import CheckpointError

# Our name -> the name in transformers.BertForPreTraining.
MLM_NAMES = {
    "dense.weight": "cls.predictions.transform.dense.weight",
    "dense.bias": "cls.predictions.transform.dense.bias",
    "norm.weight": "cls.predictions.transform.LayerNorm.weight",
    "norm.bias": "cls.predictions.transform.LayerNorm.bias",
    "mlp.layer0.weight": "cls.predictions.decoder.weight",
    "mlp.layer0.bias": "cls.predictions.decoder.bias",
}
NSP_NAMES = {
    "mlp.layer0.weight": "bert.pooler.dense.weight",
    "mlp.layer0.bias": "bert.pooler.dense.bias",
    "mlp.layer2.weight": "cls.seq_relationship.weight",
    "mlp.layer2.bias": "cls.seq_relationship.bias",
}
# transformers 4 and earlier programs used this name for the bias, whether the decoder was tied or not.
OLD_BIAS = "cls.predictions.bias"
DECODER = MLM_NAMES["mlp.layer0.weight"]
POOLER = "bert.pooler.dense."

_WORDS = "embeddings.word_embeddings.weight"
_RENAMED = {"gamma": "weight", "beta": "bias", "dense_act": "dense"}
# Words that DDP, torch.compile, FSDP and activation checkpointing insert anywhere in a name.
_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
# Prefixes of a BERT's names, from classes that contain it, such as those of sentence-transformers.
_HOLDERS = {"bert", "model", "auto_model", "0"}
_BUFFERS = {"position_ids", "token_type_ids"}  # some versions of transformers saved these
_OF_ENCODER = ("embeddings.", "encoder.", "pooler.")
_LAYER = re.compile(r"bert\.encoder\.layer\.([0-9]+)\.")


def canonical(tensors: Mapping[str, Tensor], source: Any) -> dict[str, Tensor]:
    """A file's encoder and pretraining heads under the names of `transformers.BertForPreTraining`.

    All are float32. Weights of other heads are dropped.

    Args:
        tensors: name in the file -> tensor.
        source: where they come from, for errors.

    Raises:
        CheckpointError: there is no BERT, or there are several, or one with an unknown prefix.
    """
    plain = {}
    for name, tensor in tensors.items():
        words = [_RENAMED.get(word, word) for word in name.split(".") if word not in _WRAPPERS]
        if words and words[-1] not in _BUFFERS:
            plain[".".join(words)] = tensor.float() if tensor.is_floating_point() else tensor
    prefixes = [name.removesuffix(_WORDS) for name in plain if name.endswith(_WORDS)]
    if not prefixes:
        raise CheckpointError(
            "does not contain a BERT",
            where=source,
            found=next(iter(tensors), "nothing"),
            expected=f"bert.{_WORDS}",
        )
    if len(prefixes) > 1 or not set(prefixes[0].split(".")[:-1]) <= _HOLDERS:
        raise CheckpointError(
            "contains several BERTs" if len(prefixes) > 1 else "unknown parameter names for a BERT",
            where=source,
            found=" and ".join(f"{prefix}{_WORDS}" for prefix in prefixes),
            expected=f"{_WORDS}, with an optional prefix such as bert.",
            fix="save the encoder's state_dict() alone",
        )
    before = prefixes[0]
    heads = before.removesuffix("bert.") + "cls."
    found = {}
    for name, tensor in plain.items():
        if name.startswith(before) and name.removeprefix(before).startswith(_OF_ENCODER):
            found["bert." + name.removeprefix(before)] = tensor
        elif name.startswith(heads):
            found["cls." + name.removeprefix(heads)] = tensor
    return found


def encoder_of(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The encoder among canonical names."""
    return {name: tensor for name, tensor in tensors.items() if name.startswith("bert.")}


def by_module(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Canonical names -> names in our modules, by module: `BERT` and each head in the file.

    If the file has no decoder, it is tied to the embeddings, and the MLM head has no `mlp.layer0.weight`.
    """
    if OLD_BIAS in tensors:
        tensors = {MLM_NAMES["mlp.layer0.bias"]: tensors[OLD_BIAS], **tensors}
    modules = {"BERT": encoder_of(tensors)}
    for module, names in (("BertTokenClassifier", MLM_NAMES), ("SequenceClassifier", NSP_NAMES)):
        if all(theirs in tensors for theirs in names.values() if theirs != DECODER):
            modules[module] = {ours: tensors[theirs] for ours, theirs in names.items() if theirs in tensors}
    return modules


def as_huggingface(weights: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    """A head of ours under Hugging Face's names."""
    return {theirs: weights[ours] for ours, theirs in names.items()}


def sizes_of(encoder: Mapping[str, Tensor]) -> dict[str, int]:
    """The sizes that follow from an encoder's weights, by their names in a configuration: all but the heads.

    Sizes are omitted if weights are missing or have the wrong number of axes.
    """
    axes = {
        "vocab_size": ("bert." + _WORDS, 0),
        "hidden_size": ("bert." + _WORDS, 1),
        "intermediate_size": ("bert.encoder.layer.0.intermediate.dense.weight", 0),
        "max_position_embeddings": ("bert.embeddings.position_embeddings.weight", 0),
        "type_vocab_size": ("bert.embeddings.token_type_embeddings.weight", 0),
    }
    sizes = {
        size: encoder[name].shape[axis]
        for size, (name, axis) in axes.items()
        if name in encoder and encoder[name].dim() == 2
    }
    layers = {int(match[1]) for name in encoder if (match := _LAYER.match(name))}
    return sizes | ({"num_hidden_layers": max(layers) + 1} if layers else {})


def check_encoder(
    settings: BertSettings, own: Mapping[str, Tensor], encoder: Mapping[str, Tensor], source: Any
) -> None:
    """Check that an encoder's weights fit the model that will load them.

    Args:
        settings: of the model.
        own: the model's current weights, by name.
        encoder: the new weights, by canonical names, with or without a pooler.
        source: where they come from, for errors.

    Raises:
        CheckpointError: a size differs, or a weight is missing or unknown; the message names it.
    """
    sizes = sizes_of(encoder)
    for size, found in sizes.items():
        if found != getattr(settings, size):
            raise CheckpointError(
                f"the weights have a different {size}",
                where=source,
                found=found,
                expected=getattr(settings, size),
                fix="put the sizes of the weights into the model's configuration, or give them as options: "
                + ", ".join(f"{name} {value}" for name, value in sizes.items()),
            )
    missing = sorted(name for name in own if name not in encoder and not name.startswith("bert.pooler."))
    unknown = sorted(name for name in encoder if name not in own)
    for problem, names in (
        ("the encoder is not complete", missing),
        ("an encoder of another kind", unknown),
    ):
        if names:
            what = "missing" if names is missing else "not known"
            raise CheckpointError(
                problem, where=source, found=f"{len(names)} weights {what}, the first of them {names[0]}"
            )

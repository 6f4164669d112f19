"""A BERT's weights by name: in other people's files, in Hugging Face's, and in our modules.

Files agree on the names of `transformers.BertForPreTraining`, with few exceptions: the first releases called
a norm's weights gamma and beta, NVIDIA calls a dense layer with its activation `dense_act`, and what wraps a
module (DDP, torch.compile, a class of one's own) puts a name in front.
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

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
# transformers 4 and everyone before had one bias under this name, whether the decoder was tied or not.
OLD_BIAS = "cls.predictions.bias"
DECODER = MLM_NAMES["mlp.layer0.weight"]
POOLER = "bert.pooler.dense."

_WORDS = "embeddings.word_embeddings.weight"
_RENAMED = {"gamma": "weight", "beta": "bias", "dense_act": "dense"}
# What DDP, torch.compile, FSDP and activation checkpointing put anywhere into a name.
_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
# What may stand before a BERT's own names: classes that hold it, sentence-transformers' among them.
_HOLDERS = {"bert", "model", "auto_model", "0"}
_BUFFERS = {"position_ids", "token_type_ids"}  # which transformers saved for a time
_OF_ENCODER = ("embeddings.", "encoder.", "pooler.")
_LAYER = re.compile(r"bert\.encoder\.layer\.([0-9]+)\.")


def canonical(tensors: Mapping[str, Tensor], source: Any) -> dict[str, Tensor]:
    """A file's encoder and pretraining heads under the names of `transformers.BertForPreTraining`.

    They are float32. What belongs to other heads is left out.

    Args:
        tensors: by the names of the file.
        source: where they are from, for errors.

    Raises:
        CheckpointError: there is no BERT, there are several, or one behind names that are not known.
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


def by_part(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Canonical names -> those of our modules, by module: `BERT`, and each head that exists.

    The MLM head has no `mlp.layer0.weight` where the file has no decoder: it is tied to the embeddings then.
    """
    if OLD_BIAS in tensors:
        tensors = {MLM_NAMES["mlp.layer0.bias"]: tensors[OLD_BIAS], **tensors}
    parts = {"BERT": encoder_of(tensors)}
    for part, names in (("BertTokenClassifier", MLM_NAMES), ("SequenceClassifier", NSP_NAMES)):
        if all(theirs in tensors for theirs in names.values() if theirs != DECODER):
            parts[part] = {ours: tensors[theirs] for ours, theirs in names.items() if theirs in tensors}
    return parts


def as_huggingface(part: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    """A head of ours under Hugging Face's names."""
    return {theirs: part[ours] for ours, theirs in names.items()}


def sizes_of(encoder: Mapping[str, Tensor]) -> dict[str, int]:
    """The sizes that an encoder's weights tell, by the names of a configuration: all but the heads.

    Weights that are missing or have the wrong number of axes give none.
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


def check_encoder(config: Any, own: Mapping[str, Tensor], encoder: Mapping[str, Tensor], source: Any) -> None:
    """Hold an encoder's weights to the model that is to take them.

    Args:
        config: of the model.
        own: the weights that it has now, by name.
        encoder: the new ones, by canonical names; without a pooler, or with one.
        source: where they are from, for errors.

    Raises:
        CheckpointError: names the size that differs, or the first weight that is missing or not known.
    """
    sizes = sizes_of(encoder)
    for size, found in sizes.items():
        if found != getattr(config, size):
            raise CheckpointError(
                f"the weights have a different {size}",
                where=source,
                found=found,
                expected=getattr(config, size),
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

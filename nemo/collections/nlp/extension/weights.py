"""Writes a BERT with new vocabulary entries as a Hugging Face folder.

Shapes: V vocabulary, D hidden size.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from nemo.collections.nlp.checkpoints.export import fixed_batch, new_export, refuse_other_answers
from nemo.collections.nlp.checkpoints.tokenizer_export import export_tokenizer
from nemo.collections.nlp.extension.vocabulary import Extension
from nemo.collections.nlp.models.bert_settings import SIZES, BertSettings
from nemo.collections.nlp.models.bert_weights import MLM_NAMES, NSP_NAMES, OLD_BIAS, POOLER
from nemo.collections.nlp.models.hub import load_bert
from nemo.collections.nlp.nm.trainables.common.huggingface import BERT
from nemo.utils.errors import CheckpointError

WORDS = "bert.embeddings.word_embeddings.weight"
_BY_ENTRY = (WORDS, OLD_BIAS, MLM_NAMES["mlp.layer0.weight"], MLM_NAMES["mlp.layer0.bias"])


def extended_tensors(tensors: Mapping[str, Tensor], extension: Extension) -> dict[str, Tensor]:
    """All weights; the rows of new entries are means of the rows that they replace.

    This applies to the word embeddings (V, D), and to the MLM decoder's bias (V) and untied weight.
    """
    size = max(len(tensors[WORDS]), extension.tokenizer.vocab_size)
    extended = dict(tensors)
    for name in _BY_ENTRY:
        if name not in tensors:
            continue
        old = tensors[name]
        rows = torch.cat([old, old.new_zeros(size - len(old), *old.shape[1:])])
        for piece, number in extension.ids.items():
            rows[number] = old[list(extension.replaced[piece])].mean(0)
        extended[name] = rows
    return extended


def write_extended(
    folder: Path,
    settings: BertSettings,
    tensors: Mapping[str, Tensor],
    extension: Extension,
    force: bool = False,
) -> None:
    """Write the model with its new entries, and verify that text without them gives the same outputs.

    Args:
        settings: of the model.
        tensors: its weights, as `hub.load_tensors` names them.

    Raises:
        UsageError: the folder exists.
        CheckpointError: the written model is not the same model.
        StorageError: it cannot be written.
    """
    extended = extended_tensors(tensors, extension)
    has_mlm = MLM_NAMES["dense.weight"] in tensors
    has_nsp = NSP_NAMES["mlp.layer2.weight"] in tensors
    model_class = (
        "BertForPreTraining" if has_mlm and has_nsp else "BertForMaskedLM" if has_mlm else "BertModel"
    )
    size = len(extended[WORDS])
    content = {**settings.to_dict(), "vocab_size": size, "architectures": [model_class]}
    for stale in ("_name_or_path", "transformers_version"):
        content.pop(stale, None)
    with new_export(folder, force) as aside:
        (aside / "config.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        save_file(
            {name: tensor.contiguous().clone() for name, tensor in extended.items()},
            aside / "model.safetensors",
            {"format": "pt"},
        )
        export_tokenizer(extension.tokenizer, aside, settings.max_position_embeddings)
        _prove(aside, model_class, settings, tensors, extension)


@torch.no_grad()
def _prove(
    folder: Path,
    model_class: str,
    settings: BertSettings,
    tensors: Mapping[str, Tensor],
    extension: Extension,
) -> None:
    _, info = load_bert(str(folder), model_class)
    strays = {key for kind in ("missing_keys", "unexpected_keys") for key in info[kind]}
    strays = {key for key in strays if not key.startswith((POOLER, POOLER.removeprefix("bert.")))}
    if strays and model_class != "BertModel":
        raise CheckpointError(
            f"does not reload as {model_class}", where=folder, found=", ".join(sorted(strays))
        )
    after = BERT(pretrained_model_name=str(folder)).eval()
    of_encoder = (*SIZES, "layer_norm_eps", "pad_token_id")
    before = BERT(**{name: getattr(settings, name) for name in of_encoder}).eval()
    before.take_encoder({n: t for n, t in tensors.items() if n.startswith("bert.")}, folder)
    batch = fixed_batch(before)
    new = torch.tensor(sorted(extension.ids.values()))
    batch["input_ids"][torch.isin(batch["input_ids"], new)] = extension.tokenizer.unk_id
    refuse_other_answers([before.compute(**batch)], [after.compute(**batch)], folder, "BERT")

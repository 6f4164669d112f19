"""Encoder, heads and tokenizer as a Hugging Face folder, and heads back from one.

BERT's pooler and next-sentence head are our SequenceClassifier, its masked-language-model head our
BertTokenClassifier. A folder appears only after it was read back and gave the same answers.
"""

import copy
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from torch import Tensor

from nemo.backends.pytorch.common.layers import get_activation
from nemo.backends.pytorch.nm import load_weights
from nemo.collections.nlp.data.tokenizers import TokenizerSpec
from nemo.collections.nlp.hub import load_bert, quiet
from nemo.collections.nlp.nm.trainables import BertTokenClassifier, SequenceClassifier
from nemo.collections.nlp.nm.trainables.common.huggingface import BERT
from nemo.collections.nlp.tokenizer_check import check_tokenizer
from nemo.utils.errors import CheckpointError, UsageError
from nemo.utils.files import storage_errors, sync

# Our name -> the name in transformers.BertForPreTraining.
_MLM_NAMES = {
    "dense.weight": "cls.predictions.transform.dense.weight",
    "dense.bias": "cls.predictions.transform.dense.bias",
    "norm.weight": "cls.predictions.transform.LayerNorm.weight",
    "norm.bias": "cls.predictions.transform.LayerNorm.bias",
    "mlp.layer0.weight": "cls.predictions.decoder.weight",
    "mlp.layer0.bias": "cls.predictions.bias",
}
_NSP_NAMES = {
    "mlp.layer0.weight": "bert.pooler.dense.weight",
    "mlp.layer0.bias": "bert.pooler.dense.bias",
    "mlp.layer2.weight": "cls.seq_relationship.weight",
    "mlp.layer2.bias": "cls.seq_relationship.bias",
}
_MODEL_CLASS = {  # has an MLM head, has an NSP head
    (True, True): "BertForPreTraining",
    (True, False): "BertForMaskedLM",
    (False, True): "BertForNextSentencePrediction",
    (False, False): "BertModel",
}
_TOLERANCE = 1e-4  # nats


def export_huggingface(
    folder: Path,
    bert: BERT,
    mlm_classifier: BertTokenClassifier | None,
    nsp_classifier: SequenceClassifier | None,
    tokenizer: TokenizerSpec,
    model_card: str | None = None,
    force: bool = False,
) -> None:
    """Write weights, configuration, tokenizer and model card, and prove that they reload as the same model.

    Args:
        folder: what to write; appears whole or not at all.
        bert: the encoder.
        mlm_classifier: scores every token of the vocabulary, tied to the embeddings or not.
        nsp_classifier: two tanh layers, two classes.
        tokenizer: of this model.
        model_card: text of README.md; None leaves it out.
        force: replace an earlier export in `folder`.

    Raises:
        UsageError: the folder is taken, or the modules are no BERT that transformers knows.
        CheckpointError: what was written does not reload with the same names, or answers otherwise.
        StorageError: it cannot be written.
    """
    folder = folder.absolute()
    _check_is_free(folder, force)
    # One copy of all three, so that tied weights stay tied.
    bert, mlm_classifier, nsp_classifier = copy.deepcopy((bert, mlm_classifier, nsp_classifier))
    heads = [head for head in (mlm_classifier, nsp_classifier) if head is not None]
    for module in (bert, *heads):
        module.cpu().float().eval()
    _check_fits(bert, mlm_classifier, nsp_classifier, tokenizer)
    model = _as_transformers(bert, mlm_classifier, nsp_classifier, tokenizer.pad_id)

    aside = folder.with_name(f".{folder.name}.{uuid4().hex}.tmp")
    with storage_errors(folder):
        try:
            aside.mkdir(parents=True)
            with quiet():
                model.save_pretrained(aside)
                exported_tokenizer = tokenizer.to_huggingface()
                exported_tokenizer.model_max_length = bert.config.max_position_embeddings
                exported_tokenizer.save_pretrained(aside)
            if model_card is not None:
                (aside / "README.md").write_text(model_card, encoding="utf-8")
            _prove_same(aside, type(model).__name__, bert, heads)
            if mlm_classifier is not None:
                _prove_same(aside, "AutoModelForMaskedLM", bert, [mlm_classifier])
            if folder.exists():
                shutil.rmtree(folder)
            aside.rename(folder)
            sync(folder.parent)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def huggingface_weights(name: str) -> dict[str, dict[str, Tensor]]:
    """The weights of a pretrained model under the names of our modules and of their weights.

    Args:
        name: a Hugging Face folder, or a name in its cache or on the hub.

    Returns:
        Those of `BERT`, and of `BertTokenClassifier` and `SequenceClassifier` where the model has that head.

    Raises:
        CheckpointError: the model cannot be read.
    """
    model, info = load_bert(name, "BertForPreTraining")
    tensors = model.state_dict()
    parts = {"BERT": {name: tensor for name, tensor in tensors.items() if name.startswith("bert.")}}
    for part, names in (("BertTokenClassifier", _MLM_NAMES), ("SequenceClassifier", _NSP_NAMES)):
        if not info["missing_keys"] & set(names.values()):
            parts[part] = {ours: tensors[theirs] for ours, theirs in names.items()}
    return parts


def load_huggingface_heads(
    name: str,
    mlm_classifier: BertTokenClassifier | None,
    nsp_classifier: SequenceClassifier | None,
) -> None:
    """Give heads the weights of a pretrained model's heads; tied weights stay tied.

    Args:
        name: a Hugging Face folder, or a name in its cache or on the hub.
        mlm_classifier: takes the masked-language-model head.
        nsp_classifier: takes the pooler and the next-sentence head.

    Raises:
        CheckpointError: the model cannot be read, has no such head, or one of another size.
    """
    parts = huggingface_weights(name)
    for part, head in (("BertTokenClassifier", mlm_classifier), ("SequenceClassifier", nsp_classifier)):
        if head is None:
            continue
        if part not in parts:
            raise CheckpointError(f"has no weights for {head}", where=name, found=", ".join(parts))
        load_weights(head, parts[part], name)


def _check_is_free(folder: Path, force: bool) -> None:
    if not folder.exists():
        return
    if not force:
        raise UsageError("exists already", where=folder, fix="choose another folder, or --force")
    # A slip of the pen must not delete somebody's files.
    if not (folder / "config.json").is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError("not replaced: it holds no exported model", where=folder)


def _check_fits(
    bert: BERT,
    mlm: BertTokenClassifier | None,
    nsp: SequenceClassifier | None,
    tokenizer: TokenizerSpec,
) -> None:
    """Refuse what transformers' BERT computes in another way."""
    config = bert.config
    check_tokenizer(tokenizer, config, "the model")
    for head, num_classes in ((mlm, config.vocab_size), (nsp, 2)):
        if head is None:
            continue
        last = head.mlp.last_linear_layer
        if (last.in_features, last.out_features) != (config.hidden_size, num_classes):
            raise UsageError(
                "of another size than BERT's head",
                where=head,
                found=f"hidden_size {last.in_features}, num_classes {last.out_features}",
                expected=f"hidden_size {config.hidden_size}, num_classes {num_classes}",
            )
    if mlm is not None and mlm.activation is not get_activation(config.hidden_act):
        raise UsageError(
            "BERT's head has the activation of its layers",
            where=f"{mlm}.activation",
            expected=f"hidden_act = {config.hidden_act!r}",
        )
    if nsp is not None and (nsp.mlp.num_layers != 2 or nsp.mlp.activation is not torch.tanh):
        raise UsageError(
            "BERT's pooler and next-sentence head are two layers with tanh",
            where=nsp,
            found=f"num_layers = {nsp.mlp.num_layers}",
            expected="num_layers = 2, activation = 'tanh'",
        )


def _as_transformers(
    bert: BERT, mlm: BertTokenClassifier | None, nsp: SequenceClassifier | None, pad_id: int
) -> Any:
    """The transformers model of these weights."""
    import transformers

    config = copy.deepcopy(bert.config)
    config.pad_token_id = pad_id
    embeddings = bert.bert.embeddings.word_embeddings
    config.tie_word_embeddings = mlm is None or mlm.mlp.last_linear_layer.weight is embeddings.weight
    model = getattr(transformers, _MODEL_CLASS[mlm is not None, nsp is not None])(config)

    tensors: dict[str, Tensor] = dict(bert.state_dict())
    if mlm is not None:
        tensors |= _renamed(mlm.state_dict(), _MLM_NAMES)
        tensors["cls.predictions.decoder.bias"] = tensors["cls.predictions.bias"]
    if nsp is not None:
        tensors |= _renamed(nsp.state_dict(), _NSP_NAMES)
    if mlm is None and nsp is None:
        tensors = {name.removeprefix("bert."): tensor for name, tensor in tensors.items()}
    if nsp is None and mlm is not None:  # BertForMaskedLM has no pooler
        tensors = {name: tensor for name, tensor in tensors.items() if "pooler" not in name}
    load_weights(model, tensors, "export")
    return model


def _renamed(tensors: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    return {theirs: tensors[ours] for ours, theirs in names.items()}


@torch.no_grad()
def _prove_same(folder: Path, model_class: str, bert: BERT, heads: list[Any]) -> None:
    """Read `folder` as that class and compare its answers with ours.

    Raises:
        CheckpointError: weights are missing or unexpected, or an answer differs.
    """
    model, info = load_bert(str(folder), model_class)
    strays = {key for keys in info.values() for key in keys}
    if model_class == "AutoModelForMaskedLM":
        strays -= set(_NSP_NAMES.values())  # a masked language model passes over the other head
    if strays:
        raise CheckpointError(
            f"does not reload as {model_class}",
            where=folder,
            found=f"missing or unexpected {', '.join(map(str, sorted(strays, key=str)))}",
        )
    batch = _fixed_batch(bert)
    hidden = bert.compute(**batch)
    # Scores are compared after a log-softmax, which is what a classifier may give in the first place.
    ours = [head(hidden).log_softmax(-1) for head in heads] or [hidden]
    theirs = list(model(**batch).to_tuple()[: len(ours)])
    if heads:
        theirs = [scores.log_softmax(-1) for scores in theirs]
    difference = max(float((a - b).abs().max()) for a, b in zip(ours, theirs, strict=True))
    if not difference <= _TOLERANCE:
        raise CheckpointError(
            f"answers otherwise as {model_class}",
            where=folder,
            found=f"a difference of {difference:.2g}",
            expected=f"at most {_TOLERANCE:g}",
        )


def _fixed_batch(bert: BERT) -> dict[str, Tensor]:
    """Two sequences, the second one half padding."""
    shape = 2, min(32, bert.config.max_position_embeddings)
    random = torch.Generator().manual_seed(0)
    attention_mask = torch.ones(shape, dtype=torch.long)
    attention_mask[1, shape[1] // 2 :] = 0
    attention_mask[:, 0] = 1
    return {
        "input_ids": torch.randint(bert.config.vocab_size, shape, generator=random),
        "token_type_ids": torch.randint(bert.config.type_vocab_size, shape, generator=random),
        "attention_mask": attention_mask,
    }

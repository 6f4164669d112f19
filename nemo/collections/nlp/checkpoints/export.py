"""Exports encoder, heads and tokenizer as a Hugging Face folder.

BERT's pooler and next-sentence head are our SequenceClassifier, its masked-language-model head our
BertTokenClassifier. A folder appears only after it was read back and gave the same answers.
"""

import copy
import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from torch import Tensor

from nemo.backends.pytorch.checkpoints.weight_files import WEIGHT_SUFFIXES
from nemo.backends.pytorch.common.layers import get_activation
from nemo.backends.pytorch.nm import load_weights
from nemo.collections.nlp.checkpoints.model_card import TAG as CARD_TAG
from nemo.collections.nlp.checkpoints.tokenizer_export import export_tokenizer
from nemo.collections.nlp.data.tokenizers import TokenizerSpec
from nemo.collections.nlp.models.bert_weights import (
    MLM_NAMES,
    NSP_NAMES,
    OLD_BIAS,
    POOLER,
    as_huggingface,
)
from nemo.collections.nlp.models.hub import load_bert, quiet
from nemo.collections.nlp.models.weight_formats import OTHER_SUFFIXES
from nemo.collections.nlp.nm.tokenizer_check import check_model_tokenizer
from nemo.collections.nlp.nm.trainables import BertTokenClassifier, SequenceClassifier
from nemo.collections.nlp.nm.trainables.common.huggingface import BERT
from nemo.utils.errors import CheckpointError, UsageError
from nemo.utils.files import let_umask_decide, storage_errors, sync
from nemo.utils.logging import logging

CARD, CONFIG = "README.md", "config.json"
# The files of an export, except the model card.
_WRITTEN = {
    CONFIG,
    "generation_config.json",
    "model.safetensors",
    "added_tokens.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.txt",
}
_MODEL_CLASS = {  # has an MLM head, has an NSP head
    (True, True): "BertForPreTraining",
    (True, False): "BertForMaskedLM",
    (False, True): "BertForNextSentencePrediction",
    (False, False): "BertModel",
}
EXPORTED = frozenset({*_WRITTEN, CARD})
"""Names of all files that an export may write."""
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
    """Write weights, configuration, tokenizer and model card, and verify that they reload as the same model.

    Args:
        folder: the folder to write; a new one is written atomically.
        bert: the encoder.
        mlm_classifier: the MLM head; its decoder may be tied to the embeddings or not.
        nsp_classifier: the next-sentence head, two tanh layers and two classes.
        tokenizer: the model's tokenizer.
        model_card: text of README.md; None: no model card.
        force: allow a folder with a model, or a repository: the files of an earlier export are replaced, all
            others stay.

    Raises:
        UsageError: the folder exists, or the modules do not form a BERT that transformers supports.
        CheckpointError: the export does not reload with the same names, or gives different outputs.
        StorageError: it cannot be written.
    """
    # One copy of all three, so that tied weights stay tied.
    bert, mlm_classifier, nsp_classifier = copy.deepcopy((bert, mlm_classifier, nsp_classifier))
    heads = [head for head in (mlm_classifier, nsp_classifier) if head is not None]
    for module in (bert, *heads):
        module.cpu().float().eval()
    _check_fits(bert, mlm_classifier, nsp_classifier, tokenizer)
    model = _as_transformers(bert, mlm_classifier, nsp_classifier, tokenizer.pad_id)
    pooler = _pooler_beside(model, bert)

    with new_export(folder, force) as aside:
        with quiet():
            model.save_pretrained(aside, state_dict={**model.state_dict(), **pooler})
        export_tokenizer(tokenizer, aside, bert.settings.max_position_embeddings)
        if model_card is not None:
            (aside / CARD).write_text(model_card, encoding="utf-8")
        _prove_same(aside, type(model).__name__, bert, heads, set(pooler))
        if mlm_classifier is not None:
            _prove_same(aside, "AutoModelForMaskedLM", bert, [mlm_classifier], set(NSP_NAMES.values()))


@contextmanager
def new_export(folder: Path, force: bool) -> Iterator[Path]:
    """A temporary folder for an export; on success it becomes `folder`, or its files replace those there.

    Raises:
        UsageError: the folder exists, and `force` is False or it contains something other than an export.
        StorageError: it cannot be written.
    """
    folder = folder.absolute()
    _check_may_write(folder, force)
    aside = folder.with_name(f".{folder.name}.{uuid4().hex}.tmp")
    with storage_errors(folder):
        try:
            aside.mkdir(parents=True)
            yield aside
            let_umask_decide(aside)
            if folder.exists():
                _replace_files(folder, aside)
            else:
                aside.rename(folder)
            sync(folder.parent)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def _check_may_write(folder: Path, force: bool) -> None:
    if not folder.exists():
        return
    if not force:
        raise UsageError("already exists", where=folder, fix="give another folder, or --force")
    # A typo must not write a model among other files.
    is_for_models = folder.is_dir() and ((folder / CONFIG).is_file() or (folder / ".git").exists())
    if not is_for_models and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError("not replaced: it does not contain an exported model", where=folder)


def _replace_files(folder: Path, aside: Path) -> None:
    """Replace the files of an earlier export; all others stay, and are logged.

    A model card written by somebody else also stays. In between there is no configuration, so a mixture of
    old and new files cannot be loaded as a model.
    """
    card = folder / CARD
    if card.is_file() and CARD_TAG not in card.read_text(encoding="utf-8", errors="replace"):
        (aside / CARD).unlink(missing_ok=True)
    new = {path.name for path in aside.iterdir()}
    (folder / CONFIG).unlink(missing_ok=True)
    for name in _WRITTEN - new:  # such as those of another kind of tokenizer
        (folder / name).unlink(missing_ok=True)
    for path in sorted(aside.iterdir(), key=lambda path: path.name == CONFIG):
        path.replace(folder / path.name)
    if others := sorted(path.name for path in folder.iterdir() if path.name not in new):
        logging.info("left unchanged in %s: %s", folder, ", ".join(others))
    if weights := [name for name in others if Path(name).suffix in (*WEIGHT_SUFFIXES, *OTHER_SUFFIXES)]:
        logging.warning("%s still contains the weights of another model: %s", folder, ", ".join(weights))


def _check_fits(
    bert: BERT,
    mlm: BertTokenClassifier | None,
    nsp: SequenceClassifier | None,
    tokenizer: TokenizerSpec,
) -> None:
    """Refuse modules that transformers' BERT would compute differently."""
    settings = bert.settings
    check_model_tokenizer(tokenizer, settings, "the model")
    for head, num_classes in ((mlm, settings.vocab_size), (nsp, 2)):
        if head is None:
            continue
        last = head.mlp.last_linear_layer
        if (last.in_features, last.out_features) != (settings.hidden_size, num_classes):
            raise UsageError(
                "size differs from BERT's head",
                where=head,
                found=f"hidden_size {last.in_features}, num_classes {last.out_features}",
                expected=f"hidden_size {settings.hidden_size}, num_classes {num_classes}",
            )
    if mlm is not None and mlm.activation is not get_activation(settings.hidden_act):
        raise UsageError(
            "BERT's head must use the activation of its layers",
            where=f"{mlm}.activation",
            expected=f"hidden_act = {settings.hidden_act!r}",
        )
    if nsp is not None and (nsp.mlp.num_layers != 2 or nsp.mlp.activation is not torch.tanh):
        raise UsageError(
            "BERT's pooler and next-sentence head must be two layers with tanh",
            where=nsp,
            found=f"num_layers = {nsp.mlp.num_layers}",
            expected="num_layers = 2, activation = 'tanh'",
        )


def _as_transformers(
    bert: BERT, mlm: BertTokenClassifier | None, nsp: SequenceClassifier | None, pad_id: int
) -> Any:
    """The transformers model with these weights."""
    import transformers

    config = bert.config
    config.pad_token_id = pad_id
    embeddings = bert.bert.embeddings.word_embeddings
    config.tie_word_embeddings = mlm is None or mlm.mlp.last_linear_layer.weight is embeddings.weight
    model = getattr(transformers, _MODEL_CLASS[mlm is not None, nsp is not None])(config)

    tensors: dict[str, Tensor] = dict(bert.state_dict())
    if mlm is not None:
        tensors |= as_huggingface(mlm.state_dict(), MLM_NAMES)
        tensors[OLD_BIAS] = tensors[MLM_NAMES["mlp.layer0.bias"]]
    if nsp is not None:
        tensors |= as_huggingface(nsp.state_dict(), NSP_NAMES)
    if mlm is None and nsp is None:
        tensors = {name.removeprefix("bert."): tensor for name, tensor in tensors.items()}
    if nsp is None and mlm is not None:  # BertForMaskedLM has no pooler
        tensors = {name: tensor for name, tensor in tensors.items() if "pooler" not in name}
    load_weights(model, tensors, "export")
    return model


def _pooler_beside(model: Any, bert: BERT) -> dict[str, Tensor]:
    """The pooler of the initial model, if the exported class has none."""
    if model.base_model.pooler is not None or not bert.settings.keep_pooler:
        return {}
    return {name: tensor for name, tensor in bert.state_dict().items() if name.startswith(POOLER)}


@torch.no_grad()
def _prove_same(
    folder: Path, model_class: str, bert: BERT, heads: list[Any], beside: Collection[str]
) -> None:
    """Load `folder` as that class, which ignores the weights `beside`, and compare its outputs with ours.

    Raises:
        CheckpointError: weights are missing or unexpected, or an output differs.
    """
    model, info = load_bert(str(folder), model_class)
    strays = {key for keys in info.values() for key in keys} - set(beside)
    if strays:
        raise CheckpointError(
            f"does not reload as {model_class}",
            where=folder,
            found=f"missing or unexpected {', '.join(map(str, sorted(strays, key=str)))}",
        )
    batch = fixed_batch(bert)
    hidden = bert.compute(**batch)
    # Compare scores after a log-softmax, because a classifier may return log-probabilities.
    ours = [head(hidden).log_softmax(-1) for head in heads] or [hidden]
    theirs = list(model(**batch).to_tuple()[: len(ours)])
    if heads:
        theirs = [scores.log_softmax(-1) for scores in theirs]
    refuse_other_answers(ours, theirs, folder, model_class)


def refuse_other_answers(
    ours: Sequence[Tensor], theirs: Sequence[Tensor], folder: Path, model_class: str
) -> None:
    """Compare the outputs of a reloaded model with those of its source.

    Raises:
        CheckpointError: they differ.
    """
    difference = max(float((a - b).abs().max()) for a, b in zip(ours, theirs, strict=True))
    if not difference <= _TOLERANCE:
        raise CheckpointError(
            f"gives different outputs as {model_class}",
            where=folder,
            found=f"a difference of {difference:.2g}",
            expected=f"at most {_TOLERANCE:g}",
        )


def fixed_batch(bert: BERT) -> dict[str, Tensor]:
    """Two sequences, the second half padding."""
    shape = 2, min(32, bert.settings.max_position_embeddings)
    random = torch.Generator().manual_seed(0)
    attention_mask = torch.ones(shape, dtype=torch.long)
    attention_mask[1, shape[1] // 2 :] = 0
    attention_mask[:, 0] = 1
    return {
        "input_ids": torch.randint(bert.settings.vocab_size, shape, generator=random),
        "token_type_ids": torch.randint(bert.settings.type_vocab_size, shape, generator=random),
        "attention_mask": attention_mask,
    }

"""A fine-tuned model as a Hugging Face folder, with the names of its labels."""

import copy
from collections.abc import Sequence
from pathlib import Path

import torch

from nemo.backends.pytorch.checkpoints.module_state import load_weights
from nemo.collections.nlp.checkpoints.export import fixed_batch, new_export, refuse_other_answers
from nemo.collections.nlp.checkpoints.tokenizer_export import export_tokenizer
from nemo.collections.nlp.data.tokenizers import TokenizerSpec
from nemo.collections.nlp.finetuning.model import FinetuningModel
from nemo.collections.nlp.models.bert_weights import POOLER
from nemo.collections.nlp.models.hub import load_bert, quiet


def export_classifier(
    folder: Path, model: FinetuningModel, tokenizer: TokenizerSpec, labels: Sequence[str], force: bool = False
) -> None:
    """Write weights, configuration and tokenizer, and verify that they reload as the same model.

    Args:
        folder: the folder to write, atomically.
        labels: labels of the task, in order of their ids.
        force: replace an earlier export.

    Raises:
        UsageError: the folder exists.
        CheckpointError: the written model gives different outputs.
        StorageError: it cannot be written.
    """
    import transformers

    bert, head = copy.deepcopy((model.bert, model.head))
    for module in (bert, head):
        module.cpu().float().eval()
    config = bert.config
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: i for i, label in enumerate(labels)}
    tensors = {name: tensor for name, tensor in bert.state_dict().items() if not name.startswith(POOLER)}
    last = head.mlp.last_linear_layer
    tensors |= {f"classifier.{kind}": getattr(last, kind).detach() for kind in ("weight", "bias")}
    if model.labels_words:
        name = "BertForTokenClassification"
    else:
        name = "BertForSequenceClassification"
        config.problem_type = "single_label_classification"
        tensors |= {f"{POOLER}{kind}": getattr(head.mlp.layer0, kind).detach() for kind in ("weight", "bias")}
    exported = getattr(transformers, name)(config)
    load_weights(exported, tensors, "export")
    with new_export(folder, force) as aside:
        with quiet():
            exported.save_pretrained(aside)
        export_tokenizer(tokenizer, aside, config.max_position_embeddings)
        reloaded, _ = load_bert(str(aside), name.replace("Bert", "AutoModel", 1))
        with torch.no_grad():
            batch = fixed_batch(bert)
            ours, theirs = head(bert.compute(**batch)), reloaded(**batch).logits
        refuse_other_answers([ours.log_softmax(-1)], [theirs.log_softmax(-1)], aside, name)

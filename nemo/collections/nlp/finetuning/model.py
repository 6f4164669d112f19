"""An encoder with a head for labels: its initial weights, its graph and its predictions.

Shapes: B batch, T tokens, C labels.
"""

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from nemo.backends.pytorch.common import CrossEntropyLossNM
from nemo.collections.nlp.checkpoints.loading import load_pretrained
from nemo.collections.nlp.data.tokenizers import TokenizerSpec
from nemo.collections.nlp.data.tokenizers.choice import HubModel, TokenizerRequest, find_tokenizer
from nemo.collections.nlp.finetuning.windows import Row, RowLayer
from nemo.collections.nlp.models.hub import is_other_folder
from nemo.collections.nlp.nm.tokenizer_check import check_model_tokenizer
from nemo.collections.nlp.nm.trainables import SequenceClassifier, TokenClassifier
from nemo.collections.nlp.nm.trainables.common.huggingface import BERT
from nemo.core import NeuralModuleFactory, NmTensor


@dataclass(frozen=True)
class PretrainedEncoder:
    """An encoder to start from, and its tokenizer.

    Attributes:
        bert: the encoder; a head for texts starts from its pooler.
    """

    bert: BERT
    tokenizer: TokenizerSpec

    @property
    def fingerprint(self) -> str:
        """SHA-256 of weights and tokenizer."""
        digest = hashlib.sha256(self.tokenizer.fingerprint.encode())
        for name, tensor in sorted(self.bert.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


def open_encoder(
    name: str, tokenizer: str | None = None, do_lower_case: bool | None = None
) -> PretrainedEncoder:
    """The encoder and tokenizer of a nemo-bert run, or of a Hugging Face folder or name.

    Args:
        tokenizer, do_lower_case: for a model without one, as `load_tokenizer` takes them.

    Raises:
        MissingFileError, CheckpointError: it is missing or damaged.
        UsageError: it is not a BERT, or has no tokenizer.
    """
    path = Path(name)
    if is_other_folder(path):
        run = load_pretrained(path, tokenizer, do_lower_case)
        bert = run.model.bert
        if run.model.nsp is not None:  # its first layer is the pooler
            bert.bert.pooler.dense.load_state_dict(run.model.nsp.mlp.get_submodule("layer0").state_dict())
        return PretrainedEncoder(bert, run.tokenizer)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # for a new pooler, if the model has none
        bert = BERT(pretrained_model_name=name)
    opened = find_tokenizer(TokenizerRequest(named=tokenizer, initial=HubModel(name)), do_lower_case)
    assert opened is not None  # the model has one, or opening it failed
    check_model_tokenizer(opened, bert.settings, name)
    return PretrainedEncoder(bert, opened)


@dataclass(frozen=True)
class FinetuningModel:
    """An encoder and its head."""

    bert: BERT
    head: TokenClassifier | SequenceClassifier

    @classmethod
    def of(cls, pretrained: PretrainedEncoder, task: str, num_labels: int) -> "FinetuningModel":
        """Copy the encoder and add a new head; a head for texts starts from the pooler."""
        bert = copy.deepcopy(pretrained.bert)
        dropout = bert.settings.hidden_dropout_prob
        if task == "ner":
            tokens = TokenClassifier(
                bert.hidden_size, num_labels, num_layers=1, log_softmax=False, dropout=dropout
            )
            return cls(bert, tokens)
        head = SequenceClassifier(
            bert.hidden_size, num_labels, activation="tanh", log_softmax=False, dropout=dropout
        )
        head.mlp.get_submodule("layer0").load_state_dict(bert.bert.pooler.dense.state_dict())
        return cls(bert, head)

    @property
    def labels_words(self) -> bool:
        """Whether each word gets a label, rather than each text."""
        return isinstance(self.head, TokenClassifier)

    def wire(self, layer: RowLayer) -> tuple[NmTensor, NmTensor]:
        """The graph on a data layer: the loss, and the scores (B, T, C) or (B, C)."""
        data = layer()
        segments = data.token_type_ids if self.bert.settings.type_vocab_size > 1 else None
        hidden_states = self.bert(
            input_ids=data.input_ids, token_type_ids=segments, attention_mask=data.attention_mask
        )
        logits = self.head(hidden_states=hidden_states)
        if self.labels_words:
            loss = CrossEntropyLossNM(logits_ndim=3)(
                logits=logits, labels=data.labels, loss_mask=data.loss_mask
            )
        else:
            loss = CrossEntropyLossNM()(logits=logits, labels=data.labels)
        return loss, logits

    def predict(
        self,
        factory: NeuralModuleFactory,
        rows: Sequence[Row],
        pad_id: int,
        batch_size: int,
        checkpoint_dir: Path | None = None,
    ) -> list[list[int]]:
        """Label ids for each example: those of its words, or the one of its text.

        A text of several rows gets the label with the highest (geometric) mean probability over them.

        Args:
            checkpoint_dir: folder from which to load the newest checkpoint.
        """
        by_length = sorted(range(len(rows)), key=lambda i: len(rows[i].ids))
        layer = RowLayer([rows[i] for i in by_length], pad_id, self.labels_words, batch_size, shuffle=False)
        _, logits = self.wire(layer)
        (batches,) = factory.infer([logits], checkpoint_dir=checkpoint_dir, verbose=False)
        scores = dict(zip(by_length, (row for batch in batches for row in batch), strict=True))
        answers: list[list[int]] = [[] for _ in range(1 + max(row.example for row in rows))]
        sums: dict[int, torch.Tensor] = {}
        for i, row in enumerate(rows):
            if self.labels_words:
                answers[row.example] += scores[i][row.positions].argmax(-1).tolist()
            else:
                sums[row.example] = sums.get(row.example, 0) + scores[i].float().log_softmax(-1)
        for example, total in sums.items():
            answers[example] = [int(total.argmax())]
        return answers

"""The tutorial's model and graph: an encoder, its two heads, and the losses on a data layer's batches."""

from dataclasses import dataclass
from typing import Any

import torch

from nemo.backends.pytorch import DataLayerNM
from nemo.backends.pytorch.common import CrossEntropyLossNM
from nemo.backends.pytorch.common.losses import LossAggregatorNM
from nemo.collections.nlp.data.tokenizers import TokenizerSpec
from nemo.collections.nlp.models.bert_settings import BertSettings
from nemo.collections.nlp.nm.losses import SmoothedCrossEntropyLoss
from nemo.collections.nlp.nm.tokenizer_check import check_model_tokenizer
from nemo.collections.nlp.nm.trainables import BertTokenClassifier, SequenceClassifier
from nemo.collections.nlp.nm.trainables.common.huggingface import BERT
from nemo.collections.nlp.options import PretrainingOptions
from nemo.core import NmTensor, WeightShareTransform


@dataclass(frozen=True)
class PretrainingModel:
    """An encoder and its two heads; `nsp` is None when only the masked language model is trained."""

    bert: BERT
    mlm: BertTokenClassifier
    nsp: SequenceClassifier | None

    @property
    def neural_modules(self) -> list[torch.nn.Module]:
        """The modules of the model, without a missing head."""
        return [module for module in (self.bert, self.mlm, self.nsp) if module is not None]

    @property
    def is_tied(self) -> bool:
        """Whether the MLM head's decoder is tied to the word embeddings."""
        return self.mlm.mlp.last_linear_layer.weight is self._word_embeddings.weight

    def untie(self) -> None:
        """Give the MLM head's decoder its own weights, initialized as copies of the word embeddings."""
        weight = self._word_embeddings.weight.detach().clone()
        self.mlm.mlp.last_linear_layer.weight = torch.nn.Parameter(weight)
        self.bert.settings.tie_word_embeddings = False

    @property
    def _word_embeddings(self) -> torch.nn.Embedding:
        return self.bert.bert.embeddings.word_embeddings

    @property
    def num_weights(self) -> int:
        """The number of trained weights; tied weights count once."""
        trained = {p for module in self.neural_modules for p in module.parameters() if p.requires_grad}
        return sum(p.numel() for p in trained)


@dataclass(frozen=True)
class PretrainingLosses:
    """The symbolic losses of a wired graph; `nsp` is None where the model has no such head."""

    total: NmTensor
    mlm: NmTensor
    nsp: NmTensor | None

    def by_name(self) -> dict[str, NmTensor]:
        """The losses by their names in metrics.jsonl."""
        named = {"loss": self.total, "mlm_loss": self.mlm, "nsp_loss": self.nsp}
        return {name: tensor for name, tensor in named.items() if tensor is not None}


def with_heads(bert: BERT, only_mlm: bool = False) -> PretrainingModel:
    """Put the tutorial's heads on an encoder, sized by its settings.

    The MLM output is tied to the word embeddings unless the settings say otherwise.
    """
    settings = bert.settings
    mlm = BertTokenClassifier(
        settings.hidden_size,
        num_classes=settings.vocab_size,
        activation=settings.hidden_act,
        log_softmax=False,
        layer_norm_eps=settings.layer_norm_eps,
    )
    if settings.tie_word_embeddings:
        mlm.tie_weights_with(
            bert,
            weight_names=["mlp.last_linear_layer.weight"],
            name2name_and_transform={
                "mlp.last_linear_layer.weight": (
                    "bert.embeddings.word_embeddings.weight",
                    WeightShareTransform.SAME,
                )
            },
        )
    if only_mlm:
        return PretrainingModel(bert, mlm, None)
    nsp = SequenceClassifier(
        settings.hidden_size, num_classes=2, num_layers=2, activation="tanh", log_softmax=False
    )
    return PretrainingModel(bert, mlm, nsp)


def wire(model: PretrainingModel, data_layer: DataLayerNM, nsp_weight: float = 1.0) -> PretrainingLosses:
    """The tutorial's graph, from a data layer to the losses.

    Args:
        nsp_weight: weight of the next-sentence loss in the total.
    """
    data = data_layer()
    # A model with one segment sees both sentences as one.
    segments = data.input_type_ids if model.bert.settings.type_vocab_size > 1 else None
    hidden_states = model.bert(
        input_ids=data.input_ids, token_type_ids=segments, attention_mask=data.input_mask
    )
    mlm_loss = SmoothedCrossEntropyLoss()(
        logits=model.mlm(hidden_states=hidden_states),
        labels=data.output_ids,
        output_mask=data.output_mask,
    )
    if model.nsp is None:
        return PretrainingLosses(mlm_loss, mlm_loss, None)
    nsp_loss = CrossEntropyLossNM()(logits=model.nsp(hidden_states=hidden_states), labels=data.labels)
    total = LossAggregatorNM(num_inputs=2, weights=[1.0, nsp_weight])(loss_1=mlm_loss, loss_2=nsp_loss)
    return PretrainingLosses(total, mlm_loss, nsp_loss)


def build_model(
    options: PretrainingOptions, tokenizer: TokenizerSpec | None, settings: BertSettings | None = None
) -> PretrainingModel:
    """Build a new model with the sizes in the options and the tokenizer's vocabulary.

    Args:
        tokenizer: None: the options give the size of the vocabulary, and id 0 is padding, as in shards.
        settings: those of an earlier model, for what has no option, such as vocabulary entries beyond
            the tokenizer's.

    Raises:
        UsageError: the tokenizer has more ids than the model, or `--config_file` has another size.
    """
    bert = BERT(**sizes_of_model(options, tokenizer, settings))
    if settings is not None:
        bert.settings.tie_word_embeddings = settings.tie_word_embeddings
        bert.settings.keep_pooler = settings.keep_pooler
    return with_heads(bert, options.only_mlm_loss)


def sizes_of_model(
    options: PretrainingOptions, tokenizer: TokenizerSpec | None, settings: BertSettings | None = None
) -> dict[str, Any]:
    """The arguments of `BERT` for `build_model`, with the same arguments and errors."""
    beyond: dict[str, Any] = {
        "vocab_size": options.vocab_size if tokenizer is None else tokenizer.vocab_size,
        "max_position_embeddings": options.max_position_embeddings or options.max_seq_length,
        "type_vocab_size": 2,
    }
    if settings is not None and tokenizer is not None:
        check_model_tokenizer(tokenizer, settings, options.config_file or "the model to start from")
    if settings is not None:
        beyond = {name: getattr(settings, name) for name in (*beyond, "layer_norm_eps")}
    return beyond | {
        "pad_token_id": 0 if tokenizer is None else tokenizer.pad_id,
        "hidden_size": options.hidden_size,
        "num_hidden_layers": options.num_hidden_layers,
        "num_attention_heads": options.num_attention_heads,
        "intermediate_size": options.intermediate_size,
        "hidden_act": options.hidden_act,
        "hidden_dropout_prob": options.hidden_dropout_prob,
        "attention_probs_dropout_prob": options.attention_probs_dropout_prob,
        "initializer_range": options.initializer_range,
    }

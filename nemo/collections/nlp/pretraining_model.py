"""The tutorial's model and graph: an encoder, its two heads, and the losses on a data layer's batches."""

from dataclasses import dataclass

import torch

from nemo.backends.pytorch import DataLayerNM
from nemo.backends.pytorch.common import CrossEntropyLossNM
from nemo.backends.pytorch.common.losses import LossAggregatorNM
from nemo.collections.nlp.data.tokenizers import TokenizerSpec
from nemo.collections.nlp.nm.losses import SmoothedCrossEntropyLoss
from nemo.collections.nlp.nm.trainables import BertTokenClassifier, SequenceClassifier
from nemo.collections.nlp.nm.trainables.common.huggingface import BERT
from nemo.collections.nlp.options import PretrainingOptions
from nemo.core import NmTensor, WeightShareTransform
from nemo.utils.errors import UsageError


@dataclass(frozen=True)
class PretrainingModel:
    """An encoder and its two heads; `nsp` is None when only the masked language model is trained."""

    bert: BERT
    mlm: BertTokenClassifier
    nsp: SequenceClassifier | None

    @property
    def parts(self) -> list[torch.nn.Module]:
        """The modules that there are."""
        return [module for module in (self.bert, self.mlm, self.nsp) if module is not None]

    @property
    def num_weights(self) -> int:
        """Trained numbers; tied ones count once."""
        trained = {p for part in self.parts for p in part.parameters() if p.requires_grad}
        return sum(p.numel() for p in trained)


@dataclass(frozen=True)
class PretrainingLosses:
    """The symbolic losses of a wired graph; `nsp` is None where the model has no such head."""

    total: NmTensor
    mlm: NmTensor
    nsp: NmTensor | None

    def by_name(self) -> dict[str, NmTensor]:
        """As metrics.jsonl calls them."""
        named = {"loss": self.total, "mlm_loss": self.mlm, "nsp_loss": self.nsp}
        return {name: tensor for name, tensor in named.items() if tensor is not None}


def with_heads(bert: BERT, only_mlm: bool = False) -> PretrainingModel:
    """Put the tutorial's heads on an encoder, the MLM output tied to the word embeddings."""
    config = bert.config
    mlm = BertTokenClassifier(
        config.hidden_size,
        num_classes=config.vocab_size,
        activation=config.hidden_act,
        log_softmax=False,
        layer_norm_eps=config.layer_norm_eps,
    )
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
        config.hidden_size, num_classes=2, num_layers=2, activation="tanh", log_softmax=False
    )
    return PretrainingModel(bert, mlm, nsp)


def wire(model: PretrainingModel, data_layer: DataLayerNM) -> PretrainingLosses:
    """The tutorial's graph, from a data layer to the losses."""
    data = data_layer()
    hidden_states = model.bert(
        input_ids=data.input_ids, token_type_ids=data.input_type_ids, attention_mask=data.input_mask
    )
    mlm_loss = SmoothedCrossEntropyLoss()(
        logits=model.mlm(hidden_states=hidden_states),
        labels=data.output_ids,
        output_mask=data.output_mask,
    )
    if model.nsp is None:
        return PretrainingLosses(mlm_loss, mlm_loss, None)
    nsp_loss = CrossEntropyLossNM()(logits=model.nsp(hidden_states=hidden_states), labels=data.labels)
    return PretrainingLosses(
        LossAggregatorNM(num_inputs=2)(loss_1=mlm_loss, loss_2=nsp_loss), mlm_loss, nsp_loss
    )


def build_model(options: PretrainingOptions, tokenizer: TokenizerSpec) -> PretrainingModel:
    """A new model of the sizes the options give, with a vocabulary that is the tokenizer's.

    Raises:
        UsageError: `--config_file` has another vocabulary or padding token than the tokenizer.
    """
    if options.config_file is not None:
        bert = BERT(config_filename=options.config_file)
        for name, of_tokenizer in (
            ("vocab_size", tokenizer.vocab_size),
            ("pad_token_id", tokenizer.pad_id),
        ):
            if getattr(bert.config, name) != of_tokenizer:
                raise UsageError(
                    f"the tokenizer has another {name}",
                    where=options.config_file,
                    found=getattr(bert.config, name),
                    expected=of_tokenizer,
                )
    else:
        bert = BERT(
            vocab_size=tokenizer.vocab_size,
            pad_token_id=tokenizer.pad_id,
            hidden_size=options.hidden_size,
            num_hidden_layers=options.num_hidden_layers,
            num_attention_heads=options.num_attention_heads,
            intermediate_size=options.intermediate_size,
            hidden_act=options.hidden_act,
            max_position_embeddings=options.max_seq_length,
            hidden_dropout_prob=options.hidden_dropout_prob,
            attention_probs_dropout_prob=options.attention_probs_dropout_prob,
            initializer_range=options.initializer_range,
        )
    if options.bert_checkpoint is not None:
        bert.restore_from(options.bert_checkpoint)
    return with_heads(bert, options.only_mlm_loss)

"""Heads: what they compute, and under which names."""

import pytest
import torch

from nemo.backends.pytorch.common import ACT2FN
from nemo.backends.pytorch.nm import DataLayerNM
from nemo.collections.nlp.nm.losses import SmoothedCrossEntropyLoss
from nemo.collections.nlp.nm.trainables import (
    BertTokenClassifier,
    SequenceClassifier,
    TokenClassifier,
)
from nemo.collections.nlp.nm.trainables.common.huggingface import BERT
from nemo.core.errors import NeuralPortNmTensorMismatchError
from nemo.core.graph import NmTensor
from nemo.core.neural_modules import NeuralModule
from nemo.core.neural_types import ChannelType, LabelsType, MaskType, NeuralType

HIDDEN = torch.randn((2, 3, 4), generator=torch.Generator().manual_seed(0))


def test_token_classifier_of_bert_is_dense_activation_norm_linear():
    head = BertTokenClassifier(4, 5, activation="gelu", log_softmax=False)
    by_hand = head.mlp.layer0(head.norm(torch.nn.functional.gelu(head.dense(HIDDEN))))
    torch.testing.assert_close(head(HIDDEN), by_hand)
    assert head.state_dict().keys() == {
        f"{layer}.{leaf}" for layer in ("dense", "norm", "mlp.layer0") for leaf in ("weight", "bias")
    }


def test_activation_may_be_a_name_or_a_function():
    torch.manual_seed(0)
    by_name = BertTokenClassifier(4, 5, activation="swish")
    torch.manual_seed(0)
    by_function = BertTokenClassifier(4, 5, activation=ACT2FN["swish"])
    torch.testing.assert_close(by_name(HIDDEN), by_function(HIDDEN))


@pytest.mark.parametrize("head_class", [BertTokenClassifier, TokenClassifier, SequenceClassifier])
def test_log_softmax_makes_scores_log_probabilities(head_class):
    raw = head_class(4, 5, log_softmax=False)
    normed = head_class(4, 5)
    normed.load_state_dict(raw.state_dict())
    torch.testing.assert_close(normed(HIDDEN), raw(HIDDEN).log_softmax(-1))


@pytest.mark.parametrize("head_class", [BertTokenClassifier, TokenClassifier])
def test_token_wise_heads_take_gathered_rows(head_class):
    head = head_class(4, 5)
    assert head.token_wise
    torch.testing.assert_close(head(HIDDEN.flatten(0, 1)[[1, 4]]), head(HIDDEN).flatten(0, 1)[[1, 4]])


def test_sequence_classifier_reads_the_first_token_only():
    head = SequenceClassifier(4, 2, activation="tanh", log_softmax=False)
    by_hand = head.mlp.layer2(torch.tanh(head.mlp.layer0(HIDDEN[:, 0])))
    torch.testing.assert_close(head(HIDDEN), by_hand)
    assert head.state_dict().keys() == {
        f"mlp.{layer}.{leaf}" for layer in ("layer0", "layer2") for leaf in ("weight", "bias")
    }


def test_heads_are_initialized_as_bert_by_default():
    torch.manual_seed(0)
    assert BertTokenClassifier(64, 50).dense.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert SequenceClassifier(64, 50).mlp.layer0.bias.count_nonzero() == 0
    assert TokenClassifier(64, 50, use_transformer_pretrained=False).mlp.layer0.bias.count_nonzero() > 0


def test_token_classifier_is_printed_with_its_name():
    assert str(TokenClassifier(4, 5, name="Punctuation")) == "PunctuationTokenClassifier"
    assert str(TokenClassifier(4, 5)) == "TokenClassifier"


def test_scores_of_either_kind_wire_to_the_loss():
    def tensor(axes, elements):
        return NmTensor(NeuralModule(), {}, "x", NeuralType(axes, elements))

    for log_softmax in (True, False):
        logits = BertTokenClassifier(4, 5, log_softmax=log_softmax)(
            hidden_states=tensor(["B", "T", "D"], ChannelType())
        )
        loss = SmoothedCrossEntropyLoss()(
            logits=logits,
            labels=tensor(["B", "T"], LabelsType()),
            output_mask=tensor(["B", "T"], MaskType()),
        )
        assert loss.producer_args["logits"] == logits


@pytest.mark.parametrize("head", [BertTokenClassifier, TokenClassifier, SequenceClassifier])
def test_an_encoder_of_another_width_is_refused_when_it_is_wired(head):
    bert = BERT(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    ids = NmTensor(None, {}, "ids", BERT.input_ports["input_ids"])
    hidden = bert(input_ids=ids, token_type_ids=ids, attention_mask=ids)
    head(8, num_classes=2)(hidden_states=hidden)
    with pytest.raises(NeuralPortNmTensorMismatchError, match=r"found 8, expected 4; fix: .* hidden_size=8"):
        head(4, num_classes=2)(hidden_states=hidden)


def test_token_ids_beyond_model_or_classifier_are_refused_at_wiring():
    class Data(DataLayerNM):
        output_ports = {
            **BERT.input_ports,
            "labels": NeuralType(["B", "T"], LabelsType()),
            "mask": NeuralType(["B", "T"], MaskType()),
        }
        vocab_size = 10

    def wire(vocab_size, num_classes):
        data = Data()()
        sizes = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
        hidden = BERT(vocab_size=vocab_size, hidden_size=8, **sizes)(
            input_ids=data.input_ids, token_type_ids=data.token_type_ids, attention_mask=data.attention_mask
        )
        logits = BertTokenClassifier(8, num_classes)(hidden_states=hidden)
        return SmoothedCrossEntropyLoss()(logits=logits, labels=data.labels, output_mask=data.mask)

    wire(10, 10)
    with pytest.raises(NeuralPortNmTensorMismatchError, match="found a vocabulary of 10, expected 9 or less"):
        wire(9, 10)
    with pytest.raises(NeuralPortNmTensorMismatchError, match="found 9 classes, expected a vocabulary of 10"):
        wire(10, 9)


def test_a_function_as_activation_is_written_by_its_name(tmp_path):
    BertTokenClassifier(4, 5, activation=ACT2FN["gelu"]).export_to_config(tmp_path / "head.yaml")
    again = BertTokenClassifier.import_from_config(tmp_path / "head.yaml")
    assert again.init_params["activation"] == "gelu"

"""Smoothed cross entropy, against NeMo 0.10's formula and by hand."""

import math

import pytest
import torch

from nemo.collections.nlp.nm.losses import SmoothedCrossEntropyLoss
from nemo.core.errors import NeuralPortMissingError
from nemo.core.graph import NmTensor
from nemo.core.neural_modules import NeuralModule
from nemo.core.neural_types import LabelsType, LogitsType, MaskType, NeuralType
from nemo.utils.errors import UsageError

LN2 = math.log(2)
# B = 1, T = 3, V = 2: the labels cost ln 2, ln 4 and ln 8.
LOG_PROBS = torch.tensor([[[1 / 2, 1 / 2], [3 / 4, 1 / 4], [1 / 8, 7 / 8]]]).log()
LABELS = torch.tensor([[0, 1, 0]])
MASK = torch.tensor([[1.0, 0.0, 1.0]])
PORTS = {"logits": LOG_PROBS, "labels": LABELS, "output_mask": MASK}


def by_the_formula(log_probs, labels, mask, smoothing):
    num_classes = log_probs.shape[-1]
    e = num_classes * smoothing / (num_classes - 1)
    target = log_probs.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    smoothed = (1 - e) * target + e * log_probs.mean(-1)
    return -(smoothed * mask).sum() / mask.sum()


def test_the_loss_is_the_mean_over_the_predictions():
    loss = SmoothedCrossEntropyLoss()
    assert loss.total(**PORTS).item() == pytest.approx(4 * LN2)
    assert loss.count(LABELS, MASK).item() == 2
    assert loss(**PORTS).item() == pytest.approx(2 * LN2)


@pytest.mark.parametrize("smoothing", [0, 0.1, 0.3])
def test_smoothing_follows_the_formula(smoothing):
    generator = torch.Generator().manual_seed(0)
    log_probs = torch.randn((2, 4, 7), generator=generator).log_softmax(-1)
    labels = torch.randint(7, (2, 4), generator=generator)
    mask = torch.tensor([[1, 0, 1, 1], [0, 0, 1, 0]])
    loss = SmoothedCrossEntropyLoss(label_smoothing=smoothing)(
        logits=log_probs, labels=labels, output_mask=mask
    )
    torch.testing.assert_close(loss, by_the_formula(log_probs, labels, mask, smoothing))


def test_raw_scores_and_log_probabilities_have_one_loss():
    loss = SmoothedCrossEntropyLoss(label_smoothing=0.1)
    torch.testing.assert_close(loss(**{**PORTS, "logits": LOG_PROBS + 5}), loss(**PORTS))


def test_gathered_rows_give_the_loss_of_the_whole():
    loss = SmoothedCrossEntropyLoss(label_smoothing=0.1)
    rows = MASK.flatten().nonzero().squeeze(1)
    gathered = {
        "logits": LOG_PROBS.flatten(0, 1)[rows],
        "labels": LABELS.flatten()[rows],
        "output_mask": MASK.flatten()[rows],
    }
    torch.testing.assert_close(loss(**gathered), loss(**PORTS))
    for name, (total, count) in loss.statistics(**gathered).items():
        whole_total, whole_count = loss.statistics(**PORTS)[name]
        torch.testing.assert_close((total, count), (whole_total, whole_count))


def test_no_predictions_give_zero():
    assert SmoothedCrossEntropyLoss()(**{**PORTS, "output_mask": torch.zeros(1, 3)}).item() == 0


def test_without_a_mask_padding_does_not_count():
    loss = SmoothedCrossEntropyLoss(pad_id=1)
    assert loss.count(LABELS).item() == 2
    assert loss(logits=LOG_PROBS, labels=LABELS).item() == pytest.approx(2 * LN2)


def test_only_the_last_tokens_count():
    loss = SmoothedCrossEntropyLoss(predict_last_k=2)
    assert loss(**PORTS).item() == pytest.approx(3 * LN2)
    assert loss.statistics(**PORTS)["target_counts"][0].tolist() == [1, 0]
    assert loss.row_mask is None


def test_statistics_have_accuracy_and_target_counts():
    labels = torch.tensor([[0, 0, 0]])  # the second one would be right as well
    statistics = SmoothedCrossEntropyLoss().statistics(logits=LOG_PROBS, labels=labels, output_mask=MASK)
    assert [float(x) for x in statistics["accuracy"]] == [1, 2]  # a tie goes to class 0, which is right
    assert statistics["target_counts"][0].tolist() == [2, 0]


def test_a_class_beyond_the_vocabulary_is_never_predicted():
    labeler = NeuralModule()
    labeler.vocab_size = 2  # of the tokenizer
    labels = NmTensor(labeler, {}, "labels", NeuralType(["B", "T"], LabelsType()))
    mask = NmTensor(labeler, {}, "mask", NeuralType(["B", "T"], MaskType()))
    scored = NmTensor(NeuralModule(), {}, "logits", NeuralType(["B", "T", "D"], LogitsType()))
    loss = SmoothedCrossEntropyLoss()
    loss(logits=scored, labels=labels, output_mask=mask)
    scores = torch.tensor([[[1.0, 0.0, 2.0], [0.0, 1.0, 2.0]]])  # the third class is an embedding to spare
    told = loss.statistics(logits=scores, labels=torch.tensor([[0, 0]]), output_mask=torch.ones(1, 2))
    assert [float(x) for x in told["accuracy"]] == [1, 2]


def test_loss_of_bf16_scores_is_computed_in_float32():
    loss, scores = SmoothedCrossEntropyLoss(), LOG_PROBS.bfloat16()
    assert torch.equal(loss.total(scores, LABELS, MASK), loss.total(scores.float(), LABELS, MASK))


def test_neither_mask_nor_padding_is_refused_when_called():
    with pytest.raises(UsageError, match="output_mask or pad_id"):
        SmoothedCrossEntropyLoss()(logits=LOG_PROBS, labels=LABELS)


def test_neither_mask_nor_padding_is_refused_while_wiring():
    logits = NmTensor(NeuralModule(), {}, "logits", NeuralType(["B", "T", "D"], LogitsType()))
    labels = NmTensor(NeuralModule(), {}, "labels", NeuralType(["B", "T"], LabelsType()))
    with pytest.raises(NeuralPortMissingError, match="output_mask"):
        SmoothedCrossEntropyLoss()(logits=logits, labels=labels)
    assert SmoothedCrossEntropyLoss(pad_id=0)(logits=logits, labels=labels).name == "loss"


def test_smoothing_is_a_probability():
    with pytest.raises(UsageError, match="label_smoothing"):
        SmoothedCrossEntropyLoss(label_smoothing=1.5)

"""Losses are sums and divisors, worked out by hand."""

import math

import pytest
import torch

from nemo.backends.pytorch import DataLayerNM
from nemo.backends.pytorch.common import CrossEntropyLossNM, LossAggregatorNM, MSELoss, SequenceLoss
from nemo.core import LabelsType, LogitsType, MaskType, NeuralModuleFactory, NeuralType
from nemo.utils.errors import UsageError

# Rows of log-probabilities: items of classes 0, 1, 0 cost ln 2, ln 4 and ln 8.
LOGITS = torch.tensor([[1 / 2, 1 / 2], [3 / 4, 1 / 4], [1 / 8, 7 / 8]]).log()
LABELS = torch.tensor([0, 1, 0])
LN2 = math.log(2)


def test_cross_entropy_is_the_mean_over_items():
    assert CrossEntropyLossNM()(logits=LOGITS, labels=LABELS).item() == pytest.approx(2 * LN2)


def test_cross_entropy_of_raw_scores_is_that_of_log_probabilities():
    loss = CrossEntropyLossNM()
    torch.testing.assert_close(loss(logits=LOGITS + 7, labels=LABELS), loss(logits=LOGITS, labels=LABELS))


@pytest.mark.parametrize("mask", [[1, 0, 1], [True, False, True], [0.9, 0.1, 0.8]])
def test_masked_items_are_neither_summed_nor_counted(mask):
    loss = CrossEntropyLossNM()
    mask = torch.tensor(mask)
    assert loss.total(LOGITS, LABELS, mask).item() == pytest.approx(4 * LN2)
    assert loss.count(LABELS, mask).item() == 2


def test_ignored_labels_do_not_count():
    labels = torch.tensor([0, -100, 0])
    assert CrossEntropyLossNM()(logits=LOGITS, labels=labels).item() == pytest.approx(2 * LN2)


def test_nothing_counted_gives_zero_with_a_gradient():
    logits = LOGITS.clone().requires_grad_()
    loss = CrossEntropyLossNM()(logits=logits, labels=LABELS, loss_mask=torch.zeros(3))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad.count_nonzero() == 0


def test_class_weights_weigh_the_divisor_too():
    loss = CrossEntropyLossNM(weight=[1.0, 3.0])
    assert loss(logits=LOGITS, labels=LABELS).item() == pytest.approx((1 + 3 * 2 + 3) * LN2 / 5)
    assert loss.state_dict() == {}


def test_sum_reduction_divides_by_one():
    assert CrossEntropyLossNM(reduction="sum")(logits=LOGITS, labels=LABELS).item() == pytest.approx(6 * LN2)


def test_gathered_rows_give_the_loss_of_the_whole():
    loss = CrossEntropyLossNM(logits_ndim=3)
    mask = torch.tensor([[1, 0, 1]])
    whole = loss(logits=LOGITS[None], labels=LABELS[None], loss_mask=mask)
    rows = mask.flatten().nonzero().squeeze(1)
    gathered = loss(logits=LOGITS[rows], labels=LABELS[rows], loss_mask=mask.flatten()[rows])
    torch.testing.assert_close(gathered, whole)


def test_statistics_have_accuracy():
    correct, count = CrossEntropyLossNM().statistics(LOGITS, LABELS, torch.tensor([1, 1, 0]))["accuracy"]
    assert (correct.item(), count.item()) == (1, 2)  # the tie goes to class 0, which is right


def test_other_reductions_are_refused():
    for loss in (CrossEntropyLossNM, MSELoss):
        with pytest.raises(UsageError, match="'none'"):
            loss(reduction="none")


def test_ports_follow_the_number_of_axes():
    ports = CrossEntropyLossNM(logits_ndim=3).input_ports
    assert [len(port.axes) for port in ports.values()] == [3, 2, 2]
    assert ports["loss_mask"].optional


@pytest.mark.parametrize("ndim", [2, 3, 4])
def test_logits_may_have_any_number_of_axes(ndim):
    axes = (1,) * (ndim - 2) + (3,)
    loss = CrossEntropyLossNM(logits_ndim=ndim)
    value = loss(
        logits=LOGITS.reshape(*axes, 2),
        labels=LABELS.reshape(axes),
        loss_mask=torch.tensor([1, 0, 1]).reshape(axes),
    )
    assert value.item() == pytest.approx(2 * LN2)


@pytest.mark.parametrize("ndim", [2, 3, 4])
def test_an_empty_mask_in_a_graph_is_a_loss_of_zero(ndim):
    class Batch(DataLayerNM):
        def __init__(self):
            items = ["B", *["any"] * (ndim - 2)]
            self.output_ports = {
                "logits": NeuralType([*items, "D"], LogitsType()),
                "labels": NeuralType(items, LabelsType()),
                "mask": NeuralType(items, MaskType()),
            }
            shape = (4,) * (ndim - 1)
            self.dataset = torch.utils.data.TensorDataset(
                torch.randn(*shape, 5), torch.zeros(shape).long(), torch.zeros(shape)
            )

    data = Batch()()
    loss = CrossEntropyLossNM(logits_ndim=ndim)(logits=data.logits, labels=data.labels, loss_mask=data.mask)
    assert [value.item() for value in NeuralModuleFactory().infer([loss])[0]] == [0] * 4


def test_logits_have_classes():
    with pytest.raises(UsageError, match="logits_ndim: out of range; found 1, expected 2 or more"):
        CrossEntropyLossNM(logits_ndim=1)


def test_squared_error_is_the_mean_over_values():
    preds, labels = torch.tensor([1.0, 2.0]), torch.tensor([0.0, 5.0])
    assert MSELoss()(preds=preds, labels=labels).item() == 5
    assert MSELoss(reduction="sum")(preds=preds, labels=labels).item() == 10


def test_aggregated_losses_are_weighted_by_port_number():
    """With ten losses, port names sorted as text would give loss_10 the second weight."""
    aggregator = LossAggregatorNM(num_inputs=10, weights=[1, *[0] * 8, 100])
    losses = {f"loss_{i}": torch.tensor(float(i)) for i in range(1, 11)}
    assert aggregator(**losses).item() == 1 + 100 * 10


def test_aggregated_losses_keep_their_weights_in_a_graph():
    class Number(DataLayerNM):
        output_ports = {
            "logits": NeuralType(("B", "D"), LogitsType()),
            "label": NeuralType(("B",), LabelsType()),
        }
        dataset = torch.utils.data.TensorDataset(LOGITS[:1], LABELS[:1])

    data = Number()()
    # Loss i is i times ln 2.
    losses = {
        f"loss_{i}": LossAggregatorNM(1, weights=[i])(
            loss_1=CrossEntropyLossNM()(logits=data.logits, labels=data.label)
        )
        for i in range(12, 0, -1)
    }
    total = LossAggregatorNM(12, weights=[2**i for i in range(12)])(**losses)
    ((value,),) = NeuralModuleFactory().infer([total])
    assert value.item() == pytest.approx(LN2 * sum(i * 2 ** (i - 1) for i in range(1, 13)))


def test_aggregated_losses_are_added_up_without_weights():
    assert LossAggregatorNM()(loss_1=torch.tensor(1.5), loss_2=torch.tensor(2.0)).item() == 3.5


def test_as_many_weights_as_losses():
    with pytest.raises(UsageError, match="found 1 weights, expected num_inputs = 2"):
        LossAggregatorNM(num_inputs=2, weights=[1])


# Two sequences; the second one ends with padding, which is class 0.
LOG_PROBS = torch.tensor([[1 / 4, 1 / 4, 1 / 2], [1 / 2, 1 / 4, 1 / 4]]).log()[torch.tensor([[0, 1], [1, 0]])]
TARGETS = torch.tensor([[2, 1], [2, 0]])


def test_sequences_cost_their_tokens_but_for_padding():
    # ln 2, ln 4 and ln 4, for three tokens or two sequences.
    assert SequenceLoss()(log_probs=LOG_PROBS, targets=TARGETS).item() == pytest.approx(5 * LN2 / 3)
    assert SequenceLoss(sample_wise=True)(LOG_PROBS, TARGETS).item() == pytest.approx(5 * LN2 / 2)


def test_any_token_can_be_padding():
    assert SequenceLoss(pad_id=2)(LOG_PROBS, TARGETS).item() == pytest.approx((2 + 2) * LN2 / 2)


def test_smoothing_is_a_share_of_the_mean_over_all_classes():
    # Two tokens that cost ln 4; the mean of -log p over the classes is (2 + 2 + 1) / 3 ln 2 at both.
    by_hand = 0.9 * 2 * LN2 + 0.1 * (5 / 3) * LN2
    assert SequenceLoss(pad_id=2, smoothing_coef=0.1)(LOG_PROBS, TARGETS).item() == pytest.approx(by_hand)


def test_a_batch_of_only_padding_has_zero_loss():
    log_probs = LOG_PROBS.clone().requires_grad_()
    loss = SequenceLoss(smoothing_coef=0.1, aux_ctc=True, ctc_blank_id=1)(
        log_probs, torch.zeros_like(TARGETS)
    )
    loss.backward()
    assert loss.item() == 0 and log_probs.grad.count_nonzero() == 0


@pytest.mark.parametrize("sample_wise", [False, True])
def test_the_alignment_is_added_as_a_mean_over_sequences(sample_wise):
    plain = SequenceLoss(sample_wise=sample_wise)
    with_ctc = SequenceLoss(sample_wise=sample_wise, aux_ctc=True, ctc_initial_coef=0.5, ctc_blank_id=0)
    # As many steps as targets leave one alignment: ln 2 + ln 4 for the first sequence, ln 4 for the second.
    added = with_ctc(LOG_PROBS, TARGETS) - plain(LOG_PROBS, TARGETS)
    assert added.item() == pytest.approx(0.5 * (3 + 2) / 2 * LN2)


def test_targets_that_ctc_cannot_align_add_nothing():
    repeated = torch.tensor([[1, 1], [2, 2]])
    loss = SequenceLoss(aux_ctc=True, ctc_blank_id=0)
    assert loss(LOG_PROBS, repeated).item() == SequenceLoss()(LOG_PROBS, repeated).item()


def test_sequence_losses_of_two_batches_make_that_of_both():
    loss = SequenceLoss(smoothing_coef=0.2)
    totals = [loss.total(LOG_PROBS[i : i + 1], TARGETS[i : i + 1]) for i in range(2)]
    counts = [loss.count(TARGETS[i : i + 1]) for i in range(2)]
    torch.testing.assert_close(sum(totals) / sum(counts), loss(LOG_PROBS, TARGETS))


@pytest.mark.parametrize(
    ("options", "problem"),
    [({"aux_ctc": True}, "ctc_blank_id"), ({"smoothing_coef": 1.5}, "smoothing_coef: out of range")],
)
def test_invalid_options_are_refused(options, problem):
    with pytest.raises(UsageError, match=problem):
        SequenceLoss(**options)

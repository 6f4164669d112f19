"""Losses are sums and divisors, worked out by hand."""

import math

import pytest
import torch

from nemo.backends.pytorch.common import CrossEntropyLossNM, LossAggregatorNM, MSELoss
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


def test_squared_error_is_the_mean_over_values():
    preds, labels = torch.tensor([1.0, 2.0]), torch.tensor([0.0, 5.0])
    assert MSELoss()(preds=preds, labels=labels).item() == 5
    assert MSELoss(reduction="sum")(preds=preds, labels=labels).item() == 10


def test_aggregated_losses_are_weighted_by_port_number():
    """With ten losses, port names sorted as text would give loss_10 the second weight."""
    aggregator = LossAggregatorNM(num_inputs=10, weights=[1, *[0] * 8, 100])
    losses = {f"loss_{i}": torch.tensor(float(i)) for i in range(1, 11)}
    assert aggregator(**losses).item() == 1 + 100 * 10


def test_aggregated_losses_are_added_up_without_weights():
    assert LossAggregatorNM()(loss_1=torch.tensor(1.5), loss_2=torch.tensor(2.0)).item() == 3.5


def test_as_many_weights_as_losses():
    with pytest.raises(UsageError, match="found 1 weights, expected num_inputs = 2"):
        LossAggregatorNM(num_inputs=2, weights=[1])

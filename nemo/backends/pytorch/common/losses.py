"""Losses that any collection can use.

Shapes: N items (the leading axes, flattened), C classes.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from nemo.backends.pytorch.nm import LossNM, NonTrainableNM
from nemo.core.neural_types import (
    LabelsType,
    LogitsType,
    LossType,
    MaskType,
    NeuralType,
    RegressionValuesType,
)
from nemo.utils.errors import UsageError

_IGNORED = -100  # the label that cross entropy passes over


class CrossEntropyLossNM(LossNM):
    """Cross entropy of raw scores, or of log-probabilities, which are their own log-softmax.

    Labels of -100 and labels whose `loss_mask` is 0 do not count; with none left the loss is 0.

    Args:
        logits_ndim: axes of the logits, the last one being the classes.
        weight: one factor per class, for its items and for what they add to the divisor; None means 1.
        reduction: "mean" or "sum" over the items.

    Raises:
        UsageError: another reduction.
    """

    count_ports = ("labels", "loss_mask")
    weight: Tensor | None  # [C]

    def __init__(self, logits_ndim: int = 2, weight: Sequence[float] | None = None, reduction: str = "mean"):
        super().__init__()
        if reduction not in ("mean", "sum"):
            raise UsageError("unknown reduction", found=repr(reduction), expected="'mean' or 'sum'")
        items = ["B", *["any"] * (logits_ndim - 2)]
        self.input_ports = {
            "logits": NeuralType([*items, "any"], LogitsType()),
            "labels": NeuralType(items, LabelsType()),
            "loss_mask": NeuralType(items, MaskType(), optional=True),
        }
        self.row_mask = "loss_mask" if logits_ndim == 3 else None
        self.reduction = reduction
        self.register_buffer("weight", None if weight is None else torch.tensor(weight), persistent=False)

    def total(self, logits: Tensor, labels: Tensor, loss_mask: Tensor | None = None) -> Tensor:
        """The weighted sum over the items that count."""
        return F.cross_entropy(
            logits.flatten(0, -2).float(),
            _counted(labels, loss_mask),
            weight=self.weight,
            ignore_index=_IGNORED,
            reduction="sum",
        )

    def count(self, labels: Tensor, loss_mask: Tensor | None = None) -> Tensor:
        """The sum of the weights of the items that count; 1 for the reduction "sum"."""
        if self.reduction == "sum":
            return torch.ones((), device=labels.device)
        labels = _counted(labels, loss_mask)
        weights = (labels != _IGNORED).float()
        if self.weight is not None:
            weights = weights * self.weight[labels.clamp(min=0)]
        return weights.sum()

    def statistics(
        self, logits: Tensor, labels: Tensor, loss_mask: Tensor | None = None
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """Sums and counts of "loss" and "accuracy"."""
        counted = _counted(labels, loss_mask)
        correct = logits.flatten(0, -2).argmax(dim=-1) == counted
        return {
            "loss": (self.total(logits, labels, loss_mask), self.count(labels, loss_mask)),
            "accuracy": (correct.sum(), (counted != _IGNORED).sum()),
        }


def _counted(labels: Tensor, mask: Tensor | None) -> Tensor:
    """The labels in one row, [N], replaced where they do not count."""
    labels = labels.flatten()
    return labels if mask is None else labels.masked_fill(mask.flatten() <= 0.5, _IGNORED)


class MSELoss(LossNM):
    """Mean squared error.

    Args:
        reduction: "mean" or "sum" over the items.

    Raises:
        UsageError: another reduction.
    """

    input_ports = {
        "preds": NeuralType(["B"], RegressionValuesType()),
        "labels": NeuralType(["B"], LabelsType()),
    }
    count_ports = ("labels",)

    def __init__(self, reduction: str = "mean"):
        super().__init__()
        if reduction not in ("mean", "sum"):
            raise UsageError("unknown reduction", found=repr(reduction), expected="'mean' or 'sum'")
        self.reduction = reduction

    def total(self, preds: Tensor, labels: Tensor) -> Tensor:
        """The sum of the squares."""
        return F.mse_loss(preds.float(), labels.float(), reduction="sum")

    def count(self, labels: Tensor) -> Tensor:
        """The number of values; 1 for the reduction "sum"."""
        return torch.tensor(float(labels.numel() if self.reduction == "mean" else 1), device=labels.device)


class LossAggregatorNM(NonTrainableNM):
    """The weighted sum of losses.

    Not a LossNM itself: its inputs are divided by their numbers of items already, the sum needs no divisor.

    Args:
        num_inputs: number of losses, which come in by the ports `loss_1`, `loss_2`, ...
        weights: one factor per loss, in the order of the ports; None means 1.

    Raises:
        UsageError: there are not as many weights as losses.
    """

    output_ports = {"loss": NeuralType(elements_type=LossType())}

    def __init__(self, num_inputs: int = 2, weights: Sequence[float] | None = None):
        super().__init__()
        self.weights = [1.0] * num_inputs if weights is None else list(weights)
        if len(self.weights) != num_inputs:
            raise UsageError(
                "every loss needs its weight",
                where="weights",
                found=f"{len(self.weights)} weights",
                expected=f"num_inputs = {num_inputs}",
            )
        self.input_ports = {f"loss_{i + 1}": NeuralType(elements_type=LossType()) for i in range(num_inputs)}

    def forward(self, **losses: Tensor) -> Tensor:
        """One number out of many."""
        terms = [w * losses[port] for port, w in zip(self.input_ports, self.weights, strict=True)]
        return torch.stack(terms).sum()

"""Losses for all collections.

Shapes: N items (the leading axes, flattened), C classes; B batch, T tokens.
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

_IGNORED = -100  # the label that cross entropy ignores


class CrossEntropyLossNM(LossNM):
    """Cross entropy of logits, or of log-probabilities, which are their own log-softmax.

    Labels of -100 and labels whose `loss_mask` is 0 are ignored; if all are, the loss is 0.

    Args:
        logits_ndim: number of axes of the logits, 2 or more; the last is the classes.
        weight: one factor per class, which weights its items in the sum and in the divisor; None means 1.
        reduction: "mean" or "sum" over the items.

    Raises:
        UsageError: an unknown reduction, or too few axes.
    """

    count_ports = ("labels", "loss_mask")
    weight: Tensor | None  # [C]

    def __init__(self, logits_ndim: int = 2, weight: Sequence[float] | None = None, reduction: str = "mean"):
        super().__init__()
        _check_reduction(reduction)
        if logits_ndim < 2:
            raise UsageError("out of range", where="logits_ndim", found=logits_ndim, expected="2 or more")
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
        """The weighted sum over the items that are not ignored: float32, a scalar."""
        return F.cross_entropy(
            logits.flatten(0, -2).float(),
            _counted(labels, loss_mask),
            weight=self.weight,
            ignore_index=_IGNORED,
            reduction="sum",
        )

    def count(self, labels: Tensor, loss_mask: Tensor | None = None) -> Tensor:
        """The total weight of the items that are not ignored, a scalar; 1 for the reduction "sum"."""
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
        """Name -> (sum, count), both scalars, of "loss" and "accuracy"."""
        counted = _counted(labels, loss_mask)
        correct = logits.flatten(0, -2).argmax(dim=-1) == counted
        return {
            "loss": (self.total(logits, labels, loss_mask), self.count(labels, loss_mask)),
            "accuracy": (correct.sum(), (counted != _IGNORED).sum()),
        }


def _counted(labels: Tensor, mask: Tensor | None) -> Tensor:
    """The flattened labels, [N], with -100 where `mask` is 0."""
    labels = labels.flatten()
    return labels if mask is None else labels.masked_fill(mask.flatten() <= 0.5, _IGNORED)


def _check_reduction(reduction: str) -> None:
    if reduction not in ("mean", "sum"):
        raise UsageError("unknown reduction", found=repr(reduction), expected="'mean' or 'sum'")


class MSELoss(LossNM):
    """Mean squared error.

    Args:
        reduction: "mean" or "sum" over the items.

    Raises:
        UsageError: an unknown reduction.
    """

    input_ports = {
        "preds": NeuralType(["B"], RegressionValuesType()),
        "labels": NeuralType(["B"], LabelsType()),
    }
    count_ports = ("labels",)

    def __init__(self, reduction: str = "mean"):
        super().__init__()
        _check_reduction(reduction)
        self.reduction = reduction

    def total(self, preds: Tensor, labels: Tensor) -> Tensor:
        """The sum of the squared differences: float32, a scalar."""
        return F.mse_loss(preds.float(), labels.float(), reduction="sum")

    def count(self, labels: Tensor) -> Tensor:
        """The number of values, a scalar; 1 for the reduction "sum"."""
        return torch.tensor(float(labels.numel() if self.reduction == "mean" else 1), device=labels.device)


class SequenceLoss(LossNM):
    """Mean negative log-likelihood of the target tokens, without padding, with label smoothing.

    The loss of a token is -((1 - e) log p[target] + e mean log p), e = `smoothing_coef` (Szegedy et al. 2016,
    arXiv 1512.00567). If all tokens are padding, the loss is 0.

    `aux_ctc` adds `ctc_initial_coef` times the mean over sequences of the CTC loss (connectionist temporal
    classification, Graves et al. 2006). For each sequence it reads as many `log_probs` as there are targets;
    it is 0 if these cannot be aligned, for example if a target repeats.

    Args:
        pad_id: id of the padding at the end of the targets.
        smoothing_coef: e, from 0 to 1.
        sample_wise: divide by the number of sequences instead of tokens.
        aux_ctc: add the CTC loss.
        ctc_initial_coef: weight of the CTC loss.
        ctc_blank_id: id of the blank label, which no target may use.
        eps: for compatibility with NeMo 0.10; unused, as we divide by 1 if all tokens are padding.

    Raises:
        UsageError: `aux_ctc` without `ctc_blank_id`, or `smoothing_coef` out of range.
    """

    input_ports = {"log_probs": NeuralType(("B", "T", "D")), "targets": NeuralType(("B", "T"))}
    count_ports = ("targets",)

    def __init__(
        self,
        pad_id: int = 0,
        smoothing_coef: float = 0.0,
        sample_wise: bool = False,
        aux_ctc: bool = False,
        ctc_initial_coef: float = 0.1,
        ctc_blank_id: int | None = None,
        eps: float = 1e-5,
    ):
        super().__init__()
        if not 0 <= smoothing_coef <= 1:
            raise UsageError("out of range", where="smoothing_coef", found=smoothing_coef, expected="0 to 1")
        if aux_ctc and ctc_blank_id is None:
            raise UsageError(
                "aux_ctc needs a blank", where="ctc_blank_id", expected="an id that no target uses"
            )
        self.pad_id = pad_id
        self.smoothing_coef = smoothing_coef
        self.sample_wise = sample_wise
        self.ctc_coef = ctc_initial_coef
        self.ctc_blank_id = ctc_blank_id if aux_ctc else None

    def total(self, log_probs: Tensor, targets: Tensor) -> Tensor:
        """The sum over the tokens that are not padding: float32, a scalar."""
        total = F.cross_entropy(
            log_probs.flatten(0, -2).float(),
            targets.flatten(),
            ignore_index=self.pad_id,
            reduction="sum",
            label_smoothing=self.smoothing_coef,
        )
        if self.ctc_blank_id is None:
            return total
        # Already a mean: multiply by the divisor, so that the later division cancels.
        return total + self.ctc_coef * self.count(targets) * self._ctc(log_probs, targets, self.ctc_blank_id)

    def _ctc(self, log_probs: Tensor, targets: Tensor, blank: int) -> Tensor:
        lengths = (targets != self.pad_id).sum(1)
        losses = F.ctc_loss(
            log_probs.float().transpose(0, 1),
            targets,
            lengths,
            lengths,
            blank=blank,
            reduction="none",
            zero_infinity=True,
        )
        return losses.mean()

    def count(self, targets: Tensor) -> Tensor:
        """The number of targets that are not padding, or of sequences: float32, a scalar."""
        if self.sample_wise:
            return torch.tensor(float(len(targets)), device=targets.device)
        return (targets != self.pad_id).sum().float()


class LossAggregatorNM(NonTrainableNM):
    """The weighted sum of losses.

    Not a LossNM: its inputs are means already, so the sum needs no divisor.

    Args:
        num_inputs: number of losses, at the ports `loss_1`, `loss_2`, ...
        weights: one factor per loss, in the order of the ports; None means 1.

    Raises:
        UsageError: the numbers of weights and losses differ.
    """

    output_ports = {"loss": NeuralType(elements_type=LossType())}

    def __init__(self, num_inputs: int = 2, weights: Sequence[float] | None = None):
        super().__init__()
        self.weights = [1.0] * num_inputs if weights is None else list(weights)
        if len(self.weights) != num_inputs:
            raise UsageError(
                "every loss needs a weight",
                where="weights",
                found=f"{len(self.weights)} weights",
                expected=f"num_inputs = {num_inputs}",
            )
        self.input_ports = {f"loss_{i + 1}": NeuralType(elements_type=LossType()) for i in range(num_inputs)}

    def forward(self, **losses: Tensor) -> Tensor:
        """The weighted sum, a scalar."""
        terms = [w * losses[port] for port, w in zip(self.input_ports, self.weights, strict=True)]
        return torch.stack(terms).sum()

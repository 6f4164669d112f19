"""Cross entropy with label smoothing over the tokens to predict.

Shapes: B batch, T tokens, V vocabulary; R gathered rows may stand for B, T.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nemo.backends.pytorch.nm import LossNM
from nemo.backends.pytorch.ops.cross_entropy import linear_cross_entropy
from nemo.core.errors import NeuralPortNmTensorMismatchError
from nemo.core.graph import NmTensor
from nemo.core.neural_types import LabelsType, LogitsType, MaskType, NeuralType
from nemo.utils.errors import UsageError


class SmoothedCrossEntropyLoss(LossNM):
    """The mean, over the tokens with a mask of 1, of -((1 - e) log p[label] + e mean log p).

    e = V * label_smoothing / (V - 1), so the wrong classes share `label_smoothing` (Szegedy et al. 2016,
    arXiv 1512.00567). Takes raw scores or log-probabilities, whose log-softmax is themselves. 0 if no
    token counts.

    Args:
        pad_id: without an `output_mask`, labels other than this one count.
        label_smoothing: probability given to the wrong classes.
        predict_last_k: only this many last tokens of each sequence count; 0: all.

    Attributes:
        num_tokens: how many of the classes are tokens, according to the data layer of the labels; None if it
            does not say. Spare classes beyond them are never counted as a prediction.

    Raises:
        UsageError: `label_smoothing` outside [0, 1), or, when called, neither a mask nor `pad_id`.
    """

    count_ports = ("labels", "output_mask")

    def __init__(self, pad_id: int | None = None, label_smoothing: float = 0, predict_last_k: int = 0):
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise UsageError("not a probability", where="label_smoothing", found=label_smoothing)
        self.pad_id = pad_id
        self.label_smoothing = label_smoothing
        self.predict_last_k = predict_last_k
        self.num_tokens: int | None = None
        self.input_ports = {
            "logits": NeuralType(["B", "T", "D"], LogitsType()),
            "labels": NeuralType(["B", "T"], LabelsType()),
            # Checked while wiring: without pad_id the mask is required.
            "output_mask": NeuralType(["B", "T"], MaskType(), optional=pad_id is not None),
        }
        # Gathered rows no longer know which token of its sequence is the last.
        self.row_mask = None if predict_last_k else "output_mask"

    def connect(self, **inputs: NmTensor | None) -> Any:
        """Record a call; labels that are token ids must be among the scored classes.

        Raises:
            NeuralPortNmTensorMismatchError: the classifier has too few. Also as `NeuralModule.connect`.
        """
        outputs = super().connect(**inputs)
        classifier, labeler = (tensor and tensor.producer for tensor in map(inputs.get, ("logits", "labels")))
        classes = getattr(classifier, "num_classes", None)
        known = getattr(labeler, "vocab_size", None)
        if classes is not None and known is not None and classes < known:
            raise NeuralPortNmTensorMismatchError(
                f"{self}: {labeler} has labels that {classifier} has no class for",
                found=f"{classes} classes",
                expected=f"a vocabulary of {known}",
                fix="make the classifier with num_classes=tokenizer.vocab_size",
            )
        self.num_tokens = known
        return outputs

    def total(self, logits: Tensor, labels: Tensor, output_mask: Tensor | None = None) -> Tensor:
        """The sum over the tokens that count: float32, a scalar."""
        losses = F.cross_entropy(
            self._last(logits).flatten(0, -2).float(),
            self._last(labels).flatten(),
            reduction="none",
            label_smoothing=self._smoothing(logits.shape[-1]),
        )
        return (losses * self._mask(labels, output_mask)).sum()

    @property
    def takes_features(self) -> bool:
        """Whether the loss can be computed from the features that the scores are made of."""
        return not self.predict_last_k

    def total_of_features(
        self, features: Tensor, decoder: nn.Linear, labels: Tensor, output_mask: Tensor | None = None
    ) -> Tensor:
        """`total` of the scores that `decoder` gives these (B, T, D) features."""
        features, weight = features.flatten(0, -2), decoder.weight
        losses = linear_cross_entropy(
            features, weight, decoder.bias, labels.flatten(), self._smoothing(len(weight))
        )
        return (losses * self._mask(labels, output_mask)).sum()

    def count(self, labels: Tensor, output_mask: Tensor | None = None) -> Tensor:
        """The number of tokens that count: float32, a scalar."""
        return self._mask(labels, output_mask).sum()

    def statistics(
        self, logits: Tensor, labels: Tensor, output_mask: Tensor | None = None
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """Sums and counts: "loss", "accuracy", and "target_counts", how often each class is a label, [V]."""
        count, mask = self.count(labels, output_mask), self._mask(labels, output_mask)
        targets = self._last(labels).flatten()
        scores = self._last(logits).flatten(0, -2)[:, : self.num_tokens]
        correct = scores.argmax(dim=-1) == targets
        return {
            "loss": (self.total(logits, labels, output_mask), count),
            "accuracy": ((correct * mask).sum(), count),
            "target_counts": (torch.bincount(targets, mask, minlength=logits.shape[-1]), count),
        }

    def _smoothing(self, num_classes: int) -> float:
        """torch's e, which counts the right class among those that share it."""
        return self.label_smoothing * num_classes / (num_classes - 1)

    def _last(self, tokens: Tensor) -> Tensor:
        return tokens[:, -self.predict_last_k :] if self.predict_last_k else tokens

    def _mask(self, labels: Tensor, output_mask: Tensor | None) -> Tensor:
        """The weight of each token, float, flattened."""
        if output_mask is None:
            if self.pad_id is None:
                raise UsageError(
                    "cannot tell which tokens count", where=self, expected="output_mask or pad_id"
                )
            output_mask = labels != self.pad_id
        return self._last(output_mask).flatten().float()

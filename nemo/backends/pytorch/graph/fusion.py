"""Fused heads: a pass over the graph that finds logits which only a loss reads.

Where a loss (`LossNM.takes_features`) is the only reader of what a classifier's last linear layer scores
(`TrainableNM.decoder`), the loss takes the features before that layer and the layer itself: the scores and
their gradient then share one buffer.
"""

from collections.abc import Collection, Sequence

from nemo.core.graph import Call, NmTensor


def fused_heads(calls: Sequence[Call], wanted: Collection[NmTensor]) -> dict[Call, Call]:
    """Losses, each with the call of a classifier that it can do without the scores of.

    Args:
        calls: the graph.
        wanted: tensors that must come out.
    """
    readers: dict[NmTensor, list[Call]] = {}
    for call in calls:
        for tensor in call.inputs.values():
            readers.setdefault(tensor, []).append(call)
    fused = {}
    for loss in calls:
        scores = loss.inputs.get("logits")
        if getattr(loss.module, "takes_features", False) and scores is not None:
            head = scores.call
            scores_linearly = getattr(head.module, "decoder", None) is not None
            if scores_linearly and readers[scores] == [loss] and scores not in wanted:
                fused[loss] = head
    return fused

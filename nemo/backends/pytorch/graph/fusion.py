"""Fused heads: a pass over the graph that finds logits read only by a loss.

If a loss (`LossNM.takes_features`) is the only reader of the logits of a classifier (`TrainableNM.decoder`),
it takes the decoder and the features before it instead. Then the logits and their gradient share one buffer.
"""

from collections.abc import Collection, Sequence

from nemo.core.graph import Call, NmTensor


def fused_heads(calls: Sequence[Call], wanted: Collection[NmTensor]) -> dict[Call, Call]:
    """The losses that can be fused with a classifier, each with that classifier's call.

    Args:
        calls: the calls of the graph.
        wanted: tensors that the graph must return.
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

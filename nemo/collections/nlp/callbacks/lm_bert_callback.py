"""Held-out figures, separately for the masked-language-model and next-sentence losses.

The two callbacks of NeMo 0.10's tutorial, for EvaluatorCallback. Means are over all tokens and sentences of
the evaluation, not means of batch means; every loss in the graph counts, whether in `eval_tensors` or not.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from nemo.backends.pytorch.common import CrossEntropyLossNM
from nemo.collections.nlp.metrics import RunningSums, entropy, perplexity
from nemo.collections.nlp.nm.losses import SmoothedCrossEntropyLoss
from nemo.core.actions import EvaluatedBatch
from nemo.core.graph import NmTensor, calls_leading_to
from nemo.core.neural_types import LossType
from nemo.utils.errors import UsageError
from nemo.utils.logging import logging


def eval_iter_callback(tensors: EvaluatedBatch, global_vars: dict[str, Any]) -> None:
    """Add one batch to the sums.

    Raises:
        UsageError: the evaluated graph has no loss.
    """
    if not tensors.statistics:
        raise UsageError(
            "there is no loss to report",
            where="eval_tensors",
            found=", ".join(f"{tensor.producer}.{tensor.name}" for tensor in tensors.tensors),
            expected="losses, for example the training loss",
        )
    global_vars.setdefault("sums", RunningSums()).add(tensors.statistics)
    global_vars["tensors"] = tensors.tensors


def eval_epochs_done_callback(global_vars: dict[str, Any]) -> dict[str, float]:
    """Log the figures and return them by name.

    Returns:
        NeMo 0.10's "Dev MLM loss", "Dev NSP loss" and "Dev loss"; and "Dev MLM accuracy", "Dev MLM
        perplexity", "Dev unigram entropy", "Dev NSP accuracy". For their meaning see `figures`.
    """
    scalars = {}
    for name, value in figures(global_vars).items():
        of, _, figure = name.rpartition("_")
        scalars[" ".join(filter(None, ("Dev", _LABELS.get(of, of), figure)))] = value
    logging.info("; ".join(f"{name}: {value:.4f}" for name, value in scalars.items()))
    return scalars


_LABELS = {"mlm": "MLM", "nsp": "NSP"}


def figures(global_vars: dict[str, Any]) -> dict[str, float]:
    """Weighted means over the whole evaluation.

    A SmoothedCrossEntropyLoss is the masked language model's (mlm), a CrossEntropyLossNM the next-sentence
    prediction's (nsp), as the tutorial wires them. Any other loss, and each where there are several of a
    class, goes by its module's name: `CrossEntropyLossNM_loss`, `CrossEntropyLossNM_2_loss`.

    Returns:
        mlm_loss (nats), mlm_accuracy, mlm_perplexity and unigram_entropy (of the very targets, nats);
        nsp_loss and nsp_accuracy; each where the graph has it. And loss, the sum of the losses in
        `eval_tensors`: what the graph makes of the means above, so a loss aggregator's weights count.

    Raises:
        UsageError: a loss in `eval_tensors` is computed from other tensors than losses.
    """
    means: dict[NmTensor, dict[str, Any]] = global_vars["sums"].quotients()
    found: dict[str, float] = {}
    for name, (tensor, quotients) in zip(_names_of(list(means)), means.items(), strict=True):
        found |= {f"{name}_{figure}": q for figure, q in quotients.items() if isinstance(q, float)}
        if isinstance(tensor.producer, SmoothedCrossEntropyLoss):
            found[f"{name}_perplexity"] = perplexity(quotients["loss"])
        if name == "mlm":
            found["unigram_entropy"] = entropy(quotients["target_counts"])
    found["loss"] = _total(global_vars["tensors"], {tensor: m["loss"] for tensor, m in means.items()})
    return found


def _names_of(losses: Sequence[NmTensor]) -> list[str]:
    modules = [loss.producer for loss in losses]
    names = [str(module) for module in modules]
    for task, kind in (("mlm", SmoothedCrossEntropyLoss), ("nsp", CrossEntropyLossNM)):
        of_kind = [i for i, module in enumerate(modules) if isinstance(module, kind)]
        if len(of_kind) == 1:
            names[of_kind[0]] = task
    seen: Counter[str] = Counter()
    for i, name in enumerate(names):
        seen[name] += 1
        names[i] = name if seen[name] == 1 else f"{name}_{seen[name]}"
    return names


def _total(tensors: Sequence[NmTensor], means: Mapping[NmTensor, float]) -> float:
    """The sum of the losses among `tensors` that are not part of another one."""
    losses = [tensor for tensor in tensors if _is_loss(tensor)] or list(means)
    addends = {tensor for call in calls_leading_to(losses) for tensor in call.inputs.values()}
    return sum(_value(loss, means) for loss in losses if loss not in addends)


def _value(loss: NmTensor, means: Mapping[NmTensor, float]) -> float:
    """The mean of a loss; for an aggregator, its output for the means of its inputs."""
    if loss in means:
        return means[loss]
    if not all(map(_is_loss, loss.producer_args.values())):
        raise UsageError(
            "the mean of this loss cannot be computed from other means",
            where=f"{loss.producer}.{loss.name}",
            expected="a loss module, or one that takes nothing but losses",
            fix="put the losses it is made of into eval_tensors instead",
        )
    inputs = {
        port: torch.tensor(_value(addend, means), dtype=torch.float64)
        for port, addend in loss.producer_args.items()
    }
    return float(loss.producer(force_pt=True, **inputs))


def _is_loss(tensor: NmTensor) -> bool:
    return isinstance(tensor.elements_type, LossType)

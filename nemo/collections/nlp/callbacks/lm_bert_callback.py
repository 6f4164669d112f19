"""Held-out figures of masked-language-model and next-sentence losses, apart."""

from typing import Any

from nemo.backends.pytorch import STATISTICS
from nemo.collections.nlp.metrics import RunningSums, entropy, perplexity
from nemo.utils.logging import logging

# The class of a loss says what it measures, as the tutorial wires them.
_TASK_OF_LOSS = {"SmoothedCrossEntropyLoss": "mlm", "CrossEntropyLossNM": "nsp"}


def eval_iter_callback(tensors: dict[str, Any], global_vars: dict[str, Any]) -> None:
    """Add up one batch; every loss of the evaluation graph counts, listed in `eval_tensors` or not."""
    global_vars.setdefault("sums", RunningSums()).add(tensors[STATISTICS])


def eval_epochs_done_callback(global_vars: dict[str, Any]) -> dict[str, float]:
    """Log the figures and return them by name: "Dev MLM loss", "Dev MLM accuracy", ..."""
    scalars = {}
    for name, value in figures(global_vars).items():
        task, _, figure = name.partition("_")
        label = f"Dev {task.upper()} {figure}" if task in ("mlm", "nsp") else f"Dev {name.replace('_', ' ')}"
        scalars[label] = value
    logging.info("; ".join(f"{name}: {value:.4f}" for name, value in scalars.items()))
    return scalars


def figures(global_vars: dict[str, Any]) -> dict[str, float]:
    """Weighted means over the whole evaluation.

    Returns:
        mlm_loss (nats), mlm_accuracy, mlm_perplexity and unigram_entropy (of the very targets, nats);
        nsp_loss and nsp_accuracy; loss, their sum; each where the graph has it.
    """
    found: dict[str, float] = {}
    for unique_name, quotients in global_vars["sums"].quotients().items():
        task = _TASK_OF_LOSS.get(unique_name.split("~~~")[1])
        if task is None:
            continue
        found[f"{task}_loss"] = quotients["loss"]
        if "accuracy" in quotients:
            found[f"{task}_accuracy"] = quotients["accuracy"]
        if task == "mlm":
            found["mlm_perplexity"] = perplexity(quotients["loss"])
            if "target_counts" in quotients:
                found["unigram_entropy"] = entropy(quotients["target_counts"])
    found["loss"] = sum(found[name] for name in ("mlm_loss", "nsp_loss") if name in found)
    return found
